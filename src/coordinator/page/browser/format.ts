/** Formats numbers and times. Fixed decimals, and tabular digits in the style sheet, keep the width of changing figures. */

/** Narrow no-break space. */
const SPACE = '\u202f';
export const NOTHING = '–';

const integer = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export function formatInteger(value: number): string {
  return Number.isFinite(value) ? integer.format(value) : NOTHING;
}

/** A fraction as a percentage. */
export function formatPercent(fraction: number, digits = 2): string {
  return Number.isFinite(fraction) ? `${(100 * fraction).toFixed(digits)}${SPACE}%` : NOTHING;
}

/** About three significant digits, for losses and learning rates. */
export function formatSmall(value: number): string {
  if (!Number.isFinite(value)) return NOTHING;
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e5) return value.toExponential(1);
  return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : size >= 0.1 ? 3 : 4);
}

export function formatMs(ms: number): string {
  if (!Number.isFinite(ms)) return NOTHING;
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)}${SPACE}s`;
  return `${ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms.toFixed(2)}${SPACE}ms`;
}

export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return NOTHING;
  if (seconds < 9.95) return `${seconds.toFixed(1)}${SPACE}s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}${SPACE}s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}${SPACE}min ${whole % 60}${SPACE}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours}${SPACE}h ${minutes % 60}${SPACE}min`;
  return `${Math.floor(hours / 24)}${SPACE}days ${hours % 24}${SPACE}h`;
}

/** How long ago, in whole seconds. */
export function formatAge(ms: number): string {
  if (ms < 2000) return 'now';
  return `${formatDuration(Math.round(ms / 1000)).replace('.0', '')} ago`;
}

/** Time of day, with the date if it is not today. */
export function formatTime(timeMs: number, nowMs: number): string {
  const time = new Date(timeMs);
  const clock = time.toLocaleTimeString('en-GB');
  if (time.toDateString() === new Date(nowMs).toDateString()) return clock;
  const date = time.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' });
  return `${date} ${clock}`;
}

/** A class name as it reads in a sentence: `a 7`, `an 8`, `red-circle`. */
export function formatClass(name: string): string {
  return /^\d$/.test(name) ? `${name === '8' ? 'an' : 'a'} ${name}` : name;
}

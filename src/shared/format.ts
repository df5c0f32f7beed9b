/**
 * Formats quantities, in the same way for the console, the live status and the summaries.
 */

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** 11,256 */
export function formatCount(value: number): string {
  return whole.format(value);
}

/** A count and its noun: `1 worker`, `12 workers`. */
export function formatNoun(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** A fraction as `98.71 %`. */
export function formatPercent(fraction: number, digits = 2): string {
  return `${(100 * fraction).toFixed(digits)} %`;
}

/** `38 s` (`0.4 s` below ten), `3 min 05 s`, `2 h 03 min`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '–';
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const total = Math.round(seconds);
  if (total < 60) return `${total} s`;
  const minutes = Math.floor(total / 60);
  if (minutes < 60) return `${minutes} min ${pad(total % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} min`;
}

/** `812 B`, `248.3 KB`, `1.2 MB`: powers of 1000. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** power).toFixed(1)} ${['B', 'KB', 'MB', 'GB', 'TB'][power]}`;
}

function pad(value: number): string {
  return String(value).padStart(2, '0');
}

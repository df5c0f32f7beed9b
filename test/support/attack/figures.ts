/** What must hold under every attack: `npm run attack` ends with an error where one of these is missed. */

/** The longest time that one thing keeps everything else waiting, ms of processor time. */
export const MAX_BLOCKED_MS = 250;
/** How much more memory a process may have after an attack than before, once what is dead has been collected. */
export const MAX_GROWTH = 0.1;
/** From the first word of a new worker to its first work, ms; */
export const MAX_ADMISSION_MS = 2_000;
/** or, where that is more since the machine is busy, as many times what it is without an attack. */
export const MAX_SLOWER_ADMISSION = 3;
/**
 * What the steps keep of the coordinator's event loop: of the time for which it had a processor or needed none, what the
 * attack did not take. On a machine of its own the attacker could not take more; here it takes processors from all, so that
 * steps by the clock on the wall say less.
 */
export const MIN_SPEED = 0.8;
/** Steps a second by the clock on the wall, of those without the attack: below, they are not slow but held up. */
export const MIN_WALL_SPEED = 0.1;
/** Of a process, while or after an attack, more than before. */
export const MAX_NEW_DESCRIPTORS = 20;

/** How one attack went. */
export interface Figures {
  readonly attack: string;
  /** Over TLS or plain. */
  readonly door: string;
  /** How much there was of it, and of what. */
  readonly amount: readonly [count: number, unit: string];
  /** The longest block of the process that was attacked, ms of processor time. */
  readonly blockedMs: number;
  /** Resident memory, once what is dead has been collected. */
  readonly residentMb: readonly [before: number, after: number];
  readonly numDescriptors: readonly [before: number, after: number];
  /** Of new workers, the slowest without the attack, and the slowest with it, ms; null where a worker was attacked. */
  readonly admissionMs: readonly [quiet: number, attacked: number] | null;
  /** Of the steps, of what it is without the attack; null where it is a worker that was attacked, or there were none. */
  readonly speed: { readonly left: number; readonly wall: number } | null;
}

/**
 * @param isTimed whether it lasted long enough to say how fast something was
 * @param isBounded whether it is one that a limit holds, so that the steps must not become slow
 */
export function judge(figures: Figures, isTimed: boolean, isBounded: boolean): string[] {
  const { attack, door, blockedMs, residentMb, numDescriptors, admissionMs, speed } = figures;
  const found: string[] = [];
  const miss = (what: string) => found.push(`${attack} (${door}): ${what}`);
  if (blockedMs > MAX_BLOCKED_MS) miss(`blocked for ${blockedMs.toFixed(0)} ms`);
  if (residentMb[1] > (1 + MAX_GROWTH) * residentMb[0]) {
    miss(`grew from ${residentMb.map((mb) => mb.toFixed(0)).join(' to ')} MB`);
  }
  if (numDescriptors[1] > numDescriptors[0] + MAX_NEW_DESCRIPTORS) {
    miss(`left ${numDescriptors[1] - numDescriptors[0]} descriptors open`);
  }
  if (!isTimed) return found;
  if (admissionMs) {
    const [quietMs, slowestMs] = admissionMs;
    if (slowestMs > Math.max(MAX_ADMISSION_MS, MAX_SLOWER_ADMISSION * quietMs)) {
      miss(`a new worker waited ${slowestMs.toFixed(0)} ms, and ${quietMs.toFixed(0)} before`);
    }
  }
  if (speed && isBounded && speed.left < MIN_SPEED) {
    miss(`steps kept ${percent(speed.left)} of their speed`);
  }
  if (speed && speed.wall < MIN_WALL_SPEED) miss(`steps stood at ${percent(speed.wall)}`);
  return found;
}

/** A line of a table. */
export function rowOf(figures: Figures): string {
  const { attack, door, amount, blockedMs, residentMb, admissionMs, speed } = figures;
  const growth = residentMb[1] / residentMb[0] - 1;
  return [
    `${attack} (${door})`.padEnd(40),
    `${amount[0]} ${amount[1]}`.padStart(20),
    `${blockedMs.toFixed(0)} ms`.padStart(8),
    `${residentMb.map((mb) => mb.toFixed(0)).join(' → ')} MB`.padStart(13),
    `${growth > 0 ? '+' : ''}${percent(growth)}`.padStart(6),
    (admissionMs ? `${admissionMs.map((ms) => ms.toFixed(0)).join(' → ')} ms` : '–').padStart(14),
    (speed ? percent(speed.left) : '–').padStart(6),
    (speed ? percent(speed.wall) : '–').padStart(6),
  ].join(' ');
}

export const HEADINGS = [
  'attack'.padEnd(40),
  'amount'.padStart(20),
  'blocked'.padStart(8),
  'memory'.padStart(13),
  ''.padStart(6),
  'admitted'.padStart(14),
  'speed'.padStart(6),
  'wall'.padStart(6),
].join(' ');

function percent(fraction: number): string {
  return `${(100 * fraction).toFixed(0)} %`;
}

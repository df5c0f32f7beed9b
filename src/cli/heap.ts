/**
 * V8's heap under a stream of frames: 247 KB each, hundreds a second, garbage as soon as they are read.
 *
 * Their memory is outside of the heap, but V8 counts it as growth of the heap. So it marks all live objects several times a
 * second, only to find few, on threads that compete with the kernels for processors. Bun uses another engine, whose heap is
 * left as it is.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** What the heap may grow by, with the frames that it holds, before all of it is marked, % of what is alive. */
const GROWTH_PERCENT = 300;

/** Lets the heap, which is small, grow further between two collections of all of it. */
export function letHeapGrow(): void {
  if (process.versions.bun !== undefined) return;
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}

/** Keeps the room for young objects as small as it is at the start, 1 MB twice, where it would grow to 16 MB twice. */
export function keepYoungSmall(): void {
  if (process.versions.bun !== undefined) return;
  setFlagsFromString('--semi-space-growth-factor=1');
}

/** @returns what collects young garbage now, in a fraction of a millisecond: for when there is nothing else to do */
export function youngCollector(): () => void {
  if (process.versions.bun !== undefined) return () => undefined;
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options: { type: 'minor' }) => void;
  return () => collect({ type: 'minor' });
}

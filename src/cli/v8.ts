/**
 * Flags of V8 for a stream of frames and for kernels. Bun uses another engine, which is left as it is.
 *
 * Frames are 247 KB each, hundreds a second, and garbage as soon as they are read. Their memory is outside of the heap, but
 * V8 counts it as growth of the heap. So it marks all live objects several times a second, only to find few, on threads that
 * compete with the kernels for processors.
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

/**
 * Bytes that a kernel processes, by V8's estimate, before it is compiled again with optimizations: a few micro-batches, where
 * by default it takes a dozen or more.
 */
const TIERING_BUDGET = 100_000;

/** Has kernels optimized in the first steps of a run; to be called before they are compiled. */
export function optimizeKernelsSoon(): void {
  if (process.versions.bun !== undefined) return;
  setFlagsFromString(`--wasm-tiering-budget=${TIERING_BUDGET}`);
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

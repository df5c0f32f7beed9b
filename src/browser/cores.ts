/** What the cores of a page have done and are doing. Pure. */
import type { RunProgress } from '../shared/protocol.js';
import type { WorkerOutcome } from '../worker/worker.js';

/** Speed and share are those of so long, by the coordinator's clock, ms. */
export const WINDOW_MS = 5_000;

interface Moment {
  readonly progress: RunProgress;
  readonly sentAt: number;
}

/** One thread. */
export interface Core {
  readonly name: string;
  /** Of the last seconds, oldest first. */
  moments: Moment[];
  /** What it said last that is not settled: why it is without a coordinator. */
  trouble: string;
  outcome: WorkerOutcome | null;
}

export interface Sum {
  readonly numImages: number;
  /** Of the last seconds, or of the last before all had ended; null before there are any. */
  readonly pace: { readonly share: number; readonly imagesPerSecond: number } | null;
  /** The latest of all threads; null before the first. */
  readonly run: RunProgress | null;
}

export function sumOf(cores: readonly Core[]): Sum {
  let numImages = 0;
  let share = 0;
  let imagesPerSecond = 0;
  let hasPace = false;
  let last: Moment | null = null;
  const isOver = cores.every(({ outcome }) => outcome !== null);
  for (const { moments, outcome } of cores) {
    const [first] = moments;
    const now = moments.at(-1);
    if (!now) continue;
    if (!last || now.sentAt > last.sentAt) last = now;
    numImages += now.progress.numImages;
    // The others go on without it.
    if (outcome !== null && !isOver) continue;
    const done = now.progress.numImages - first.progress.numImages;
    const ofAll = now.progress.numImagesOfAll - first.progress.numImagesOfAll;
    if (ofAll > 0) share += done / ofAll;
    if (now.sentAt <= first.sentAt) continue;
    hasPace = true;
    imagesPerSecond += (1000 * done) / (now.sentAt - first.sentAt);
  }
  const pace = hasPace ? { share, imagesPerSecond } : null;
  return { numImages, pace, run: last?.progress ?? null };
}

/** Those since then, and the last one before, as pings may be further apart. */
export function momentsWithin(moments: readonly Moment[], since: number): readonly Moment[] {
  const first = moments.findLastIndex(({ sentAt }) => sentAt <= since);
  return moments.slice(Math.max(0, first));
}

/** How fast a run has been of late, which gives the time left. */
import type { StepColumn, StepSeries } from '../step-series.js';

/** The pace is that of so long. */
const PACE_SECONDS = 20;
/** A longer stand between two steps is a pause, or the run was not there; evaluations are shorter. */
const PAUSE_SECONDS = 20;

const TIMES: readonly StepColumn[] = [
  ...(['planMs', 'wireMs', 'computeMs'] as const),
  ...(['reduceMs', 'updateMs', 'waitMs'] as const),
];

export interface Pace {
  readonly secondsPerStep: number;
  readonly imagesPerSecond: number;
}

/** Evaluations count, pauses do not; null before two points, and again after a pause. */
export function paceOf(series: StepSeries): Pace | null {
  const seconds = series.column('seconds');
  const counts = series.column('count');
  const followsPause = (at: number) => {
    const ownMs = TIMES.reduce((sum, time) => sum + series.column(time)[at], 0) * counts[at];
    return seconds[at] - seconds[at - 1] - ownMs / 1000 > PAUSE_SECONDS;
  };
  const last = series.length - 1;
  let from = last;
  while (from > 0 && seconds[last] - seconds[from] < PACE_SECONDS && !followsPause(from)) from -= 1;
  if (from >= last) return null;
  const steps = series.lastStep[last] - series.lastStep[from];
  const took = seconds[last] - seconds[from];
  if (steps === 0 || took <= 0) return null;
  let images = 0;
  for (let at = from + 1; at <= last; at += 1) {
    images += series.column('numImages')[at] * counts[at];
  }
  return { secondsPerStep: took / steps, imagesPerSecond: images / took };
}

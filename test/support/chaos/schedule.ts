/** What is done to the processes of a run, and when: decided by a seed, before anything starts. */
import { createRandom } from '../../../src/shared/random.js';

export type FaultAction = 'kill' | 'stop' | 'slow' | 'leave';

export interface Fault {
  /** ms since the start of the run. */
  readonly at: number;
  readonly action: FaultAction;
  /** Which worker, from 0; null for the coordinator. */
  readonly worker: number | null;
  /** Until it is started again, continued, or as fast as before, ms. */
  readonly durationMs: number;
}

interface Kind {
  readonly action: FaultAction;
  readonly ofWorker: boolean;
  /** How often it happens, relative to the others. */
  readonly weight: number;
  readonly longestMs: number;
}

const KINDS: readonly Kind[] = [
  { action: 'kill', ofWorker: true, weight: 4, longestMs: 2_000 },
  { action: 'stop', ofWorker: true, weight: 3, longestMs: 5_000 },
  { action: 'slow', ofWorker: true, weight: 3, longestMs: 5_000 },
  { action: 'leave', ofWorker: true, weight: 2, longestMs: 2_000 },
  { action: 'kill', ofWorker: false, weight: 2, longestMs: 1_000 },
  { action: 'stop', ofWorker: false, weight: 1, longestMs: 2_000 },
  { action: 'leave', ofWorker: false, weight: 1, longestMs: 1_000 },
];
const MEAN_GAP_MS = 1_500;

/** Only in longer runs is memory judged: in less time, buffers and history are not filled before the second half. */
export const SHORTEST_JUDGED_MS = 600_000;
/** The share of such a run after which processes are kept: before its second half a worker has to get all samples. */
const KEPT_FROM = 0.25;

/**
 * The faults of `durationMs`. In a run whose memory is judged, the coordinator and worker 0 keep their processes after a
 * quarter of it, so that the second half shows whether they grow.
 */
export function chaosSchedule(seed: number, durationMs: number, numWorkers: number): Fault[] {
  const random = createRandom(seed, 'chaos');
  const totalWeight = KINDS.reduce((total, { weight }) => total + weight, 0);
  const keptFrom = durationMs < SHORTEST_JUDGED_MS ? Infinity : KEPT_FROM * durationMs;
  const faults: Fault[] = [];
  let at = 1_000;
  for (;;) {
    at += -MEAN_GAP_MS * Math.log(1 - random.float());
    if (at >= durationMs) return faults;
    let pick = random.below(totalWeight);
    const { action, ofWorker, longestMs } = KINDS.find(({ weight }) => (pick -= weight) < 0)!;
    const worker = ofWorker ? random.below(numWorkers) : null;
    const fault = { at: Math.round(at), action, worker, durationMs: random.below(longestMs) };
    const endsProcess = action === 'kill' || action === 'leave';
    const isKept = worker === null || worker === 0;
    if (!(endsProcess && isKept && at > keptFrom)) faults.push(fault);
  }
}

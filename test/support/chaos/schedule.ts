/** What is done to the processes of a run, and when: decided by a seed, before anything starts. */
import { createRandom } from '../../../src/shared/random.js';

export type FaultKind =
  | 'kill worker'
  | 'stop worker'
  | 'slow worker'
  | 'worker leaves'
  | 'kill coordinator'
  | 'stop coordinator'
  | 'coordinator leaves';

export interface Fault {
  /** ms since the start of the run. */
  readonly at: number;
  readonly kind: FaultKind;
  /** Which worker, from 0; 0 for the coordinator. */
  readonly victim: number;
  /** Until it is started again, continued, or as fast as before, ms. */
  readonly durationMs: number;
}

/** How often each happens, relative to the others, and how long it lasts at most, ms. */
const KINDS: readonly (readonly [FaultKind, number, number])[] = [
  ['kill worker', 4, 2_000],
  ['stop worker', 3, 5_000],
  ['slow worker', 3, 5_000],
  ['worker leaves', 2, 2_000],
  ['kill coordinator', 2, 1_000],
  ['stop coordinator', 1, 2_000],
  ['coordinator leaves', 1, 1_000],
];
const MEAN_GAP_MS = 1_500;

/**
 * The faults of `durationMs`. In the second half the coordinator and worker 0 keep their processes, so that there is
 * time to see whether their memory grows.
 */
export function chaosSchedule(seed: number, durationMs: number, numWorkers: number): Fault[] {
  const random = createRandom(seed, 'chaos');
  const totalWeight = KINDS.reduce((total, [, weight]) => total + weight, 0);
  const faults: Fault[] = [];
  let at = 1_000;
  for (;;) {
    at += -MEAN_GAP_MS * Math.log(1 - random.float());
    if (at >= durationMs) return faults;
    let pick = random.below(totalWeight);
    const [kind, , longestMs] = KINDS.find(([, weight]) => (pick -= weight) < 0)!;
    const isOfWorker = kind.includes('worker');
    const victim = isOfWorker ? random.below(numWorkers) : 0;
    const durationOf = Math.round(random.float() * longestMs);
    const endsProcess = !kind.startsWith('stop') && !kind.startsWith('slow');
    if (at > durationMs / 2 && victim === 0 && endsProcess) continue;
    faults.push({ at: Math.round(at), kind, victim, durationMs: durationOf });
  }
}

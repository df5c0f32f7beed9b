/**
 * What the steps of a run waited for: the parts of their time, and the worker that delayed them.
 *
 * A step waits for the last partial that it uses; the step's compute and wire time are charged to the worker that sent it.
 */
import { formatPercent } from '../../shared/format.js';
import type { Observer, StepDone, StepTimes } from '../events.js';

export interface CriticalPath {
  readonly observe: Observer;
  /** `72 % compute, 11 % wire (anna), 9 % update, …; anna was last in 81 % of the steps`; empty before a step. */
  summary(): string;
}

type Part = Exclude<keyof StepTimes, 'totalMs'>;

const PARTS: Readonly<Record<Part, string>> = {
  computeMs: 'compute',
  wireMs: 'wire',
  planMs: 'plan',
  broadcastMs: 'broadcast',
  reduceMs: 'reduce',
  updateMs: 'update',
  waitMs: 'wait',
};

/** Of one worker, over the steps in which its partial was the last. */
interface Charge {
  name: string;
  numSteps: number;
  computeMs: number;
  wireMs: number;
}

export function createCriticalPath(): CriticalPath {
  const sums: Record<Part, number> = {
    computeMs: 0,
    wireMs: 0,
    planMs: 0,
    broadcastMs: 0,
    reduceMs: 0,
    updateMs: 0,
    waitMs: 0,
  };
  const charges = new Map<string, Charge>();
  let numSteps = 0;
  let totalMs = 0;

  const add = (event: StepDone) => {
    numSteps++;
    totalMs += event.times.totalMs;
    for (const part of Object.keys(sums) as Part[]) sums[part] += event.times[part];
    for (const { workerId, name } of event.workers) {
      if (charges.has(workerId)) continue;
      charges.set(workerId, { name, numSteps: 0, computeMs: 0, wireMs: 0 });
    }
    const charge = charges.get(lastWorker(event) ?? '');
    if (charge === undefined) return;
    charge.numSteps++;
    charge.computeMs += event.times.computeMs;
    charge.wireMs += event.times.wireMs;
  };

  /** The worker with the largest charge, if it is well over what would fall to each of equal ones. */
  const outstanding = (amount: (charge: Charge) => number, total: number): Charge | null => {
    const candidates = [...charges.values()];
    if (candidates.length < 2 || total <= 0) return null;
    const largest = candidates.reduce((a, b) => (amount(b) > amount(a) ? b : a));
    const evenShare = 1 / candidates.length;
    return amount(largest) / total > evenShare + (1 - evenShare) / 3 ? largest : null;
  };

  return {
    observe(event) {
      if (event.type === 'step') add(event);
    },
    summary() {
      if (numSteps === 0 || totalMs <= 0) return '';
      const parts = (Object.keys(sums) as Part[])
        .filter((part) => sums[part] >= 0.005 * totalMs)
        .sort((a, b) => sums[b] - sums[a])
        .map((part) => {
          const who =
            part === 'computeMs' || part === 'wireMs'
              ? outstanding((charge) => charge[part], sums[part])
              : null;
          const share = formatPercent(sums[part] / totalMs, 0);
          return `${share} ${PARTS[part]}${who === null ? '' : ` (${who.name})`}`;
        });
      const last = outstanding((charge) => charge.numSteps, numSteps);
      const lastShare = last === null ? '' : formatPercent(last.numSteps / numSteps, 0);
      return (
        parts.join(', ') +
        (last === null ? '' : `; ${last.name} was last in ${lastShare} of the steps`)
      );
    },
  };
}

/** Who sent the last partial that the step used. */
function lastWorker(event: StepDone): string | null {
  let last: StepDone['partials'][number] | null = null;
  for (const partial of event.partials) {
    if (partial.wasUsed && partial.receivedAt > (last?.receivedAt ?? -Infinity)) last = partial;
  }
  return last?.workerId ?? null;
}

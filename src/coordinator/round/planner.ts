/**
 * Who computes what: shares that let everyone finish at the same time, as far as whole micro-batches allow.
 *
 * Pure: speeds in, ranges out. The bits of a run do not depend on any of it.
 */
import type { Range } from '../../shared/protocol.js';

/** What is known of a worker's pace; null before its first answer. */
export interface Pace {
  readonly workerId: string;
  /** Compute time of one unit (micro-batch or evaluation block), ms. */
  readonly msPerUnit: number | null;
  /** What an answer takes besides computing, ms. */
  readonly overheadMs: number;
}

/**
 * Divides units among workers so that the last one finishes as early as possible: each next unit goes to the worker
 * that would have it done first.
 *
 * @param units the open units, ascending
 * @param paces in rank order; a worker of unknown pace counts as fast as the mean of the others
 * @returns for each worker that gets something, its ranges; contiguous ones in rank order if the units are
 */
export function planShares(
  units: readonly number[],
  paces: readonly Pace[],
): Map<string, readonly Range[]> {
  const counts = planCounts(units.length, paces);
  const shares = new Map<string, readonly Range[]>();
  let next = 0;
  paces.forEach(({ workerId }, rank) => {
    const mine = units.slice(next, next + counts[rank]);
    next += mine.length;
    if (mine.length > 0) shares.set(workerId, rangesOf(mine));
  });
  return shares;
}

/** How many of `numUnits` units each worker is to get, in rank order. */
export function planCounts(numUnits: number, paces: readonly Pace[]): number[] {
  const counts = paces.map(() => 0);
  if (paces.length === 0) return counts;
  const known = paces.flatMap(({ msPerUnit }) => (msPerUnit === null ? [] : [msPerUnit]));
  const mean = known.length > 0 ? known.reduce((a, b) => a + b, 0) / known.length : 1;
  const costs = paces.map(({ msPerUnit }) => Math.max(msPerUnit ?? mean, 1e-6));
  const finish = paces.map(({ overheadMs }, rank) => overheadMs + costs[rank]);
  for (let unit = 0; unit < numUnits; unit++) {
    let first = 0;
    for (let rank = 1; rank < finish.length; rank++) {
      if (finish[rank] < finish[first]) first = rank;
    }
    counts[first]++;
    finish[first] += costs[first];
  }
  return counts;
}

/** Runs of consecutive units, as ranges. */
export function rangesOf(units: readonly number[]): Range[] {
  const ranges: Range[] = [];
  let lo = 0;
  for (let i = 1; i <= units.length; i++) {
    if (i < units.length && units[i] === units[i - 1] + 1) continue;
    ranges.push([units[lo], units[i - 1] + 1]);
    lo = i;
  }
  return ranges;
}

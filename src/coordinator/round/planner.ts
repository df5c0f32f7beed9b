/**
 * Assigns work: shares that let all workers finish at about the same time, as far as whole micro-batches allow, and among
 * those the shares that consist of few, large nodes of the tree.
 *
 * Pure: paces in, ranges out. None of it affects the bits of a run.
 */
import type { Range } from '../../shared/protocol.js';
import { maximalNodes } from '../../shared/tree.js';

/**
 * A plan that finishes this many times as late as the earliest is preferred if it has fewer partials: each partial costs a
 * frame, copies and an addition, and paces are not known more precisely than this anyway.
 */
const ABOUT_AS_EARLY = 1.15;

/** Estimated pace of a worker. */
export interface Pace {
  readonly workerId: string;
  /** Compute time of one unit (micro-batch or evaluation block), ms; null before its first answer. */
  readonly msPerUnit: number | null;
  /** Time of an answer besides computing, ms. */
  readonly overheadMs: number;
}

/**
 * Divides units among workers so that the last one finishes about as early as possible.
 *
 * @param units the open units, ascending
 * @param paces in rank order; a worker of unknown pace is assumed to have the mean pace of the others
 * @param numLeaves of the tree, if answers are its nodes; null if each range is one answer
 * @returns the ranges of each worker that gets any; contiguous units are split in rank order
 */
export function planShares(
  units: readonly number[],
  paces: readonly Pace[],
  numLeaves: number | null,
): Map<string, readonly Range[]> {
  const counts = planCounts(units.length, paces);
  const takers = paces.map((_, rank) => rank).filter((rank) => counts[rank] > 0);
  let cuts = [0];
  for (const rank of takers) cuts.push(cuts.at(-1)! + counts[rank]);
  if (numLeaves !== null) {
    const costs = costsOf(paces);
    const timeOf = (rank: number, count: number) => paces[rank].overheadMs + count * costs[rank];
    const latest = ABOUT_AS_EARLY * Math.max(...takers.map((rank) => timeOf(rank, counts[rank])));
    const most = takers.map((rank) =>
      Math.max(counts[rank], Math.floor((latest - paces[rank].overheadMs) / costs[rank])),
    );
    const rounded = roundCuts(units, cuts, most);
    if (numPartials(units, rounded, numLeaves) < numPartials(units, cuts, numLeaves))
      cuts = rounded;
  }
  return new Map(
    takers.map((rank, i) => [paces[rank].workerId, rangesOf(units.slice(cuts[i], cuts[i + 1]))]),
  );
}

/**
 * Moves the cuts between shares to boundaries of large nodes of the tree.
 *
 * @param cuts share i is [cuts[i], cuts[i + 1]) of the units
 * @param most maximum number of units of each share; no share becomes empty
 */
function roundCuts(
  units: readonly number[],
  cuts: readonly number[],
  most: readonly number[],
): number[] {
  const rounded = [...cuts];
  for (let cut = 1; cut < cuts.length - 1; cut++) {
    const first = Math.max(rounded[cut - 1] + 1, cuts[cut + 1] - most[cut]);
    const last = Math.min(rounded[cut - 1] + most[cut - 1], cuts[cut + 1] - 1);
    for (let at = first; at <= last; at++) {
      const gain = alignment(units[at]) - alignment(units[rounded[cut]]);
      const isNearer = Math.abs(at - cuts[cut]) < Math.abs(rounded[cut] - cuts[cut]);
      if (gain > 0 || (gain === 0 && isNearer)) rounded[cut] = at;
    }
  }
  return rounded;
}

/** The largest power of two that divides the unit's index; for 0, the largest representable. */
function alignment(unit: number): number {
  return (unit & -unit) >>> 0 || 2 ** 31;
}

function numPartials(units: readonly number[], cuts: readonly number[], numLeaves: number): number {
  let sum = 0;
  for (let i = 1; i < cuts.length; i++) {
    for (const range of rangesOf(units.slice(cuts[i - 1], cuts[i]))) {
      sum += maximalNodes(range, numLeaves).length;
    }
  }
  return sum;
}

/** Time of one unit on each worker, ms. */
function costsOf(paces: readonly Pace[]): number[] {
  const known = paces.flatMap(({ msPerUnit }) => (msPerUnit === null ? [] : [msPerUnit]));
  const mean = known.length > 0 ? known.reduce((a, b) => a + b, 0) / known.length : 1;
  return paces.map(({ msPerUnit }) => Math.max(msPerUnit ?? mean, 1e-6));
}

/**
 * How many units each worker gets, in rank order. Greedy: each unit goes to the worker that would finish it first.
 */
export function planCounts(numUnits: number, paces: readonly Pace[]): number[] {
  const counts = paces.map(() => 0);
  if (paces.length === 0) return counts;
  const costs = costsOf(paces);
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

/** Ascending units as ranges of consecutive ones. */
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

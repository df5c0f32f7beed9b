/**
 * How threads divide ranges of work: the tree nodes that make up a range are cut into leaves, which threads take one after
 * the other, and the thread that finishes the second half of a node adds the two. Pure; the tree is that of
 * src/shared/tree.ts, so the bits do not depend on the number of threads or on which thread took which leaf.
 */
import type { Range } from '../../shared/protocol.js';
import { middle } from '../../shared/tree.js';
import { MAX_THREADS } from '../computation.js';

export interface PlanNode {
  readonly range: Range;
  /** Index of the node that this one is half of; −1 for one whose sum is an answer. */
  readonly parent: number;
  /** Indices of the halves; −1 for a leaf. */
  readonly left: number;
  readonly right: number;
}

/** Leaves under way at a time: of each thread, of all, and of all where their sums take much memory. */
const LEAVES_OF_THREAD = 16;
export const MAX_LEAVES = 4 * MAX_THREADS;
const MAX_LARGE_LEAVES = MAX_THREADS;
const MAX_SLOTS_BYTES = 2 ** 28;

/** How many leaves of a model's work the threads may have under way: as many sums (P,) are held. */
export function maxLeavesOf(numThreads: number, numParams: number): number {
  const most = Math.max(MAX_LARGE_LEAVES, Math.floor(MAX_SLOTS_BYTES / (4 * numParams)));
  return Math.min(MAX_LEAVES, most, LEAVES_OF_THREAD * numThreads);
}

/**
 * @param nodes nodes of the tree, whose sums are wanted
 * @param maxLeafUnits units of a leaf at most
 * @returns the leaves first, in order, then the sums of two halves
 */
export function planNodes(nodes: readonly Range[], maxLeafUnits: number): PlanNode[] {
  const leaves: PlanNode[] = [];
  const sums: PlanNode[] = [];
  const numLeaves = nodes.reduce((sum, node) => sum + countLeaves(node, maxLeafUnits), 0);
  const place = (range: Range, parent: number): number => {
    const [lo, hi] = range;
    if (hi - lo <= maxLeafUnits) return leaves.push({ range, parent, left: -1, right: -1 }) - 1;
    const index = numLeaves + sums.length;
    sums.push({ range, parent, left: -1, right: -1 });
    const mid = middle(lo, hi);
    const left = place([lo, mid], index);
    const right = place([mid, hi], index);
    sums[index - numLeaves] = { range, parent, left, right };
    return index;
  };
  for (const node of nodes) place(node, -1);
  return [...leaves, ...sums];
}

/** How many leaves of at most `maxLeafUnits` units a node has. */
export function countLeaves([lo, hi]: Range, maxLeafUnits: number): number {
  if (hi - lo <= maxLeafUnits) return 1;
  const mid = middle(lo, hi);
  return countLeaves([lo, mid], maxLeafUnits) + countLeaves([mid, hi], maxLeafUnits);
}

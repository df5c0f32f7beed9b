/**
 * The fixed binary tree over the micro-batches of a step, which fixes the order of all sums.
 *
 *   T(lo, hi) = T(lo, m) + T(m, hi),  m = lo + largest power of two < hi − lo
 *
 * The root is [0, numUnits); the tree depends on the number of micro-batches alone.  docs/algorithm.md
 */
import type { Range } from './protocol.js';

/** Where the node [lo, hi) of two or more micro-batches divides. */
export function middle(lo: number, hi: number): number {
  let half = 1;
  while (2 * half < hi - lo) half *= 2;
  return lo + half;
}

/**
 * The largest nodes of the tree inside [lo, hi), from left to right: O(log numUnits) of them, which together are
 * [lo, hi).
 *
 * @throws {RangeError} unless 0 ≤ lo < hi ≤ numUnits
 */
export function maximalNodes([lo, hi]: Range, numUnits: number): Range[] {
  if (!(lo >= 0 && lo < hi && hi <= numUnits)) {
    throw new RangeError(`Cannot divide [${lo}, ${hi}): not a range within [0, ${numUnits})`);
  }
  const nodes: Range[] = [];
  const descend = (nodeLo: number, nodeHi: number): void => {
    if (nodeHi <= lo || nodeLo >= hi) return;
    if (nodeLo >= lo && nodeHi <= hi) {
      nodes.push([nodeLo, nodeHi]);
      return;
    }
    const mid = middle(nodeLo, nodeHi);
    descend(nodeLo, mid);
    descend(mid, nodeHi);
  };
  descend(0, numUnits);
  return nodes;
}

/** Whether [lo, hi) is a node of the tree. */
export function isNode(range: Range, numUnits: number): boolean {
  return maximalNodes(range, numUnits).length === 1;
}

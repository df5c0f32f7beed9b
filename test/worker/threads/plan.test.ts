import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isNode, maximalNodes } from '../../../src/shared/tree.js';
import { countLeaves, maxLeavesOf, planNodes } from '../../../src/worker/threads/plan.js';

/** A number of units, a range of them, and the maximum size of a leaf. */
const ranges = fc
  .integer({ min: 1, max: 300 })
  .chain((numUnits) =>
    fc.record({
      numUnits: fc.constant(numUnits),
      ends: fc.tuple(fc.nat(numUnits - 1), fc.integer({ min: 1, max: numUnits })),
      maxLeafUnits: fc.integer({ min: 1, max: numUnits }),
    }),
  )
  .filter(({ ends: [lo, hi] }) => lo < hi);

describe('planNodes()', () => {
  it('divides nodes into leaves that cover them in order, each a node of the tree', () => {
    fc.assert(
      fc.property(ranges, ({ numUnits, ends, maxLeafUnits }) => {
        const nodes = maximalNodes(ends, numUnits);
        const plan = planNodes(nodes, maxLeafUnits);
        const leaves = plan.filter(({ left }) => left < 0);
        expect(leaves).toEqual(plan.slice(0, leaves.length));
        let next = ends[0];
        for (const { range } of leaves) {
          expect(range[0]).toBe(next);
          expect(range[1] - range[0]).toBeLessThanOrEqual(maxLeafUnits);
          expect(isNode(range, numUnits)).toBe(true);
          next = range[1];
        }
        expect(next).toBe(ends[1]);
        const numLeaves = nodes.reduce((sum, node) => sum + countLeaves(node, maxLeafUnits), 0);
        expect(leaves).toHaveLength(numLeaves);
      }),
    );
  });

  it('joins halves up to the requested nodes, each with one parent', () => {
    fc.assert(
      fc.property(ranges, ({ numUnits, ends, maxLeafUnits }) => {
        const nodes = maximalNodes(ends, numUnits);
        const plan = planNodes(nodes, maxLeafUnits);
        const roots = plan.filter(({ parent }) => parent < 0).map(({ range }) => range);
        expect(roots.toSorted((a, b) => a[0] - b[0])).toEqual(nodes);
        for (const [index, { range, left, right }] of plan.entries()) {
          if (left < 0) continue;
          expect(plan[left].parent).toBe(index);
          expect(plan[right].parent).toBe(index);
          expect(plan[left].range[0]).toBe(range[0]);
          expect(plan[left].range[1]).toBe(plan[right].range[0]);
          expect(plan[right].range[1]).toBe(range[1]);
        }
      }),
    );
  });
});

describe('maxLeavesOf()', () => {
  it.each([
    ['some for each thread', 2, 61_706, 32],
    ['enough for many threads', 64, 61_706, 256],
    ['no more than fit in a memory, of a large model', 16, 10_000_000, 64],
  ])('are %s', (_what, numThreads, numParams, expected) => {
    const maxLeaves = maxLeavesOf(numThreads, numParams);
    expect(maxLeaves).toBe(expected);
    // The proofs of all threads have to fit, too.
    expect(maxLeaves).toBeGreaterThanOrEqual(numThreads);
    expect(4 * numParams * maxLeaves).toBeLessThan(2 ** 32);
  });
});

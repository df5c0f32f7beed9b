import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Range } from '../../src/shared/protocol.js';
import { isNode, maximalNodes, middle } from '../../src/shared/tree.js';

/** V and a range of its micro-batches. */
const ranges = fc
  .integer({ min: 1, max: 200 })
  .chain((numUnits) =>
    fc
      .uniqueArray(fc.integer({ min: 0, max: numUnits }), { minLength: 2, maxLength: 2 })
      .map(([a, b]) => ({ numUnits, range: [Math.min(a, b), Math.max(a, b)] as Range })),
  );

describe('middle()', () => {
  it.each([
    [2, 1],
    [3, 2],
    [4, 2],
    [5, 4],
    [8, 4],
    [9, 8],
    [17, 16],
  ])('divides %i units after the largest power of two below', (numUnits, expected) => {
    expect(middle(0, numUnits)).toBe(expected);
    expect(middle(100, 100 + numUnits)).toBe(100 + expected);
  });
});

describe('maximalNodes()', () => {
  it('gives nodes that are the range, without gap or overlap', () => {
    fc.assert(
      fc.property(ranges, ({ numUnits, range: [lo, hi] }) => {
        const nodes = maximalNodes([lo, hi], numUnits);
        expect(nodes.at(0)?.[0]).toBe(lo);
        expect(nodes.at(-1)?.[1]).toBe(hi);
        for (let i = 1; i < nodes.length; i++) expect(nodes[i][0]).toBe(nodes[i - 1][1]);
        for (const node of nodes) expect(isNode(node, numUnits)).toBe(true);
      }),
    );
  });

  it('gives O(log V) of them', () => {
    fc.assert(
      fc.property(ranges, ({ numUnits, range }) => {
        const limit = 2 * Math.ceil(Math.log2(numUnits + 1));
        expect(maximalNodes(range, numUnits).length).toBeLessThanOrEqual(limit);
      }),
    );
  });

  it('gives no two that together are a node', () => {
    fc.assert(
      fc.property(ranges, ({ numUnits, range }) => {
        const nodes = maximalNodes(range, numUnits);
        for (let i = 1; i < nodes.length; i++) {
          expect(isNode([nodes[i - 1][0], nodes[i][1]], numUnits)).toBe(false);
        }
      }),
    );
  });

  it.each([
    [[-1, 2], 4],
    [[2, 2], 4],
    [[3, 2], 4],
    [[0, 5], 4],
    [[0, NaN], 4],
  ] as [Range, number][])('refuses [%s) of %i', (range, numUnits) => {
    expect(() => maximalNodes(range, numUnits)).toThrow(RangeError);
  });
});

describe('isNode()', () => {
  it('holds for the root and for each single unit', () => {
    for (let numUnits = 1; numUnits <= 40; numUnits++) {
      expect(isNode([0, numUnits], numUnits)).toBe(true);
      for (let unit = 0; unit < numUnits; unit++) {
        expect(isNode([unit, unit + 1], numUnits)).toBe(true);
      }
    }
  });

  it('does not hold for two neighbours of different parents', () => {
    expect(isNode([1, 3], 4)).toBe(false);
  });
});

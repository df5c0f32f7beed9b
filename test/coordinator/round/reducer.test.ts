import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Reducer } from '../../../src/coordinator/round/reducer.js';
import type { Range } from '../../../src/shared/protocol.js';
import { maximalNodes, middle } from '../../../src/shared/tree.js';

/** Records the order of additions. */
const join = (left: string, right: string) => `(${left} ${right})`;

function tree(lo: number, hi: number): string {
  if (hi - lo === 1) return String(lo);
  const mid = middle(lo, hi);
  return join(tree(lo, mid), tree(mid, hi));
}

/** Nodes that together cover [0, numUnits), some of them more than once, in any order. */
const partials = fc
  .tuple(fc.integer({ min: 1, max: 40 }), fc.array(fc.nat(1000), { maxLength: 12 }), fc.nat())
  .map(([numUnits, draws, seed]) => {
    const cuts = [...new Set([0, numUnits, ...draws.map((draw) => draw % (numUnits + 1))])].sort(
      (a, b) => a - b,
    );
    const shares = cuts.slice(1).map((hi, i): Range => [cuts[i], hi]);
    const nodes = shares.flatMap((share) => maximalNodes(share, numUnits));
    const extra = draws.map((draw): Range => nodes[draw % nodes.length]);
    const all = [...nodes, ...extra].map((range, i) => ({ range, key: (seed * (i + 7)) % 101 }));
    return { numUnits, ranges: all.sort((a, b) => a.key - b.key).map(({ range }) => range) };
  });

describe('Reducer', () => {
  test('adds in tree order, whatever the sources and the order of arrival', () => {
    fc.assert(
      fc.property(partials, ({ numUnits, ranges }) => {
        const reducer = new Reducer<string>(numUnits);
        const added = ranges.flatMap((range) => reducer.add(range, tree(...range)));
        expect(added.sort((a, b) => a - b)).toEqual(Array.from({ length: numUnits }, (_, i) => i));
        expect(reducer.isComplete).toBe(true);
        expect(reducer.reduce(join)).toBe(tree(0, numUnits));
      }),
    );
  });

  test('reduce() throws while a unit is missing', () => {
    const reducer = new Reducer<string>(4);
    reducer.add([0, 2], tree(0, 2));
    expect(() => reducer.reduce(join)).toThrow('2 of 4 micro-batches are missing');
  });

  test('add() places a range that is not a node at its first unit', () => {
    const reducer = new Reducer<string>(8);
    expect(reducer.add([1, 6], 'ragged')).toEqual([1, 2, 3, 4, 5]);
    expect(reducer.add([0, 1], '0')).toEqual([0]);
    expect(reducer.add([6, 8], tree(6, 8))).toEqual([6, 7]);
    expect(reducer.reduce(join)).toBe('((0 ragged) (6 7))');
  });

  test('add() drops a ragged range that overlaps covered units', () => {
    const reducer = new Reducer<string>(8);
    reducer.add([4, 8], tree(4, 8));
    expect(reducer.add([1, 6], 'ragged')).toEqual([]);
    expect(reducer.isCovered(1)).toBe(false);
  });
});

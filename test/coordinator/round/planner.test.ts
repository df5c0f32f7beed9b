import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Range } from '../../../src/shared/protocol.js';
import { maximalNodes } from '../../../src/shared/tree.js';
import { planCounts, planShares, rangesOf } from '../../../src/coordinator/round/planner.js';

const pace = (workerId: string, msPerUnit: number | null, overheadMs = 0) => ({
  ...{ workerId, msPerUnit, overheadMs },
});

describe('planCounts()', () => {
  test('gives a worker that is four times slower a quarter', () => {
    expect(planCounts(20, [pace('a', 1), pace('b', 4)])).toEqual([16, 4]);
  });

  test('does not move a unit for a small difference', () => {
    expect(planCounts(8, [pace('a', 1), pace('b', 1.1)])).toEqual([4, 4]);
  });

  test('gives nothing to a worker whose answer would come last anyway', () => {
    expect(planCounts(8, [pace('a', 1), pace('b', 1, 50)])).toEqual([8, 0]);
  });

  test('assumes the mean for a worker of unknown pace', () => {
    expect(planCounts(9, [pace('a', 1), pace('b', null), pace('c', 1)])).toEqual([3, 3, 3]);
  });
});

/** The cost of a plan: when the last worker finishes, ms, and the number of partials. */
function costOf(shares: ReadonlyMap<string, readonly Range[]>, speeds: Speeds, numLeaves: number) {
  const ranges = [...shares.values()].flat();
  const finishMs = [...shares].map(([workerId, mine]) => {
    const { ms, overhead } = speeds[Number(workerId.slice(1))];
    return overhead + ms * mine.reduce((sum, [lo, hi]) => sum + hi - lo, 0);
  });
  const numPartials = ranges.flatMap((range) => maximalNodes(range, numLeaves)).length;
  return { finishMs: Math.max(0, ...finishMs), numPartials };
}

type Speeds = readonly { readonly ms: number; readonly overhead: number }[];
const pacesOf = (speeds: Speeds) =>
  speeds.map(({ ms, overhead }, i) => pace(`w${i}`, ms, overhead));
const upTo = (n: number) => Array.from({ length: n }, (_, unit) => unit);

describe('planShares()', () => {
  const speed = fc.record({
    ms: fc.double({ min: 0.01, max: 100, noNaN: true }),
    overhead: fc.nat(20),
  });
  const anySpeeds = fc.array(speed, { minLength: 1, maxLength: 9 });

  test('gives each unit to one worker', () => {
    const anyUnits = fc.uniqueArray(fc.nat(200), { maxLength: 60 });
    fc.assert(
      fc.property(anyUnits, anySpeeds, fc.boolean(), (draws, speeds, isTree) => {
        const units = draws.sort((a, b) => a - b);
        const shares = planShares(units, pacesOf(speeds), isTree ? 201 : null);
        const given = [...shares.values()].flat().flatMap(([lo, hi]) => {
          return Array.from({ length: hi - lo }, (_, i) => lo + i);
        });
        expect(given.sort((a, b) => a - b)).toEqual(units);
      }),
    );
  });

  test('with a tree, has no more partials than without, and finishes at most 15 % later', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), anySpeeds, (numUnits, speeds) => {
        const plan = (numLeaves: number | null) =>
          costOf(planShares(upTo(numUnits), pacesOf(speeds), numLeaves), speeds, numUnits);
        const [earliest, chosen] = [plan(null), plan(numUnits)];
        expect(chosen.numPartials).toBeLessThanOrEqual(earliest.numPartials);
        expect(chosen.finishMs).toBeLessThanOrEqual(1.15 * earliest.finishMs + 1e-9);
      }),
      { numRuns: 1000 },
    );
  });

  test('for two workers, no cut that is as early has fewer partials', () => {
    const similar = fc.record({
      ms: fc.double({ min: 1, max: 3, noNaN: true }),
      overhead: fc.nat(2),
    });
    fc.assert(
      fc.property(fc.constantFrom(8, 16, 32), similar, similar, (numUnits, a, b) => {
        const speeds = [a, b];
        const earliest = costOf(
          planShares(upTo(numUnits), pacesOf(speeds), null),
          speeds,
          numUnits,
        );
        const cuts = upTo(numUnits - 1).map((before) => {
          const cut = before + 1;
          return costOf(
            new Map([
              ['w0', [[0, cut]]],
              ['w1', [[cut, numUnits]]],
            ] as const),
            speeds,
            numUnits,
          );
        });
        const asEarly = cuts.filter(({ finishMs }) => finishMs <= 1.15 * earliest.finishMs);
        const fewest = Math.min(...asEarly.map(({ numPartials }) => numPartials));
        const chosen = costOf(
          planShares(upTo(numUnits), pacesOf(speeds), numUnits),
          speeds,
          numUnits,
        );
        expect(chosen.numPartials).toBe(fewest);
      }),
    );
  });

  test('divides eight micro-batches 4 + 4 although 5 + 3 would be slightly earlier', () => {
    const paces = [pace('a', 1), pace('b', 1.35)];
    expect(planShares(upTo(8), paces, null)).toEqual(
      new Map([
        ['a', [[0, 5]]],
        ['b', [[5, 8]]],
      ]),
    );
    expect(planShares(upTo(8), paces, 8)).toEqual(
      new Map([
        ['a', [[0, 4]]],
        ['b', [[4, 8]]],
      ]),
    );
  });

  test('divides them 5 + 3 if the slower worker would delay the step', () => {
    const shares = planShares(upTo(8), [pace('a', 1), pace('b', 1.6)], 8);
    expect(shares.get('a')).toEqual([[0, 5]]);
  });
});

describe('rangesOf()', () => {
  test('joins consecutive units', () => {
    expect(rangesOf([0, 1, 2, 5, 7, 8])).toEqual([
      [0, 3],
      [5, 6],
      [7, 9],
    ]);
    expect(rangesOf([3])).toEqual([[3, 4]]);
  });
});

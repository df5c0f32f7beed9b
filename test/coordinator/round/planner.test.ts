import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { planCounts, planShares, rangesOf } from '../../../src/coordinator/round/planner.js';

const pace = (workerId: string, msPerUnit: number | null, overheadMs = 0) => ({
  ...{ workerId, msPerUnit, overheadMs },
});

describe('planCounts()', () => {
  test('gives a worker four times slower a quarter', () => {
    expect(planCounts(20, [pace('a', 1), pace('b', 4)])).toEqual([16, 4]);
  });

  test('does not move a unit for a small difference', () => {
    expect(planCounts(8, [pace('a', 1), pace('b', 1.1)])).toEqual([4, 4]);
  });

  test('gives nothing to a worker whose answer would come last anyway', () => {
    expect(planCounts(8, [pace('a', 1), pace('b', 1, 50)])).toEqual([8, 0]);
  });

  test('takes a worker of unknown pace for as fast as the mean', () => {
    expect(planCounts(9, [pace('a', 1), pace('b', null), pace('c', 1)])).toEqual([3, 3, 3]);
  });
});

describe('planShares()', () => {
  test('gives each unit to one worker', () => {
    const paces = fc.array(
      fc.record({ ms: fc.double({ min: 0.01, max: 100, noNaN: true }), overhead: fc.nat(20) }),
      { minLength: 1, maxLength: 9 },
    );
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(200), { maxLength: 60 }), paces, (draws, speeds) => {
        const units = draws.sort((a, b) => a - b);
        const shares = planShares(
          units,
          speeds.map(({ ms, overhead }, i) => pace(`w${i}`, ms, overhead)),
        );
        const given = [...shares.values()].flat().flatMap(([lo, hi]) => {
          return Array.from({ length: hi - lo }, (_, i) => lo + i);
        });
        expect(given.sort((a, b) => a - b)).toEqual(units);
      }),
    );
  });
});

describe('rangesOf()', () => {
  test('joins neighbours', () => {
    expect(rangesOf([0, 1, 2, 5, 7, 8])).toEqual([
      [0, 3],
      [5, 6],
      [7, 9],
    ]);
    expect(rangesOf([3])).toEqual([[3, 4]]);
  });
});

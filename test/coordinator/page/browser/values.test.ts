import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  logRange,
  logarithmic,
  smooth,
  type Values,
} from '../../../../src/coordinator/page/browser/values.js';

describe('logarithmic()', () => {
  test('leaves out zeros, and the rounding errors that smoothing makes of them', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(0.1, 0.3, 0.7), { minLength: 1, maxLength: 20 }),
        (errors) => {
          const values: Values = smooth([...errors, ...new Array<number>(20).fill(0)], 6);
          const shown = logarithmic(values).filter((value) => typeof value === 'number');
          expect(Math.min(...shown)).toBeGreaterThan(1e-3);
        },
      ),
    );
    expect(logarithmic([0.5, 0, -1e-17, NaN, null, undefined])).toEqual([
      0.5,
      null,
      null,
      null,
      null,
      undefined,
    ]);
  });
});

describe('logRange()', () => {
  test("begins at one significant digit, from which uPlot's grid lines reach the next power of ten", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 1e-9, max: 1e6, noNaN: true }),
        fc.double({ min: 1, max: 1e8, noNaN: true }),
        (least, factor) => {
          const [min, max] = logRange(least, least * factor);
          expect(min).toBeGreaterThan(0);
          expect(min).toBeLessThan(least);
          expect(max).toBeGreaterThan(least * factor);
          expect(min.toExponential()).toMatch(/^\de/);
        },
      ),
    );
    expect(logRange(0.0114, 0.5)[0]).toBe(0.009);
  });

  test('is one decade if there are no values', () => {
    expect(logRange(null, null)).toEqual([0.1, 1]);
  });
});

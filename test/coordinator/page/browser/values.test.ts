import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  logarithmic,
  smooth,
  type Values,
} from '../../../../src/coordinator/page/browser/values.js';

describe('logarithmic()', () => {
  test('leaves out zeros, and what smoothing leaves of them by rounding', () => {
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

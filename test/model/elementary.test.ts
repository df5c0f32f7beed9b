import { describe, expect, test } from 'vitest';
import { cosPi, exp, log, sigmoid, tanh } from '../../src/model/elementary.js';

/** The largest error over the points, relative to the true value. */
function relativeError(
  ours: (x: number) => number,
  theirs: (x: number) => number,
  points: readonly number[],
): number {
  return Math.max(...points.map((x) => Math.abs(ours(x) - theirs(x)) / Math.abs(theirs(x))));
}

const range = (from: number, to: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => from + ((to - from) * i) / (count - 1));

describe('exp()', () => {
  test('is within 1e-13 of Math.exp', () => {
    expect(relativeError(exp, Math.exp, range(-700, 700, 50_001))).toBeLessThan(1e-13);
    expect(relativeError(exp, Math.exp, range(-1, 1, 50_001))).toBeLessThan(1e-15);
  });

  test('ends as Math.exp does', () => {
    expect([exp(0), exp(-0), exp(710), exp(-746), exp(Infinity), exp(-Infinity)]).toEqual([
      1,
      1,
      Infinity,
      0,
      Infinity,
      0,
    ]);
    expect(exp(NaN)).toBeNaN();
    expect(exp(-745)).toBe(Math.exp(-745));
  });
});

describe('log()', () => {
  test('is within 1e-13 of Math.log', () => {
    expect(relativeError(log, Math.log, range(1e-6, 12.3, 50_001))).toBeLessThan(1e-13);
    expect(relativeError(log, Math.log, [5e-324, 1e-310, 1e-300, 1e-10, 1e10, 1e308])).toBeLessThan(
      1e-13,
    );
  });

  test('ends as Math.log does', () => {
    expect([log(1), log(0), log(Infinity)]).toEqual([0, -Infinity, Infinity]);
    expect(log(-1)).toBeNaN();
    expect(log(NaN)).toBeNaN();
  });
});

describe('sigmoid()', () => {
  test('is within 1e-13 of 1 / (1 + Math.exp(-x))', () => {
    const points = range(-40, 40, 10_001);
    expect(relativeError(sigmoid, (x) => 1 / (1 + Math.exp(-x)), points)).toBeLessThan(1e-13);
  });
});

describe('tanh()', () => {
  test('is within 1e-13 of Math.tanh, absolutely', () => {
    const error = range(-20, 20, 10_001).map((x) => Math.abs(tanh(x) - Math.tanh(x)));
    expect(Math.max(...error)).toBeLessThan(1e-13);
  });
});

describe('cosPi()', () => {
  test('is within 1e-12 of Math.cos', () => {
    const error = range(0, 1, 50_001).map((x) => Math.abs(cosPi(x) - Math.cos(Math.PI * x)));
    expect(Math.max(...error)).toBeLessThan(1e-12);
    expect([cosPi(0), cosPi(0.5), cosPi(1)]).toEqual([1, 0, -1]);
  });
});

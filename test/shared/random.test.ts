import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRandom, xoshiro128 } from '../../src/shared/random.js';

const take = (count: number, next: () => number): number[] => Array.from({ length: count }, next);

describe('xoshiro128()', () => {
  test('gives the published sequence for the state 1, 2, 3, 4', () => {
    expect(take(10, xoshiro128(Uint32Array.of(1, 2, 3, 4)))).toEqual([
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597,
      4258142804,
    ]);
  });
});

describe('createRandom()', () => {
  test('gives the golden values of a stream', () => {
    const random = createRandom(1, 'golden', 7);
    expect(take(4, () => random.uint32())).toEqual([
      4136908442, 2107457830, 2285437884, 2871981288,
    ]);
    expect(take(2, () => random.float())).toEqual([0.7136941526148819, 0.4408117160271694]);
    expect(take(6, () => random.below(10))).toEqual([6, 6, 8, 6, 8, 1]);
    expect([...random.permutation(10)]).toEqual([5, 9, 0, 3, 6, 8, 1, 4, 2, 7]);
  });

  test('gives the same numbers again', () => {
    const first = createRandom(42, 'permutation', 3);
    const second = createRandom(42, 'permutation', 3);
    expect(take(100, () => first.uint32())).toEqual(take(100, () => second.uint32()));
  });

  test('gives streams of their own to labels that look alike', () => {
    const streams = [
      createRandom(1, 2),
      createRandom(1, '2'),
      createRandom(12),
      createRandom(1),
      createRandom(1, 2, 0),
      createRandom(1, ''),
      createRandom(2, 1),
      createRandom(1, 'ab', 'c'),
      createRandom(1, 'a', 'bc'),
      createRandom(2 ** 32 + 1),
    ];
    const starts = streams.map((random) => take(2, () => random.uint32()).join());
    expect(new Set(starts).size).toBe(streams.length);
  });

  test.each([-1, 0.5, NaN, Infinity, 2 ** 53])('refuses the seed %s', (seed) => {
    expect(() => createRandom(seed)).toThrow(RangeError);
    expect(() => createRandom(1, seed)).toThrow(`Cannot seed with ${seed}`);
  });
});

describe('float()', () => {
  test('is uniform in [0, 1)', () => {
    const random = createRandom(1, 'uniform');
    const counts = new Uint32Array(10);
    for (let i = 0; i < 100_000; i++) {
      const value = random.float();
      expect(value >= 0 && value < 1).toBe(true);
      counts[Math.floor(value * 10)]++;
    }
    // 10,000 expected in each, standard deviation 95: five of them.
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(475);
  });
});

describe('below()', () => {
  test('is uniform for a size that does not divide 2^32', () => {
    const random = createRandom(1, 'below');
    // Three quarters of 2^32: a plain remainder would give the lower third twice as often.
    const n = 3 * 2 ** 30;
    let numLow = 0;
    for (let i = 0; i < 30_000; i++) if (random.below(n) < n / 3) numLow++;
    // 10,000 expected, standard deviation 82: five of them.
    expect(Math.abs(numLow - 10_000)).toBeLessThan(410);
  });

  test.each([0, -1, 1.5, NaN, 2 ** 32 + 1])('refuses %s', (n) => {
    expect(() => createRandom(1).below(n)).toThrow(`Cannot draw a number below ${n}`);
  });
});

describe('permutation()', () => {
  test('holds every index once', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(300), (seed, n) => {
        const sorted = createRandom(seed).permutation(n).sort();
        expect(sorted).toEqual(Uint32Array.from({ length: n }, (_, index) => index));
      }),
    );
  });

  test('gives each order of three equally often', () => {
    const random = createRandom(1, 'orders');
    const counts = new Map<string, number>();
    for (let i = 0; i < 12_000; i++) {
      const order = random.permutation(3).join('');
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(6);
    // 2,000 expected in each, standard deviation 41: five of them.
    for (const count of counts.values()) expect(Math.abs(count - 2_000)).toBeLessThan(205);
  });
});

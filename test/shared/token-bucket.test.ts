import { describe, expect, it } from 'vitest';
import { TokenBucket } from '../../src/shared/token-bucket.js';

describe('TokenBucket.take()', () => {
  it('allows the burst at once, then the rate', () => {
    const bucket = new TokenBucket(10, 3);
    expect([0, 0, 0, 0].map((now) => bucket.take(now))).toEqual([true, true, true, false]);
    expect(bucket.take(99)).toBe(false);
    expect(bucket.take(200)).toBe(true);
  });

  it('counts amounts', () => {
    const bucket = new TokenBucket(1_000, 1_000);
    expect(bucket.take(0, 900)).toBe(true);
    expect(bucket.take(0, 200)).toBe(false);
    expect(bucket.take(100, 200)).toBe(true);
  });

  it('allows everything where there is no limit', () => {
    const bucket = new TokenBucket(Infinity, Infinity);
    expect([0, 0, 5].map((now) => bucket.take(now, 1e12))).toEqual([true, true, true]);
  });
});

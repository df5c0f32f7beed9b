import { describe, expect, it } from 'vitest';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatNoun,
  formatPercent,
} from '../../src/shared/format.js';

describe('format', () => {
  it('formatCount() groups thousands', () => {
    expect(formatCount(11256.4)).toBe('11,256');
  });

  it('formatNoun() uses the plural for all but one', () => {
    expect([0, 1, 2].map((count) => formatNoun(count, 'worker'))).toEqual([
      '0 workers',
      '1 worker',
      '2 workers',
    ]);
  });

  it('formatPercent() takes a fraction', () => {
    expect(formatPercent(0.98714)).toBe('98.71 %');
    expect(formatPercent(0.5, 0)).toBe('50 %');
  });

  it.each([
    [0.04, '0.0 s'],
    [9.94, '9.9 s'],
    [9.96, '10 s'],
    [59.6, '1 min 00 s'],
    [185, '3 min 05 s'],
    [7380, '2 h 03 min'],
    [Infinity, '–'],
  ])('formatDuration(%d) is %s', (seconds, expected) => {
    expect(formatDuration(seconds)).toBe(expected);
  });

  it.each([
    [812, '812 B'],
    [248_300, '248.3 KB'],
    [1_200_000, '1.2 MB'],
  ])('formatBytes(%d) is %s', (bytes, expected) => {
    expect(formatBytes(bytes)).toBe(expected);
  });
});

import { describe, expect, it } from 'vitest';
import {
  addToHistory,
  createHistory,
  sparkline,
} from '../../../src/coordinator/observers/sparkline.js';

describe('sparkline()', () => {
  it('goes from the lowest to the highest block', () => {
    expect(sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8)).toBe('▁▂▃▄▅▆▇█');
    expect(sparkline([5, -1], 8)).toBe('█▁');
  });

  it('averages the points of each cell if there are more points than cells', () => {
    expect(sparkline([0, 2, 7, 9, 15, 15, 16, 14], 4)).toBe('▁▅██');
  });

  it('is flat for equal points, and empty for none', () => {
    expect(sparkline([3, 3, 3], 8)).toBe('▁▁▁');
    expect(sparkline([], 8)).toBe('');
    expect(sparkline([1, 2], 0)).toBe('');
  });
});

describe('addToHistory()', () => {
  it('keeps the shape of a long history in few points', () => {
    const history = createHistory();
    for (let value = 0; value < 100_000; value++) addToHistory(history, value);
    expect(history.points.length).toBeLessThan(128);
    expect(history.points.length).toBeGreaterThanOrEqual(64);
    const half = history.stride / 2;
    history.points.forEach((point, index) => {
      expect(point).toBe(index * history.stride + half - 0.5);
    });
  });

  it('skips values that are not finite', () => {
    const history = createHistory();
    for (const value of [1, NaN, Infinity, -Infinity, 2]) addToHistory(history, value);
    expect(history.points).toEqual([1, 2]);
  });
});

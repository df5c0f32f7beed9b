import { describe, expect, it } from 'vitest';
import { confusionOf } from '../../../src/coordinator/page/confusion.js';

const evaluated = (pairs: readonly (readonly [label: number, predicted: number])[]) => ({
  set: 'test' as const,
  globalStep: 7,
  labels: Uint16Array.from(pairs, ([label]) => label),
  predictions: Uint16Array.from(pairs, ([, predicted]) => predicted),
});

describe('confusionOf()', () => {
  it('counts every class separately if there are few', () => {
    const made = confusionOf(
      evaluated([
        [0, 0],
        [2, 1],
        [2, 1],
        [1, 0],
      ]),
      3,
    );
    expect(made).toEqual({
      set: 'test',
      globalStep: 7,
      numImages: 4,
      classesPerCell: 1,
      counts: [1, 0, 0, 1, 0, 0, 0, 2, 0],
      numByLabel: [1, 1, 2],
      numRight: [1, 0, 0],
      pairs: [
        { label: 2, predicted: 1, count: 2 },
        { label: 1, predicted: 0, count: 1 },
      ],
    });
  });

  it('stays small for a thousand classes, counts every image and names the worst pairs', () => {
    const pairs = Array.from(
      { length: 50_000 },
      (_, index) => [index % 1000, (index * 7919) % 1000] as const,
    );
    for (let time = 0; time < 90; time += 1) pairs.push([999, 3]);
    const made = confusionOf(evaluated(pairs), 1000);
    expect(made.classesPerCell).toBe(8);
    expect(made.counts).toHaveLength(125 ** 2);
    expect(made.counts.reduce((sum, count) => sum + count)).toBe(pairs.length);
    expect(made.pairs[0]).toEqual({ label: 999, predicted: 3, count: 90 });
    expect(made.pairs.length).toBeLessThanOrEqual(50);
    expect(JSON.stringify(made).length).toBeLessThan(64 * 1024);
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { gridTrials, parseSpace, randomTrials, variedKeys } from '../../src/cli/sweep-plan.js';
import { UsageError } from '../../src/shared/errors.js';

const space = (json: unknown) => parseSpace(json, 'sweep.json');

describe('gridTrials()', () => {
  test('has every combination, values and lists of lists among them', () => {
    const grid = space({
      epochs: 2,
      lr: { min: 0.001, max: 0.1, log: true, steps: 3 },
      channels: [
        [6, 16],
        [8, 16],
      ],
      hidden: [120, 84],
    });
    expect(variedKeys(grid)).toEqual(['lr', 'channels']);
    const trials = gridTrials(grid);
    expect(trials.map(({ lr }) => lr)).toEqual([0.001, 0.001, 0.01, 0.01, 0.1, 0.1]);
    expect(trials[1]).toEqual({ epochs: 2, lr: 0.001, channels: [8, 16], hidden: [120, 84] });
  });

  test('rounds whole numbers, each once', () => {
    const trials = gridTrials(space({ batchSize: { min: 1, max: 3, steps: 9 } }));
    expect(trials.map(({ batchSize }) => batchSize)).toEqual([1, 2, 3]);
  });

  test('asks for steps, and for fewer', () => {
    const range = { min: 0.1, max: 0.2 };
    expect(() => gridTrials(space({ lr: range }))).toThrow(/"lr": give its range "steps"/);
    const wide = { ...range, steps: 200 };
    expect(() => gridTrials(space({ lr: wide, weightDecay: wide }))).toThrow(
      'Cannot try more than 10000 combinations',
    );
  });
});

describe('randomTrials()', () => {
  const wide = space({
    seed: [1, 2, 3],
    lr: { min: 1e-4, max: 1, log: true },
    epochs: { min: 1, max: 20 },
  });

  test('are the same for a seed, whatever their number and the order of the file', () => {
    const turned = space({
      epochs: { min: 1, max: 20 },
      lr: { min: 1e-4, max: 1, log: true },
      seed: [1, 2, 3],
    });
    const many = randomTrials(wide, 20, 5);
    expect(randomTrials(turned, 8, 5)).toEqual(many.slice(0, 8));
    expect(randomTrials(wide, 20, 6)).not.toEqual(many);
    expect(new Set(many.map(({ seed }) => seed))).toEqual(new Set([1, 2, 3]));
  });

  test('are within their ranges', () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        for (const { lr, epochs } of randomTrials(wide, 10, seed)) {
          expect(lr).toBeGreaterThanOrEqual(1e-4);
          expect(lr).toBeLessThanOrEqual(1);
          expect(epochs).toBe(Math.round(epochs as number));
          expect(epochs).toBeLessThanOrEqual(20);
        }
      }),
    );
  });
});

describe('parseSpace()', () => {
  test.each<[unknown, RegExp]>([
    [[], /expected a JSON object/],
    [{ lr: 0.1 }, /no option in it has several values/],
    [{ lrr: [1, 2] }, /Unknown option in sweep\.json: "lrr" \(did you mean "lr"\?\)/],
    [{ out: ['a', 'b'] }, /Unknown option/],
    [{ lr: [] }, /"lr": \[\]: expected a number above 0.*, or a list of such/],
    [{ lr: [0.1, 'x'] }, /"lr"/],
    [{ lr: { min: 0.2, max: 0.1 } }, /min must be below max/],
    [{ lr: { min: 0.1, max: 0.2, stpes: 3 } }, /"lr"/],
    [{ weightDecay: { min: 0, max: 1, log: true } }, /must begin above 0/],
    [{ lr: { min: -1, max: 1 } }, /"lr"/],
    [{ optimizer: { min: 1, max: 2 } }, /expected sgd, momentum or adam, or a list of such/],
  ])('refuses %j', (json, message) => {
    expect(() => space(json)).toThrow(UsageError);
    expect(() => space(json)).toThrow(message);
  });
});

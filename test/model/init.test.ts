import { describe, expect, test } from 'vitest';
import { initParams } from '../../src/model/init.js';
import { buildModel, LENET5 } from '../../src/model/lenet.js';

const model = buildModel(LENET5);

describe('initParams()', () => {
  test('gives the golden values of seed 1', () => {
    const params = initParams(model, 1);
    expect([...params.subarray(0, 3), ...params.subarray(60856, 60859)]).toEqual([
      0.04285076633095741, 0.1279670149087906, 0.03402014449238777, -0.16207920014858246,
      -0.09456531703472137, 0.20715273916721344,
    ]);
  });

  test('fills each weight tensor evenly within its limit and leaves biases at zero', () => {
    const params = initParams(model, 2);
    const limits = [
      Math.sqrt(6 / (25 + 150)),
      Math.sqrt(6 / (150 + 400)),
      Math.sqrt(6 / 520),
      Math.sqrt(6 / 204),
      Math.sqrt(6 / 94),
    ];
    const layers = model.layers.filter((layer) => layer.kind !== 'pool');
    layers.forEach(({ weights, biases }, index) => {
      const limit = limits[index];
      const values = params.subarray(weights.offset, weights.offset + weights.length);
      const magnitudes = values.map(Math.abs);
      expect(Math.max(...magnitudes)).toBeLessThanOrEqual(limit);
      expect(Math.max(...magnitudes)).toBeGreaterThan(0.95 * limit);
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      // Five standard deviations of the mean of uniform numbers.
      expect(Math.abs(mean)).toBeLessThan((5 * limit) / Math.sqrt(3 * values.length));
      const zeros = params.subarray(biases.offset, biases.offset + biases.length);
      expect(zeros.every((bias) => Object.is(bias, 0))).toBe(true);
    });
  });

  test('gives the same bits again, and others for another seed', () => {
    expect(initParams(model, 3)).toEqual(initParams(model, 3));
    expect(initParams(model, 3)).not.toEqual(initParams(model, 4));
  });

  test('keeps a tensor as it is when other layers change', () => {
    const deeper = buildModel({ ...LENET5, hidden: [120, 84, 30] });
    const params = initParams(model, 1);
    expect(initParams(deeper, 1).subarray(0, 60_000)).toEqual(params.subarray(0, 60_000));
  });
});

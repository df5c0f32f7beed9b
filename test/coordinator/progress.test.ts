import { describe, expect, test } from 'vitest';
import { NO_PROGRESS, progressOf } from '../../src/coordinator/progress.js';
import type { Checkpoint } from '../../src/model/checkpoint.js';
import { DIGITS, LENET5, MNIST } from '../../src/model/lenet.js';
import { parseRunConfig } from '../../src/shared/config.js';

const config = parseRunConfig({ seed: 7 });
const DATA = { input: MNIST.input, classNames: DIGITS };
const checkpointOf = (change: Partial<Checkpoint> = {}): Checkpoint => ({
  params: new Float32Array(0),
  optimizerState: { tensors: {}, scalars: {} },
  globalStep: 12,
  epoch: 0,
  seed: 7,
  hyperparameters: LENET5,
  input: MNIST.input,
  classNames: DIGITS,
  config,
  engineFingerprint: 'simd/1',
  metrics: NO_PROGRESS,
  ...change,
});

const without = (of: object, ...keys: string[]) =>
  Object.fromEntries(Object.entries(of).filter(([key]) => !keys.includes(key)));

describe('progressOf()', () => {
  test('reads the progress of the same run, whatever the order of its keys', () => {
    const turned = Object.fromEntries(Object.entries(config).reverse());
    expect(progressOf(checkpointOf({ config: turned }), config, DATA, 'simd/1')).toEqual(
      NO_PROGRESS,
    );
  });

  test('uses defaults for options newer than the checkpoint', () => {
    const older = without(config, 'warmupEpochs');
    expect(progressOf(checkpointOf({ config: older }), config, DATA, 'simd/1')).toEqual(
      NO_PROGRESS,
    );
    const other = { ...config, warmupEpochs: 1 };
    expect(() => progressOf(checkpointOf({ config: older }), other, DATA, 'simd/1')).toThrow();
  });

  test('attributes the best accuracy of a first-release checkpoint to its last evaluation', () => {
    const metrics = without({ ...NO_PROGRESS, evaluatedStep: 9 }, 'bestStep', 'extensions');
    const found = progressOf(checkpointOf({ metrics }), config, DATA, 'simd/1');
    expect(found).toEqual({ ...NO_PROGRESS, evaluatedStep: 9, bestStep: 9 });
  });

  test('records every extension of a run', () => {
    const longer = { ...config, epochs: 30 };
    const once = progressOf(checkpointOf(), longer, DATA, 'simd/1');
    expect(once.extensions).toEqual([{ globalStep: 12, epochs: 20 }]);
    const later = checkpointOf({ config: longer, metrics: once, globalStep: 15 });
    expect(progressOf(later, longer, DATA, 'simd/1')).toEqual(once);
    expect(progressOf(later, { ...config, epochs: 31 }, DATA, 'simd/1').extensions).toEqual([
      { globalStep: 12, epochs: 20 },
      { globalStep: 15, epochs: 30 },
    ]);
  });

  test.each([
    ['fewer epochs', { config: { ...config, epochs: 21 } }, 'has another configuration'],
    ['another configuration', { config: { ...config, lr: 1 } }, 'has another configuration'],
    ['another engine', { engineFingerprint: 'simd/0' }, 'bits of engine simd/0, this is simd/1'],
    ['other images', { input: { ...MNIST.input, width: 27 } }, 'other images or classes'],
    ['other classes', { classNames: ['cat', 'dog'] }, 'other images or classes'],
    ['malformed progress', { metrics: { ...NO_PROGRESS, faults: 3 } }, 'is not understood'],
  ])('refuses %s', (_, change, why) => {
    expect(() => progressOf(checkpointOf(change), config, DATA, 'simd/1')).toThrow(why);
  });
});

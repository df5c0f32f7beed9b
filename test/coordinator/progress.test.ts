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

describe('progressOf()', () => {
  test('reads the progress of the same run, whatever the order of its keys', () => {
    const turned = Object.fromEntries(Object.entries(config).reverse());
    expect(progressOf(checkpointOf({ config: turned }), config, DATA, 'simd/1')).toEqual(
      NO_PROGRESS,
    );
  });

  test.each([
    ['another configuration', { config: { ...config, lr: 1 } }, 'has another configuration'],
    ['another engine', { engineFingerprint: 'simd/0' }, 'bits of engine simd/0, this is simd/1'],
    ['other images', { input: { ...MNIST.input, width: 27 } }, 'other images or classes'],
    ['other classes', { classNames: ['cat', 'dog'] }, 'other images or classes'],
    ['progress that is none', { metrics: { ...NO_PROGRESS, faults: 3 } }, 'is not understood'],
  ])('refuses %s', (_, change, why) => {
    expect(() => progressOf(checkpointOf(change), config, DATA, 'simd/1')).toThrow(why);
  });
});

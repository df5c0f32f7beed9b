import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Checkpoint } from '../../../src/model/checkpoint.js';
import { createReferenceEngine } from '../../../src/model/engine/reference.js';
import { networkOf } from '../../../src/model/export/network.js';
import { initParams } from '../../../src/model/init.js';
import {
  ACTIVATIONS,
  buildModel,
  DIGITS,
  MNIST,
  POOLS,
  type Hyperparameters,
} from '../../../src/model/lenet.js';
import {
  classesOf,
  findPython,
  largestDifference,
  predictInPython,
  RUNTIMES,
} from '../../support/exported.js';
import { hashedParams } from '../../support/tensors.js';

/** Float32 against the reference's float64; and what is promised. */
const TOLERANCE = 1e-5;
const NUM_IMAGES = 3;

interface Case {
  readonly checkpoint: Checkpoint;
  readonly images: Uint8Array;
  /** (n, numClasses) of the reference engine. */
  readonly expected: Float32Array;
}

const hyperparameters: fc.Arbitrary<Hyperparameters> = fc
  .record({
    kernelSize: fc.integer({ min: 1, max: 5 }),
    channels: fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 }),
    padding: fc.integer({ min: 0, max: 3 }),
    stride: fc.integer({ min: 1, max: 3 }),
    hidden: fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 2 }),
    activation: fc.constantFrom(...ACTIVATIONS),
    pool: fc.constantFrom(...POOLS),
  })
  .filter((values) => {
    try {
      return buildModel(values).numParams > 0;
    } catch {
      return false;
    }
  });

function caseOf(values: Hyperparameters, seed: number): Case {
  const model = buildModel(values);
  const biases = hashedParams(model, 0.3);
  const params = initParams(model, seed).map((weight, i) => 2 * weight + biases[i]);
  const checkpoint: Checkpoint = {
    params,
    optimizerState: { tensors: {}, scalars: {} },
    globalStep: 1,
    epoch: 1,
    seed,
    hyperparameters: values,
    input: MNIST.input,
    classNames: DIGITS,
    config: null,
    engineFingerprint: 'simd/1',
    metrics: null,
  };
  const { channels, height, width } = networkOf(checkpoint).input;
  const images = Uint8Array.from(
    { length: NUM_IMAGES * channels * height * width },
    (_, i) => (i * 2654435761 + seed) >>> 7,
  );
  const engine = createReferenceEngine(model);
  engine.setParams(params);
  return { checkpoint, images, expected: engine.predict(images) as Float32Array };
}

function expectSame(actual: Float32Array, { checkpoint, expected }: Case): void {
  expect(largestDifference(actual, expected)).toBeLessThan(TOLERANCE);
  const numClasses = networkOf(checkpoint).classNames.length;
  expect(classesOf(actual, numClasses)).toEqual(classesOf(expected, numClasses));
}

describe.each(['onnx', 'tfjs', 'js'] as const)('exportModel() to %s', (format) => {
  test('computes what the reference computes, for random models', async () => {
    await fc.assert(
      fc.asyncProperty(hyperparameters, fc.nat(), async (values, seed) => {
        const one = caseOf(values, seed);
        expectSame(await RUNTIMES[format](one.checkpoint, one.images), one);
      }),
      { numRuns: 12 },
    );
  });
});

const python = findPython();
describe.skipIf(python === null)('exportModel() to Python', () => {
  test('passes onnx.checker, loads strictly, and computes what the reference computes', async () => {
    const random = fc.sample(hyperparameters, 12).map((values, seed) => caseOf(values, seed));
    const answers = await predictInPython(python!, random);
    random.forEach((one, index) => {
      expectSame(answers[index].pytorch, one);
      expectSame(answers[index].onnx, one);
    });
  });
});

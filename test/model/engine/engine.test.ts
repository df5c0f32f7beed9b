/**
 * The contract of src/model/engine/engine.ts, the same cases for every engine of test/support/engines.ts.
 */
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Batch } from '../../../src/model/engine/tree-sum.js';
import { Regularizer } from '../../../src/model/regularizer.js';
import type { Engine, LossSum, TrainingLoss } from '../../../src/model/engine/engine.js';
import type { Split } from '../../../src/model/data/dataset.js';
import {
  ACTIVATIONS,
  buildModel,
  LENET5,
  POOLS,
  type Hyperparameters,
  type Model,
} from '../../../src/model/lenet.js';
import { relativeDistance } from '../../../src/model/engine/proof.js';
import { createSimdEngine } from '../../../src/model/engine/simd/node.js';
import { initParams } from '../../../src/model/init.js';
import { createReferenceEngine } from '../../../src/model/engine/reference.js';
import { createRandom } from '../../../src/shared/random.js';
import { engines, withEngine } from '../../support/engines.js';
import { IMAGE_BYTES, mnistBatch } from '../../support/mnist.js';
import '../../support/tensors.js';
import { paramTensorsOf } from '../../../src/model/param-tensors.js';
import { checkedDirection, hashedParams } from '../../support/tensors.js';

interface Golden {
  readonly name: string;
  readonly file: string;
  readonly numImages: number;
  readonly scale: number;
  readonly hyperparameters: Hyperparameters;
  readonly lossSum: number;
  readonly numCorrect: number;
  readonly predictions: readonly number[];
}

const goldenFolder = new URL('../../golden/', import.meta.url);
const golden = JSON.parse(
  readFileSync(new URL('gradients.json', goldenFolder), 'utf8'),
) as Golden[];

function readFloats(file: string): Float32Array {
  const bytes = Uint8Array.from(readFileSync(new URL(file, goldenFolder)));
  return new Float32Array(bytes.buffer);
}

const lenet5 = buildModel(LENET5);
const SCALE = 0.5;

/** A small one, for cases that call the engine often. */
const SMALL: Hyperparameters = { ...LENET5, channels: [2, 3], hidden: [12] };

const ACTIVATIONS_AND_POOLS = ACTIVATIONS.flatMap((activation) =>
  POOLS.map((pool) => ({ activation, pool })),
);

const ODD_HYPERPARAMETERS: readonly Partial<Hyperparameters>[] = [
  { kernelSize: 3 },
  { kernelSize: 1, channels: [3] },
  { kernelSize: 4, padding: 0, channels: [4, 8] },
  { stride: 2, kernelSize: 3, padding: 1 },
  { stride: 3, channels: [7], padding: 0 },
  { hidden: [] },
  { hidden: [1] },
  { hidden: [33, 17, 5] },
  { channels: [1], hidden: [10] },
  { channels: [7, 5] },
  { channels: [17, 1], hidden: [16] },
  { channels: [5, 7, 1], kernelSize: 3, hidden: [12] },
  { kernelSize: 7, padding: 3, channels: [2, 4] },
  // A convolution above one of a single channel: the row kernel is not for it.
  { channels: [1, 8], padding: 0 },
  { channels: [1, 16], padding: 0 },
  { channels: [1, 1] },
  ...[1, 4, 5, 8].map((padding) => ({ channels: [1, 8], padding })),
  { channels: [6, 1, 8], padding: 10 },
  { padding: 8, kernelSize: 9, channels: [3], stride: 4 },
];

/** Every image is its own: random bytes, about half of them zero. */
function noiseBatch(count: number): Split {
  const random = createRandom(1, 'noise');
  const images = Uint8Array.from({ length: count * IMAGE_BYTES }, () =>
    Math.max(0, random.below(512) - 256),
  );
  return { images, labels: Uint16Array.from({ length: count }, () => random.below(10)) };
}

/** As the images of a run with dropout and label smoothing, in its third epoch. */
function regularized(
  model: Model,
  batch: Split,
  { dropout, labelSmoothing }: { readonly dropout: number; readonly labelSmoothing: number },
): Batch {
  const regularizer = new Regularizer(model, { seed: 4, augment: [], dropout, labelSmoothing });
  return regularizer.apply(
    batch,
    Uint32Array.from(batch.labels, (_, i) => i),
    2,
  );
}

async function gradientOf(
  engine: Engine,
  { images, labels, loss }: Split & { readonly loss?: TrainingLoss | undefined },
): Promise<LossSum & { gradient: Float32Array }> {
  const out = engine.allocateGradient();
  const lossSum = await engine.gradient(images, labels, out, loss);
  return { ...lossSum, gradient: out.slice() };
}

async function reference(model: Model, params: Float32Array, batch: Batch) {
  return withEngine({ create: createReferenceEngine }, model, params, (engine) =>
    gradientOf(engine, batch),
  );
}

let batch16: Split;
beforeAll(async () => {
  batch16 = await mnistBatch(16);
});

describe.each(engines)('$name engine', (entry) => {
  const { tolerance, isSlow = false } = entry;

  test.each(golden)('gradient() agrees with PyTorch: $name', async (expected) => {
    const model = buildModel(expected.hyperparameters);
    const params = hashedParams(model, expected.scale);
    await withEngine(entry, model, params, async (engine) => {
      const { gradient, lossSum, numCorrect } = await gradientOf(engine, batch16);
      expect(gradient).toAgreePerTensor(model, readFloats(expected.file), tolerance);
      expect(Math.abs(lossSum / expected.lossSum - 1)).toBeLessThan(tolerance);
      expect(numCorrect).toBe(expected.numCorrect);
      const { predictions } = await engine.evaluate(batch16.images, batch16.labels);
      expect([...predictions]).toEqual(expected.predictions);
    });
  });

  test.each([
    { dropout: 0, labelSmoothing: 0.1 },
    { dropout: 0.5, labelSmoothing: 0 },
    { dropout: 0.3, labelSmoothing: 0.4 },
    { dropout: 0.99, labelSmoothing: 0.99 },
  ])('gradient() agrees with the reference: $dropout, $labelSmoothing', async (training) => {
    for (const activation of ACTIVATIONS) {
      // 17: more than a chunk of the simd engine, and one that does not fill a vector.
      for (const numImages of [1, 5, 17]) {
        const model = buildModel({ ...SMALL, hidden: [12, 7], activation });
        const params = hashedParams(model, 1);
        const batch = regularized(model, noiseBatch(numImages), training);
        const expected = await reference(model, params, batch);
        await withEngine(entry, model, params, async (engine) => {
          const plain = await gradientOf(engine, { ...batch, loss: undefined });
          const { gradient, lossSum, numCorrect } = await gradientOf(engine, batch);
          expect(gradient).toAgreePerTensor(model, expected.gradient, tolerance);
          expect(Math.abs(lossSum / expected.lossSum - 1)).toBeLessThan(tolerance);
          expect(numCorrect).toBe(expected.numCorrect);
          // It leaves nothing behind.
          const again = await gradientOf(engine, { ...batch, loss: undefined });
          expect(again.gradient).toEqualBits(plain.gradient);
          expect(again.lossSum).toBe(plain.lossSum);
        });
      }
    }
  });

  test('gradient() refuses masks of another number of images', async () => {
    const model = buildModel(SMALL);
    const batch = regularized(model, noiseBatch(3), { dropout: 0.5, labelSmoothing: 0 });
    const { images, labels } = noiseBatch(2);
    await withEngine(entry, model, hashedParams(model, 1), async (engine) => {
      await expect(
        (async () => engine.gradient(images, labels, engine.allocateGradient(), batch.loss))(),
      ).rejects.toThrow('Got 36 masks, expected 24');
    });
  });

  test.each(ACTIVATIONS_AND_POOLS)(
    'gradient() agrees with central differences: $activation, $pool',
    async (change) => {
      const model = buildModel({ ...SMALL, ...change });
      const params = hashedParams(model, 1);
      const { images, labels } = noiseBatch(4);
      // A step over a kink changes the slope; in images of noise there are many kinks, but small ones.
      const isSmooth = change.activation !== 'relu' && change.pool === 'avg';
      await withEngine(entry, model, params, async (engine) => {
        const lossAt = async (moved: Float32Array): Promise<number> => {
          engine.setParams(moved);
          let sum = 0;
          for (let i = 0; i < labels.length; i++) {
            const image = images.subarray(i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES);
            sum += (await engine.evaluate(image, labels.subarray(i, i + 1))).lossSum;
          }
          return sum;
        };
        const { gradient } = await gradientOf(engine, { images, labels });
        for (const { name, offset, length } of paramTensorsOf(model)) {
          const tensor = gradient.subarray(offset, offset + length);
          const direction = checkedDirection(tensor);
          const step = (h: number): Float32Array => {
            const moved = params.slice();
            direction.forEach((d, index) => (moved[offset + index] += h * d));
            return moved;
          };
          const h = 0.003;
          const difference = ((await lossAt(step(h))) - (await lossAt(step(-h)))) / (2 * h);
          const slope = direction.reduce((sum, d, index) => sum + d * tensor[index], 0);
          // Losses are float32 values of about 3: 1e-4 in the difference of four. The rest is for curvature and kinks.
          const allowed = 2e-4 + (isSmooth ? 1e-3 : 4e-2) * Math.abs(slope);
          expect
            .soft(Math.abs(difference - slope), `${name}: ${difference}, expected ${slope}`)
            .toBeLessThan(allowed);
        }
      });
    },
  );

  test.each([1, 3, 4, 5, 16, 17])(
    'gradient() agrees with the reference for %i images',
    async (n) => {
      const batch = await mnistBatch(n, 100);
      const params = hashedParams(lenet5, SCALE);
      const expected = await reference(lenet5, params, batch);
      await withEngine(entry, lenet5, params, async (engine) => {
        const { gradient, lossSum, numCorrect } = await gradientOf(engine, batch);
        expect(gradient).toAgreePerTensor(lenet5, expected.gradient, tolerance);
        expect(Math.abs(lossSum / expected.lossSum - 1)).toBeLessThanOrEqual(tolerance);
        expect(numCorrect).toBe(expected.numCorrect);
      });
    },
  );

  test.each(ACTIVATIONS_AND_POOLS)(
    'gradient() agrees with the reference for $activation and $pool',
    async (change) => {
      const model = buildModel({ ...LENET5, ...change });
      const params = hashedParams(model, SCALE / 2);
      const batch = noiseBatch(5);
      const expected = await reference(model, params, batch);
      await withEngine(entry, model, params, async (engine) => {
        const { gradient } = await gradientOf(engine, batch);
        expect(gradient).toAgreePerTensor(model, expected.gradient, tolerance);
      });
    },
  );

  describe.each(ODD_HYPERPARAMETERS)('with %o', (change) => {
    test.each(isSlow ? [5] : [1, 5, 16])(
      'gradient() and evaluate() agree with the reference for %i images',
      async (n) => {
        const model = buildModel({ ...LENET5, ...change });
        const params = hashedParams(model, SCALE);
        const batch = noiseBatch(n);
        const expected = await reference(model, params, batch);
        await withEngine(entry, model, params, async (engine) => {
          const { gradient, numCorrect } = await gradientOf(engine, batch);
          expect(gradient).toAgreePerTensor(model, expected.gradient, tolerance);
          expect(numCorrect).toBe(expected.numCorrect);
          const evaluation = await engine.evaluate(batch.images, batch.labels);
          expect(Math.abs(evaluation.lossSum / expected.lossSum - 1)).toBeLessThanOrEqual(
            tolerance,
          );
          expect(evaluation.numCorrect).toBe(expected.numCorrect);
        });
      },
    );
  });

  test('gradient() depends on its arguments and θ alone, not on earlier calls', async () => {
    const params = hashedParams(lenet5, SCALE);
    const batch = await mnistBatch(5, 200);
    const fresh = await withEngine(entry, lenet5, params, (engine) => gradientOf(engine, batch));
    await withEngine(entry, lenet5, hashedParams(lenet5, 1), async (engine) => {
      await gradientOf(engine, noiseBatch(17));
      await engine.evaluate(batch16.images, batch16.labels);
      engine.setParams(params);
      await engine.predict(batch16.images);
      const again = await gradientOf(engine, batch);
      if (engine.isExact) {
        expect(again.gradient).toEqualBits(fresh.gradient);
        expect(again.lossSum).toBe(fresh.lossSum);
      } else {
        expect(again.gradient).toAgreePerTensor(lenet5, fresh.gradient, tolerance);
      }
    });
  });

  test('gradient() overwrites what was in its output', async () => {
    await withEngine(entry, lenet5, hashedParams(lenet5, SCALE), async (engine) => {
      const { images, labels } = batch16;
      const out = engine.allocateGradient();
      await engine.gradient(images, labels, out);
      const first = out.slice();
      out.fill(NaN);
      await engine.gradient(images, labels, out);
      if (engine.isExact) expect(out.slice()).toEqualBits(first);
      else expect(out.slice()).toAgreePerTensor(lenet5, first, tolerance);
    });
  });

  test('gradient() writes to an array that is not the engine’s own as well', async () => {
    await withEngine(entry, lenet5, hashedParams(lenet5, SCALE), async (engine) => {
      const { gradient } = await gradientOf(engine, batch16);
      const buffer = new Float32Array(lenet5.numParams + 2).fill(7);
      const out = buffer.subarray(1, -1);
      await engine.gradient(batch16.images, batch16.labels, out);
      if (engine.isExact) expect(out).toEqualBits(gradient);
      else expect(out).toAgreePerTensor(lenet5, gradient, tolerance);
      expect([buffer[0], buffer.at(-1)]).toEqual([7, 7]);
    });
  });

  test('setParams() copies', async () => {
    const params = hashedParams(lenet5, SCALE);
    await withEngine(entry, lenet5, params, async (engine) => {
      const before = await engine.predict(batch16.images);
      params.fill(0);
      expect([...(await engine.predict(batch16.images))]).toEqual([...before]);
    });
  });

  test('gradient(), evaluate() and predict() tell the same', async () => {
    await withEngine(entry, lenet5, hashedParams(lenet5, SCALE), async (engine) => {
      for (const n of isSlow ? [1, 17] : [1, 3, 4, 5, 16, 17, 100]) {
        const { images, labels } = await mnistBatch(n, 300);
        const evaluation = await engine.evaluate(images, labels);
        const probabilities = await engine.predict(images);
        const { lossSum, numCorrect } = await gradientOf(engine, { images, labels });
        expect(numCorrect).toBe(evaluation.numCorrect);
        expect(evaluation.predictions.length).toBe(n);
        expect(probabilities.length).toBe(10 * n);
        if (engine.isExact) expect(lossSum).toBe(evaluation.lossSum);

        let lossFromProbabilities = 0;
        let correctPredictions = 0;
        labels.forEach((label, index) => {
          const row = probabilities.subarray(10 * index, 10 * index + 10);
          lossFromProbabilities -= Math.log(row[label]);
          const largest = row.indexOf(Math.max(...row));
          expect(evaluation.predictions[index]).toBe(largest);
          if (evaluation.predictions[index] === label) correctPredictions += 1;
          // Ten float32 roundings.
          expect(Math.abs(row.reduce((sum, p) => sum + p, 0) - 1)).toBeLessThan(2e-6);
        });
        expect(correctPredictions).toBe(numCorrect);
        // The engine's own sums of float32 terms.
        expect(Math.abs(lossFromProbabilities / evaluation.lossSum - 1)).toBeLessThan(1e-5);
        expect(Math.abs(lossSum / evaluation.lossSum - 1)).toBeLessThan(1e-5);
      }
    });
  });

  test('evaluate() takes the first of equal logits', async () => {
    await withEngine(entry, lenet5, new Float32Array(lenet5.numParams), async (engine) => {
      const { predictions, numCorrect, lossSum } = await engine.evaluate(
        batch16.images,
        batch16.labels,
      );
      expect([...predictions]).toEqual(Array.from({ length: 16 }, () => 0));
      expect(numCorrect).toBe(batch16.labels.filter((label) => label === 0).length);
      expect(Math.abs(lossSum / (16 * Math.log(10)) - 1)).toBeLessThan(1e-6);
    });
  });

  test('loss and gradient stay finite where the logits are far apart', async () => {
    const model = buildModel({ ...SMALL, activation: 'relu' });
    const params = hashedParams(model, 20);
    const expected = await reference(model, params, batch16);
    expect(expected.lossSum).toBeGreaterThan(1000);
    await withEngine(entry, model, params, async (engine) => {
      const { lossSum, gradient } = await gradientOf(engine, batch16);
      expect(Math.abs(lossSum / expected.lossSum - 1)).toBeLessThan(1e-4);
      expect(gradient.every(Number.isFinite)).toBe(true);
      const probabilities = await engine.predict(batch16.images);
      expect(probabilities.every((p) => p >= 0 && p <= 1)).toBe(true);
    });
  });

  test('add() sums element by element in float32', async () => {
    await withEngine(entry, lenet5, hashedParams(lenet5, SCALE), (engine) => {
      const sum = engine.allocateGradient();
      const term = engine.allocateGradient();
      expect(sum.every((value) => Object.is(value, 0))).toBe(true);
      sum.set(hashedParams(lenet5, 3));
      term.set(hashedParams(lenet5, 1).reverse());
      const expected = sum.map((value, index) => Math.fround(value + term[index]));
      const termBefore = term.slice();
      engine.add(sum, term);
      expect(sum.slice()).toEqualBits(expected);
      expect(term.slice()).toEqualBits(termBefore);
    });
  });

  test('add() takes arrays that are not the engine’s own', async () => {
    await withEngine(entry, lenet5, hashedParams(lenet5, SCALE), (engine) => {
      const sum = hashedParams(lenet5, 3);
      const term = hashedParams(lenet5, 1);
      const expected = sum.map((value, index) => Math.fround(value + term[index]));
      engine.add(sum, term);
      expect(sum).toEqualBits(expected);
    });
  });

  test('refuses what does not fit', async () => {
    await withEngine(entry, lenet5, hashedParams(lenet5, SCALE), async (engine) => {
      const { images, labels } = batch16;
      const out = engine.allocateGradient();
      const attempts: readonly (() => unknown)[] = [
        () => engine.setParams(new Float32Array(3)),
        () => engine.gradient(images.subarray(1), labels, out),
        () => engine.gradient(images, labels.subarray(1), out),
        () => engine.gradient(images, labels, out.subarray(1)),
        () => engine.gradient(new Uint8Array(0), new Uint16Array(0), out),
        () => engine.gradient(images, labels.slice().fill(10), out),
        () => engine.evaluate(images, labels.subarray(1)),
        () => engine.predict(images.subarray(1)),
        () => engine.add(out, new Float32Array(3)),
      ];
      for (const attempt of attempts) {
        // Engines may answer at once or later.
        const answer = Promise.resolve().then(attempt);
        await expect(answer, attempt.toString()).rejects.toThrow(RangeError);
      }
    });
  });
});

describe('the simd engine on colour images', () => {
  test.each(ACTIVATIONS_AND_POOLS)(
    'has the whole gradient within 1e-6 of float64: $activation, $pool',
    async (change) => {
      const data = { input: { channels: 3, height: 32, width: 32 }, numClasses: 12 };
      const model = buildModel({ ...LENET5, ...change }, data);
      const random = createRandom(1, 'colours');
      const batch = {
        images: Uint8Array.from({ length: 16 * 3 * 32 * 32 }, () => random.below(256)),
        labels: Uint16Array.from({ length: 16 }, () => random.below(12)),
      };
      const params = initParams(model, 1);
      const expected = await reference(model, params, batch);
      const simd = createSimdEngine(model);
      simd.setParams(params);
      const { gradient } = await gradientOf(simd, batch);
      expect(relativeDistance(gradient, expected.gradient)).toBeLessThan(1e-6);
    },
  );
});

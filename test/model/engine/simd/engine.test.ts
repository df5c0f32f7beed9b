/** What the `simd` engine promises beyond the contract of all engines (engine.test.ts): its bits. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { benchEngine } from '../../../../src/model/engine/bench.js';
import {
  ACTIVATIONS,
  buildModel,
  LENET5,
  POOLS,
  type Hyperparameters,
  type Model,
} from '../../../../src/model/lenet.js';
import { createReferenceEngine } from '../../../../src/model/engine/reference.js';
import { createSimdEngine } from '../../../../src/model/engine/simd/node.js';
import { type SimdEngine } from '../../../../src/model/engine/simd/engine.js';
import { createRandom } from '../../../../src/shared/random.js';
import { hashedParams, norm } from '../../../support/tensors.js';
import { IMAGE_BYTES } from '../../../support/mnist.js';
import '../../../support/tensors.js';

const lenet5 = buildModel(LENET5);

interface Batch {
  readonly images: Uint8Array;
  readonly labels: Uint16Array;
}

function noise(numImages: number, seed = 1): Batch {
  const random = createRandom(seed, 'noise');
  return {
    images: Uint8Array.from({ length: numImages * IMAGE_BYTES }, () =>
      Math.max(0, random.below(512) - 256),
    ),
    labels: Uint16Array.from({ length: numImages }, () => random.below(10)),
  };
}

function part({ images, labels }: Batch, from: number, to: number): Batch {
  return {
    images: images.subarray(from * IMAGE_BYTES, to * IMAGE_BYTES),
    labels: labels.subarray(from, to),
  };
}

function createWith(model: Model, params: Float32Array): SimdEngine {
  const engine = createSimdEngine(model);
  engine.setParams(params);
  return engine;
}

function gradientOf(engine: SimdEngine, { images, labels }: Batch) {
  const gradient = new Float32Array(engine.model.numParams);
  const sums = engine.gradient(images, labels, gradient);
  return { gradient, ...sums };
}

function sha256(values: Float32Array): string {
  return createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex');
}

function variants(...changes: Partial<Hyperparameters>[]): [string, Model][] {
  return changes.map((change) => [
    JSON.stringify(change),
    buildModel({ ...LENET5, channels: [4, 6], hidden: [20], ...change }),
  ]);
}

const ALL_KINDS = variants(
  ...ACTIVATIONS.flatMap((activation) => POOLS.map((pool) => ({ activation, pool }))),
  { kernelSize: 3 },
  { kernelSize: 3, stride: 2, channels: [3, 5] },
  { channels: [3, 5, 2], kernelSize: 4, padding: 5 },
  { channels: [2, 3], padding: 4 },
  { channels: [1], hidden: [] },
);

describe('bits of simd/1', () => {
  // A change of these is a change of the engine's bits: give it a new fingerprint.
  test('gradient() of 16 images has the bits of its fingerprint', () => {
    const engine = createWith(lenet5, hashedParams(lenet5, 0.5));
    expect(engine.fingerprint).toBe('simd/1');
    const { gradient, lossSum } = gradientOf(engine, noise(16));
    expect(sha256(gradient)).toBe(
      'ed317950a0c6a7746c619239cd02fddf75f17714ad86c6c695c1e4225daba819',
    );
    expect(lossSum).toBe(40.4830436706543);
  });

  test.each(ALL_KINDS)('gradient() has the bits of its fingerprint: %s', (_, model) => {
    const engine = createWith(model, hashedParams(model, 0.5));
    const hashes = [1, 4, 17].map((n) => sha256(gradientOf(engine, noise(n)).gradient));
    expect(hashes).toMatchSnapshot();
  });

  test('gradient() has the same bits in every engine and every call', () => {
    const params = hashedParams(lenet5, 0.5);
    const batch = noise(16);
    const engine = createWith(lenet5, params);
    const first = gradientOf(engine, batch);
    for (let i = 0; i < 300; i++) {
      // V8 compiles the module a second time meanwhile.
      expect(gradientOf(engine, batch).lossSum).toBe(first.lossSum);
    }
    expect(gradientOf(engine, batch).gradient).toEqualBits(first.gradient);
    expect(gradientOf(createWith(lenet5, params), batch).gradient).toEqualBits(first.gradient);
  });

  test.each(ALL_KINDS)('gradient() does not depend on what memory held: %s', (_, model) => {
    const params = hashedParams(model, 0.5);
    const batches = [
      noise(1, 2),
      noise(2, 3),
      noise(9, 4),
      noise(13, 5),
      noise(16, 6),
      noise(21, 7),
    ];
    const engine = createWith(model, params);
    // NaN everywhere that a call writes to …
    engine.setParams(params.map(() => NaN));
    expect(gradientOf(engine, noise(16, 8)).lossSum).toBeNaN();
    engine.setParams(params);
    for (const batch of [...batches, ...batches.toReversed()]) {
      const expected = gradientOf(createWith(model, params), batch);
      const actual = gradientOf(engine, batch);
      expect(actual.gradient).toEqualBits(expected.gradient);
      expect(actual.lossSum).toBe(expected.lossSum);
    }
  });

  test('evaluate() gives an image the same prediction in any company', () => {
    const engine = createWith(lenet5, hashedParams(lenet5, 1));
    const batch = noise(37);
    const together = engine.predict(batch.images);
    for (let i = 0; i < 37; i++) {
      const alone = engine.predict(part(batch, i, i + 1).images);
      expect(alone).toEqualBits(together.slice(10 * i, 10 * i + 10));
    }
  });
});

describe('accuracy', () => {
  test.each([1, 3, 4, 5, 8, 16, 17, 40])(
    'gradient() of %i images is within float32 rounding of float64',
    async (n) => {
      const params = hashedParams(lenet5, 0.5);
      const batch = noise(n);
      const reference = createReferenceEngine(lenet5);
      reference.setParams(params);
      const expected = new Float32Array(lenet5.numParams);
      const sums = await reference.gradient(batch.images, batch.labels, expected);
      const { gradient, lossSum } = gradientOf(createWith(lenet5, params), batch);
      const error = norm(gradient.map((g, i) => g - expected[i])) / norm(expected);
      // 4 units of 2⁻²⁴; that of a plain float32 sum is about 2.
      expect(error).toBeLessThan(2.4e-7 * 1.5);
      expect(Math.abs(lossSum / sums.lossSum - 1)).toBeLessThan(5e-7);
    },
  );

  test.each(ALL_KINDS)('saturation gives no NaN: %s', (_, model) => {
    const { activation } = model.hyperparameters;
    const engine = createWith(model, hashedParams(model, activation === 'relu' ? 30 : 1e4));
    const { gradient, lossSum } = gradientOf(engine, noise(5));
    expect(lossSum).toBeGreaterThan(0);
    expect(gradient.every(Number.isFinite)).toBe(true);
    expect(engine.predict(noise(5).images).every(Number.isFinite)).toBe(true);
  });

  test.each(ALL_KINDS)('a θ that is not finite shows: %s', (_, model) => {
    const batch = noise(5);
    for (const bad of [NaN, Infinity, -Infinity]) {
      for (const layer of model.layers) {
        if (layer.kind === 'pool') continue;
        for (const { offset, length } of [layer.weights, layer.biases]) {
          const params = hashedParams(model, 0.5);
          params[offset + length - 1] = bad;
          const engine = createWith(model, params);
          const { lossSum, gradient } = gradientOf(engine, batch);
          expect(Number.isFinite(lossSum) && gradient.every(Number.isFinite)).toBe(false);
          expect(engine.evaluate(batch.images, batch.labels).lossSum).not.toBeGreaterThan(
            -Infinity,
          );
        }
      }
    }
  });
});

describe('buffers', () => {
  test('allocateGradient() goes on with ordinary arrays when its memory is full', () => {
    const engine = createSimdEngine(lenet5, { numGradients: 1 });
    engine.setParams(hashedParams(lenet5, 0.5));
    const { images, labels } = noise(4);
    const [inside, outside] = [engine.allocateGradient(), engine.allocateGradient()];
    expect(inside.buffer).not.toBe(outside.buffer);
    engine.gradient(images, labels, inside);
    engine.gradient(images, labels, outside);
    expect(outside).toEqualBits(inside.slice());
  });

  test('a large model is refused with a hint', () => {
    const huge = buildModel({ ...LENET5, hidden: [60_000, 60_000] });
    expect(() => createSimdEngine(huge)).toThrow(RangeError);
    expect(() => createSimdEngine(huge)).toThrow(/smaller model/);
  });
});

test('profile() times every layer', () => {
  const engine = createWith(lenet5, hashedParams(lenet5, 0.5));
  const { images, labels } = noise(17);
  const times = engine.profile(images, labels);
  expect(times.map(({ layer }) => layer)).toEqual(['C1 + S2', 'C3 + S4', 'F5', 'F6', 'Output']);
  expect(times.every(({ forwardMs, backwardMs }) => forwardMs >= 0 && backwardMs >= 0)).toBe(true);
});

test('benchEngine() gives a figure for each size and layer', async () => {
  let ms = 0;
  const bench = await benchEngine(createSimdEngine(lenet5), hashedParams(lenet5, 0.5), {
    sizes: [1, 4],
    timing: { msPerFigure: 10, now: () => ms++ },
  });
  expect(bench.sizes.map(({ numImages }) => numImages)).toEqual([1, 4]);
  expect(bench.sizes[1].gradient).toEqual({ best: 4000, median: 4000 });
  expect(bench.layers.length).toBe(5);
  expect(bench.setParamsMs).toBe(1);
});

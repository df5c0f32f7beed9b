/**
 * The engines against the reference, and the reference against central differences, on models, inputs and batches drawn
 * at random: whatever a layer's shape makes of the choice of kernels, every tensor is compared.
 *
 * LOCKSTEP_RANDOM_MODELS says how many models are drawn, LOCKSTEP_RANDOM_SEED from which seed.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Engine, MaybePromise } from '../../../src/model/engine/engine.js';
import { largestDistance, NUM_DRAWS } from '../../../src/model/engine/proof.js';
import { createReferenceEngine } from '../../../src/model/engine/reference.js';
import { createSimdEngine } from '../../../src/model/engine/simd/node.js';
import { initParams } from '../../../src/model/init.js';
import {
  ACTIVATIONS,
  buildModel,
  imageBytes,
  POOLS,
  type DataShape,
  type Hyperparameters,
  type Model,
} from '../../../src/model/lenet.js';
import { paramTensorsOf } from '../../../src/model/param-tensors.js';
import { Regularizer } from '../../../src/model/regularizer.js';
import { createRandom } from '../../../src/shared/random.js';
import { effort } from '../../support/effort.js';
import { checkedDirection } from '../../support/tensors.js';
import { createOn, tfjsBackends } from '../../support/tfjs.js';

const NUM_MODELS = Number(process.env.LOCKSTEP_RANDOM_MODELS ?? effort(200, 60));
const SEED = Number(process.env.LOCKSTEP_RANDOM_SEED ?? 1);
/** Products of the reference's forward pass at most, so that a model takes milliseconds. */
const MAX_MULTIPLY_ADDS = 400_000;
/**
 * Of float32 against float64, per tensor. The sums of Winograd's kernels lose most where a gradient nearly cancels; a
 * wrong kernel is off by a tenth and more.
 */
const TOLERANCE = 1e-4;

interface Case {
  readonly hyperparameters: Hyperparameters;
  readonly data: DataShape;
  readonly numImages: number;
  readonly seed: number;
  readonly dropout: number;
  readonly labelSmoothing: number;
}

/** One more often than any other, as that is where the row kernel was wrong. */
const channels = fc.oneof(fc.constantFrom(1, 8), fc.integer({ min: 1, max: 17 }));
const side = fc.oneof(fc.constant(28), fc.integer({ min: 4, max: 40 }));
const cases = fc
  .record({
    hyperparameters: fc.record({
      kernelSize: fc.oneof(fc.constant(5), fc.integer({ min: 1, max: 7 })),
      channels: fc.array(channels, { minLength: 1, maxLength: 3 }),
      padding: fc.integer({ min: 0, max: 10 }),
      stride: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 3 })),
      hidden: fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 2 }),
      activation: fc.constantFrom(...ACTIVATIONS),
      pool: fc.constantFrom(...POOLS),
    }),
    data: fc.record({
      input: fc.record({ channels: fc.integer({ min: 1, max: 4 }), height: side, width: side }),
      numClasses: fc.oneof(fc.constant(10), fc.integer({ min: 2, max: 1000 })),
    }),
    numImages: fc.oneof(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 15, max: 18 })),
    seed: fc.nat(),
    dropout: fc.constantFrom(0, 0.25, 0.5),
    labelSmoothing: fc.constantFrom(0, 0.1, 0.9),
  })
  .filter((drawn) => (modelOf(drawn)?.numMultiplyAdds ?? Infinity) <= MAX_MULTIPLY_ADDS);

function modelOf({ hyperparameters, data }: Case): Model | null {
  try {
    return buildModel(hyperparameters, data);
  } catch {
    return null;
  }
}

function drawn(model: Model, { numImages, seed, dropout, labelSmoothing }: Case) {
  const random = createRandom(seed, 'batch');
  const params = initParams(model, seed).map((weight) => weight + 0.1 * (random.float() - 0.5));
  const batch = {
    images: Uint8Array.from({ length: numImages * imageBytes(model.input) }, () =>
      random.below(256),
    ),
    labels: Uint16Array.from({ length: numImages }, () => random.below(model.numClasses)),
  };
  const regularizer = new Regularizer(model, { seed, augment: [], dropout, labelSmoothing });
  const numbers = Uint32Array.from({ length: numImages }, (_, i) => i);
  return { params, ...regularizer.apply(batch, numbers, 0) };
}

interface Subject {
  readonly name: string;
  readonly numModels: number;
  readonly create: (model: Model, one: Case) => MaybePromise<Engine>;
}

const subjects: readonly Subject[] = [
  {
    name: 'simd',
    numModels: NUM_MODELS,
    create: (model) => createSimdEngine(model, { numGradients: 0 }),
  },
  ...tfjsBackends.map((backend) => ({
    name: `tfjs ${backend.name}`,
    // A model takes pure JavaScript a tenth of a second, and a software driver seconds to compile.
    numModels: Math.ceil(NUM_MODELS / (backend.name === 'webgpu' ? 100 : 10)),
    // Both ways to convolve one channel.
    create: (model: Model, { seed }: Case) => createOn(backend, model, seed % 2 === 0),
  })),
];

async function compare({ create }: Subject, model: Model, one: Case) {
  const { params, images, labels, loss } = drawn(model, one);
  const engine = await create(model, one);
  const reference = createReferenceEngine(model);
  const gradients = [];
  const lossSums = [];
  for (const each of [engine, reference]) {
    each.setParams(params);
    const out = new Float32Array(model.numParams);
    lossSums.push((await each.gradient(images, labels, out, loss)).lossSum);
    gradients.push(out);
  }
  expect(Math.abs(lossSums[0] / lossSums[1] - 1)).toBeLessThan(1e-5);
  // What takes nearly as long again is asked of some.
  if (one.seed % 4 < 2) {
    const { lossSum } = await engine.evaluate(images, labels);
    const expected = await reference.evaluate(images, labels);
    expect(Math.abs(lossSum / expected.lossSum - 1)).toBeLessThan(1e-5);
    const [own, others] = [await engine.predict(images), await reference.predict(images)];
    expect(largestOf(own.map((p, i) => Math.abs(p - others[i])))).toBeLessThan(1e-5);
  }
  await engine.dispose();
  return largestDistance(model, gradients[0], gradients[1]);
}

function largestOf(values: Float32Array): number {
  return values.reduce((largest, value) => Math.max(largest, value), 0);
}

test.each(subjects)(
  '$name: gradient(), and for some evaluate() and predict(), of $numModels random models agree with the reference',
  { timeout: 10_000 + 200 * NUM_MODELS },
  async (subject) => {
    let worst = { distance: 0, tensor: '', one: '' };
    let numRedrawn = 0;
    await fc.assert(
      fc.asyncProperty(cases, async (one) => {
        const model = modelOf(one)!;
        let last = await compare(subject, model, one);
        // See NUM_DRAWS: chance passes, a wrong kernel is wrong in every draw.
        for (let draw = 1; last.distance >= TOLERANCE && draw < NUM_DRAWS; draw++) {
          numRedrawn++;
          last = await compare(subject, model, { ...one, seed: one.seed + draw });
        }
        if (last.distance > worst.distance) worst = { ...last, one: JSON.stringify(one) };
        expect(last.distance, last.tensor).toBeLessThan(TOLERANCE);
      }),
      { numRuns: subject.numModels, seed: SEED },
    );
    if (NUM_MODELS > 1000)
      console.log(
        subject.numModels,
        'models,',
        numRedrawn,
        'redrawn, worst',
        JSON.stringify(worst),
      );
  },
);

/** Steps along a direction, of which one must show the slope: a long one meets kinks, a short one the rounding of the loss. */
const STEPS = [0.01, 0.003, 0.001, 0.0003];
/** Of the slope: for curvature and kinks. A wrong factor, or a tensor of zeros, is off by more. */
const SLOPE_TOLERANCE = 0.04;

/**
 * The tensor whose gradient by the reference is farthest from the central differences of its loss, in units of what is
 * allowed.
 */
function compareWithDifferences(model: Model, one: Case) {
  const { params, images, labels, loss: training } = drawn(model, one);
  const engine = createReferenceEngine(model);
  const scratch = new Float32Array(model.numParams);
  const lossAt = (moved: Float32Array) => {
    engine.setParams(moved);
    const sums = training
      ? engine.gradient(images, labels, scratch, training)
      : engine.evaluate(images, labels);
    if (sums instanceof Promise) throw new TypeError('Expected an engine that does not wait');
    return sums.lossSum;
  };
  engine.setParams(params);
  const gradient = new Float32Array(model.numParams);
  void engine.gradient(images, labels, gradient, training);
  const loss = lossAt(params);
  let worst = { tensor: '', distance: -1 };
  for (const { name, offset, length } of paramTensorsOf(model)) {
    const tensor = gradient.subarray(offset, offset + length);
    const direction = checkedDirection(tensor);
    const slope = direction.reduce((sum, d, index) => sum + d * tensor[index], 0);
    const distances = STEPS.map((h) => {
      const step = (by: number) => {
        const moved = params.slice();
        direction.forEach((d, index) => (moved[offset + index] += by * d));
        return moved;
      };
      const difference = (lossAt(step(h)) - lossAt(step(-h))) / (2 * h);
      // The losses are float32, and so are the parameters that were moved.
      const rounding = (4 * loss * 2 ** -23) / h;
      return Math.abs(difference - slope) / (rounding + 2e-4 + SLOPE_TOLERANCE * Math.abs(slope));
    });
    const distance = Math.min(...distances);
    if (distance > worst.distance) worst = { tensor: name, distance };
  }
  return worst;
}

const NUM_DIFFERENCED = Math.ceil(NUM_MODELS / 5);

test(
  `the reference's gradient of ${NUM_DIFFERENCED} random models agrees with central differences, tensor by tensor`,
  { timeout: 10_000 + 1000 * NUM_DIFFERENCED },
  () => {
    fc.assert(
      fc.property(cases, (one) => {
        const few = { ...one, numImages: 1 };
        const model = modelOf(few)!;
        let last = compareWithDifferences(model, few);
        for (let draw = 1; last.distance >= 1 && draw < NUM_DRAWS; draw++) {
          last = compareWithDifferences(model, { ...few, seed: few.seed + draw });
        }
        expect(last.distance, last.tensor).toBeLessThan(1);
      }),
      { numRuns: NUM_DIFFERENCED, seed: SEED },
    );
  },
);

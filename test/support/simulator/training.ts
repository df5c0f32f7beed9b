/**
 * What is trained in simulations: a few dozen made-up images, a model of some 200 parameters, and the oracle that says
 * what must come out: section 3 of the contract as one plain loop, without coordinator, workers or messages.
 */
import { createHash } from 'node:crypto';
import { Sampler } from '../../../src/coordinator/sampler.js';
import {
  createSamples,
  type LabelledImages,
  type Samples,
} from '../../../src/coordinator/samples.js';
import type { Batch } from '../../../src/model/engine/tree-sum.js';
import type { Engine } from '../../../src/model/engine/engine.js';
import { initParams } from '../../../src/model/init.js';
import { buildModel, DIGITS, MNIST, type Model } from '../../../src/model/lenet.js';
import { Regularizer } from '../../../src/model/regularizer.js';
import { createOptimizer } from '../../../src/model/optimizer.js';
import { createReferenceEngine } from '../../../src/model/engine/reference.js';
import { createSchedule } from '../../../src/model/schedule.js';
import { parseRunConfig, regularizationOf, type RunConfig } from '../../../src/shared/config.js';
import type { EvaluationSet } from '../../../src/shared/protocol.js';
import { createRandom } from '../../../src/shared/random.js';
import { IMAGE_BYTES } from '../mnist.js';

const HYPERPARAMETERS = {
  kernelSize: 5,
  channels: [1],
  padding: 2,
  stride: 3,
  hidden: [4],
  activation: 'tanh',
  pool: 'avg',
} as const;
/** As the coordinator has it; part of the contract. */
export const EVALUATION_BLOCK = 250;

/** A training and all that must come out of it. */
export interface Training {
  readonly name: string;
  readonly config: RunConfig;
  readonly targetAccuracy: number | null;
  /** Of a slice of θ and of gradients. */
  readonly sliceValues: number;
  readonly samples: Samples;
  readonly model: Model;
  readonly regularizer: Regularizer;
  /** A fresh engine; equal calls give equal bits, and cost next to nothing the second time. */
  readonly createEngine: () => Engine;
  /** θ (P,) after each number of updates, from 0 on. */
  readonly params: readonly Float32Array[];
  /** (numSteps,) mean loss and accuracy of each step's batch. */
  readonly steps: readonly Figures[];
  /** By `evaluationKey`. */
  readonly evaluations: ReadonlyMap<string, Figures>;
  /** Updates after which the run ends. */
  readonly numSteps: number;
  readonly weightsSha256: string;
  /** How often each training image was counted, where θ tells it: see `countingEngine`. */
  readonly countsOf: ((params: Float32Array) => number[]) | null;
}

export interface Figures {
  readonly loss: number;
  readonly accuracy: number;
}

export function evaluationKey(set: EvaluationSet, globalStep: number): string {
  return `${set} after ${globalStep}`;
}

interface Recipe {
  readonly name: string;
  readonly engine: 'reference' | 'counting';
  readonly numInFile: number;
  readonly numTest: number;
  /** Stops at the accuracy that the oracle has after so many epochs. */
  readonly targetEpoch?: number;
  /** Values of a slice of θ and of gradients; whole by default. */
  readonly sliceValues?: number;
  readonly config: Partial<RunConfig>;
}

const RECIPES: readonly Recipe[] = [
  {
    name: 'adam',
    engine: 'reference',
    numInFile: 36,
    numTest: 10,
    config: {
      batchSize: 12,
      microBatch: 2,
      epochs: 3,
      optimizer: 'adam',
      lr: 0.01,
      warmupEpochs: 0.5,
    },
  },
  {
    name: 'momentum, validation, a target',
    engine: 'reference',
    numInFile: 46,
    numTest: 12,
    targetEpoch: 2,
    sliceValues: 64,
    config: {
      batchSize: 16,
      microBatch: 3,
      epochs: 4,
      validationSize: 5,
      optimizer: 'momentum',
      lr: 0.05,
      schedule: 'step',
      stepEpochs: 1,
      weightDecay: 0.01,
    },
  },
  {
    name: 'ledger',
    engine: 'counting',
    numInFile: 60,
    numTest: 260,
    config: {
      batchSize: 20,
      microBatch: 2,
      epochs: 3,
      optimizer: 'sgd',
      lr: 1,
      schedule: 'constant',
    },
  },
  {
    name: 'single images',
    engine: 'reference',
    numInFile: 33,
    numTest: 8,
    sliceValues: 100,
    config: {
      batchSize: 11,
      microBatch: 1,
      epochs: 2,
      optimizer: 'adam',
      lr: 0.02,
      seed: 7,
      augment: ['shift', 'rotate=30', 'noise', 'cutout=3'],
      dropout: 0.25,
      labelSmoothing: 0.1,
    },
  },
];

let trainings: Training[] | null = null;

/** The trainings that schedules choose from, made on first use. */
export function allTrainings(): readonly Training[] {
  trainings ??= RECIPES.map((recipe) => createTraining(recipe));
  return trainings;
}

function createTraining(recipe: Recipe): Training {
  const config = parseRunConfig({
    hyperparameters: HYPERPARAMETERS,
    dataset: 'simulated',
    weightDecay: 0,
    ...recipe.config,
  });
  const train = madeUpImages(recipe.numInFile, 0);
  const test = madeUpImages(recipe.numTest, recipe.numInFile);
  const samples = createSamples(
    { input: MNIST.input, classNames: DIGITS, train, test },
    config.validationSize,
  );
  const model = buildModel(config.hyperparameters);
  const createEngine =
    recipe.engine === 'reference'
      ? rememberingEngine(model, createReferenceEngine(model))
      : () => countingEngine(model);
  const regularizer = new Regularizer(model, regularizationOf(config));
  const base = { name: recipe.name, config, samples, model, regularizer, createEngine };
  const whole = runOracle(base, null);
  const target = recipe.targetEpoch;
  const targetAccuracy = target === undefined ? null : whole.accuracies[target - 1];
  const outcome = targetAccuracy === null ? whole : runOracle(base, targetAccuracy);
  return {
    ...base,
    ...outcome,
    targetAccuracy,
    sliceValues: recipe.sliceValues ?? model.numParams,
    countsOf: recipe.engine === 'counting' ? (params) => countsOf(config, samples, params) : null,
  };
}

/**
 * Section 3, word for word:
 *
 *   gᵢ ← Σ_{x ∈ μᵢ} ∇ loss(x; θₜ);  g ← T(0, V) / n;  θₜ₊₁, state ← update(θₜ, state, g, learningRate(t))
 */
function runOracle(
  training: Pick<Training, 'config' | 'samples' | 'model' | 'regularizer' | 'createEngine'>,
  targetAccuracy: number | null,
): Pick<Training, 'params' | 'steps' | 'evaluations' | 'numSteps' | 'weightsSha256'> & {
  readonly accuracies: readonly number[];
} {
  const { config, samples, model, regularizer, createEngine } = training;
  const engine = createEngine();
  const sampler = new Sampler(config.seed, samples.numTrain, config.batchSize);
  const { stepsPerEpoch } = sampler;
  const totalSteps = config.epochs * stepsPerEpoch;
  const learningRate = createSchedule({
    name: config.schedule,
    learningRate: config.lr,
    warmupSteps: Math.round(config.warmupEpochs * stepsPerEpoch),
    totalSteps,
    stepEvery: Math.max(1, Math.round(config.stepEpochs * stepsPerEpoch)),
    stepFactor: config.stepFactor,
  });
  const optimizer = createOptimizer({ ...config, name: config.optimizer });
  const params = initParams(model, config.seed);
  const state = optimizer.init(model.numParams);
  const trajectory = [params.slice()];
  const steps: Figures[] = [];
  const evaluations = new Map<string, Figures>();
  const accuracies: number[] = [];
  for (let t = 0; t < totalSteps; t++) {
    const batch = sampler.batch(t);
    engine.setParams(params);
    const sum = treeSum(engine, 0, Math.ceil(batch.length / config.microBatch), (unit) => {
      const { microBatch } = config;
      const indices = batch.subarray(unit * microBatch, (unit + 1) * microBatch);
      const epoch = Math.floor(t / stepsPerEpoch);
      return regularizer.apply(imagesOf(samples, indices), indices, epoch);
    });
    const gradient = sum.gradient.map((value) => value / Math.fround(batch.length));
    optimizer.update(params, state, gradient, learningRate(t));
    steps.push({ loss: sum.lossSum / batch.length, accuracy: sum.numCorrect / batch.length });
    trajectory.push(params.slice());
    if ((t + 1) % stepsPerEpoch > 0) continue;
    engine.setParams(params);
    const sets: EvaluationSet[] = samples.numValidation > 0 ? ['validation', 'test'] : ['test'];
    const results = sets.map((set) => {
      const result = evaluateSet(engine, samples, set);
      evaluations.set(evaluationKey(set, t + 1), result);
      return result;
    });
    accuracies.push(results[0].accuracy);
    if (targetAccuracy !== null && results[0].accuracy >= targetAccuracy) break;
  }
  return {
    params: trajectory,
    steps,
    evaluations,
    numSteps: trajectory.length - 1,
    weightsSha256: createHash('sha256').update(bytes(params)).digest('hex'),
    accuracies,
  };
}

interface Sum {
  readonly gradient: Float32Array;
  readonly lossSum: number;
  readonly numCorrect: number;
}

/** T of the contract, written down once more: the simulator must not trust what it tests. */
function treeSum(
  engine: Engine,
  lo: number,
  hi: number,
  imagesOfUnit: (unit: number) => Batch,
): Sum {
  if (hi - lo === 1) {
    const { images, labels, loss } = imagesOfUnit(lo);
    const gradient = engine.allocateGradient();
    const sums = engine.gradient(images, labels, gradient, loss);
    if (sums instanceof Promise) throw new TypeError('Expected an engine that does not wait');
    return { ...sums, gradient };
  }
  const middle = lo + 2 ** Math.floor(Math.log2(hi - lo - 1));
  const left = treeSum(engine, lo, middle, imagesOfUnit);
  const right = treeSum(engine, middle, hi, imagesOfUnit);
  return {
    gradient: left.gradient.map((value, i) => value + right.gradient[i]),
    lossSum: Math.fround(left.lossSum + right.lossSum),
    numCorrect: left.numCorrect + right.numCorrect,
  };
}

function evaluateSet(engine: Engine, samples: Samples, set: EvaluationSet): Figures {
  const { images, labels } = samples.evaluationSet(set);
  let loss = 0;
  let numCorrect = 0;
  for (let begin = 0; begin < labels.length; begin += EVALUATION_BLOCK) {
    const end = Math.min(begin + EVALUATION_BLOCK, labels.length);
    const block = images.subarray(begin * IMAGE_BYTES, end * IMAGE_BYTES);
    const result = engine.evaluate(block, labels.subarray(begin, end));
    if (result instanceof Promise) throw new TypeError('Expected an engine that does not wait');
    loss += result.lossSum;
    numCorrect += result.numCorrect;
  }
  return { loss: loss / labels.length, accuracy: numCorrect / labels.length };
}

/** Blobs of noise with one brighter patch a class; the first two bytes are the image's number. */
function madeUpImages(numImages: number, firstNumber: number): LabelledImages {
  const images = new Uint8Array(numImages * IMAGE_BYTES);
  const labels = new Uint16Array(numImages);
  for (let n = 0; n < numImages; n++) {
    const number = firstNumber + n;
    const random = createRandom(1, 'image', number);
    const image = images.subarray(n * IMAGE_BYTES, (n + 1) * IMAGE_BYTES);
    const label = random.below(MNIST.numClasses);
    labels[n] = label;
    for (let pixel = 0; pixel < IMAGE_BYTES; pixel++) image[pixel] = random.below(60);
    for (let pixel = 0; pixel < 112; pixel++) image[70 * label + pixel] += 180;
    image[0] = number & 255;
    image[1] = number >> 8;
  }
  return { images, labels };
}

function numbersOf(images: Uint8Array): number[] {
  const numbers = [];
  for (let at = 0; at < images.length; at += IMAGE_BYTES) {
    numbers.push(images[at] | (images[at + 1] << 8));
  }
  return numbers;
}

/** The images of some samples, one after the other. */
export function imagesOf(samples: Samples, indices: Uint32Array): LabelledImages {
  const images = new Uint8Array(indices.length * IMAGE_BYTES);
  const labels = new Uint16Array(indices.length);
  indices.forEach((index, i) => {
    images.set(samples.image(index), i * IMAGE_BYTES);
    labels[i] = samples.label(index);
  });
  return { images, labels };
}

/**
 * The engine, with a memory of what it has computed: schedules differ in who computes what and when, hardly ever in
 * what is computed.
 */
function rememberingEngine(model: Model, engine: Engine): () => Engine {
  const gradients = new Map<
    string,
    { loss: { lossSum: number; numCorrect: number }; gradient: Float32Array }
  >();
  const evaluations = new Map<
    string,
    { lossSum: number; numCorrect: number; predictions: Uint16Array }
  >();
  return () => {
    let key = '';
    const params = new Float32Array(model.numParams);
    return {
      ...engine,
      setParams(newParams) {
        params.set(newParams);
        key = createHash('sha1').update(bytes(params)).digest('base64');
      },
      gradient(images, labels, out, training) {
        // Their numbers do not tell images apart that were changed at random.
        const content = createHash('sha1').update(images).digest('base64');
        const question = `${key} ${content} ${labels.join()} ${training?.masks?.join() ?? ''}`;
        let answer = gradients.get(question);
        if (!answer) {
          engine.setParams(params);
          const gradient = engine.allocateGradient();
          const loss = engine.gradient(images, labels, gradient, training);
          if (loss instanceof Promise) throw new TypeError('Expected an engine that does not wait');
          answer = { loss, gradient };
          gradients.set(question, answer);
        }
        out.set(answer.gradient);
        return answer.loss;
      },
      evaluate(images, labels) {
        const question = `${key} ${numbersOf(images).join()}`;
        let answer = evaluations.get(question);
        if (!answer) {
          engine.setParams(params);
          const evaluation = engine.evaluate(images, labels);
          if (evaluation instanceof Promise) throw new TypeError('Expected no promise');
          answer = evaluation;
          evaluations.set(question, answer);
        }
        return { ...answer, predictions: answer.predictions.slice() };
      },
    };
  };
}

/**
 * An engine whose gradient counts: element i is how often image i is in it. With plain gradient descent at rate 1, θ is
 * the ledger: it falls by 1/n each time an image is counted.
 */
function countingEngine(model: Model): Engine {
  const params = new Float32Array(model.numParams);
  const evaluate = (images: Uint8Array) => {
    const numbers = numbersOf(images);
    const predictions = Uint16Array.from(
      numbers,
      (n) => (n + Math.floor(params[n % 50] * 8) + 800) % 10,
    );
    let lossSum = 0;
    for (const n of numbers) lossSum = Math.fround(lossSum + Math.abs(params[n % 60]));
    return { predictions, lossSum };
  };
  return {
    name: 'reference',
    fingerprint: 'counting/1',
    isExact: true,
    device: 'a ledger',
    model,
    allocateGradient: () => new Float32Array(model.numParams),
    setParams: (newParams) => params.set(newParams),
    gradient(images, labels, out) {
      out.fill(0);
      for (const n of numbersOf(images)) out[n] += 1;
      return { lossSum: labels.length / 4, numCorrect: labels.length >> 1 };
    },
    add(sum, term) {
      for (let i = 0; i < sum.length; i++) sum[i] += term[i];
    },
    evaluate(images, labels) {
      const { predictions, lossSum } = evaluate(images);
      let numCorrect = 0;
      predictions.forEach((prediction, i) => (numCorrect += prediction === labels[i] ? 1 : 0));
      return { predictions, lossSum, numCorrect };
    },
    predict: (images) => new Float32Array((images.length / IMAGE_BYTES) * MNIST.numClasses),
    dispose: () => undefined,
  };
}

function countsOf(config: RunConfig, samples: Samples, params: Float32Array): number[] {
  const before = initParams(buildModel(config.hyperparameters), config.seed);
  return Array.from(
    { length: samples.numTrain },
    (_, n) => Math.round((before[n] - params[n]) * config.batchSize * 1000) / 1000,
  );
}

export function bytes(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

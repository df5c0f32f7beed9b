/**
 * docs/algorithm.md is enough for another implementation: scripts/independent.py, written from it alone, ends at the
 * same bits; and the figures that it gives to check against are those of the program.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Sampler } from '../../src/coordinator/sampler.js';
import { initParams } from '../../src/model/init.js';
import { buildModel, imageBytes } from '../../src/model/lenet.js';
import { Regularizer } from '../../src/model/regularizer.js';
import { createOptimizer } from '../../src/model/optimizer.js';
import { createRunSchedule } from '../../src/model/schedule.js';
import { parseRunConfig, regularizationOf, type RunConfig } from '../../src/shared/config.js';
import { createRandom } from '../../src/shared/random.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const NUM_TRAIN = 1000;
const EPOCH = 3;
const NUM_UPDATES = 16;
const INPUT = { channels: 2, height: 11, width: 14 };
const NUM_IMAGES = 40;
const root = fileURLToPath(new URL('../..', import.meta.url));

const hasNumpy = spawnSync('python3', ['-c', 'import numpy']).status === 0;

const sha256 = (array: Uint32Array | Float32Array | Uint8Array) =>
  createHash('sha256')
    .update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength))
    .digest('hex');

/** What the program makes of it, with the parts that the coordinator puts together. */
function program(config: RunConfig, gradients: readonly Float32Array[], images: Uint8Array) {
  const params = initParams(buildModel(config.hyperparameters), config.seed);
  const theta0 = sha256(params);
  const sampler = new Sampler(config.seed, NUM_TRAIN, config.batchSize);
  const { stepsPerEpoch } = sampler;
  const rateAt = createRunSchedule(config, stepsPerEpoch);
  const optimizer = createOptimizer({ ...config, name: config.optimizer });
  const state = optimizer.init(params.length);
  gradients.forEach((gradient, t) => optimizer.update(params, state, gradient, rateAt(t)));
  const order = Array.from({ length: stepsPerEpoch }, (_, step) => [
    ...sampler.batch(EPOCH * stepsPerEpoch + step),
  ]);
  const numbers = Uint32Array.from({ length: NUM_IMAGES }, (_, i) => i);
  const batch = { images: images.slice(), labels: new Uint16Array(NUM_IMAGES) };
  const model = buildModel(config.hyperparameters, { input: INPUT, numClasses: 10 });
  const regularizer = new Regularizer(model, regularizationOf(config));
  const { images: changed, loss } = regularizer.apply(batch, numbers, EPOCH);
  const augmented = sha256(changed);
  const masks = sha256(loss?.masks ?? new Float32Array(0));
  const permutation = sha256(Uint32Array.from(order.flat()));
  return { permutation, augmented, masks, theta0, theta: sha256(params) };
}

describe.skipIf(!hasNumpy)('scripts/independent.py', () => {
  test.each<[string, Parameters<typeof parseRunConfig>[0]]>([
    ['Adam, cosine', {}],
    [
      'Adam, warm-up',
      { warmupEpochs: 0.7, epochs: 2, beta1: 0.8, epsilon: 1e-4, seed: 4294967295 },
    ],
    [
      'momentum, steps',
      { optimizer: 'momentum', schedule: 'step', stepEpochs: 0.3, lr: 0.1, stepFactor: 0.7 },
    ],
    [
      'augmentation',
      { augment: ['shift=3', 'rotate=40', 'scale=0.3', 'flip', 'noise=20', 'cutout=5'], seed: 12 },
    ],
    ['dropout', { dropout: 0.3, seed: 5 }],
    ['half turns, far out', { augment: ['shift=12', 'rotate=180', 'scale=0.5'] }],
    ['SGD, constant', { optimizer: 'sgd', schedule: 'constant', weightDecay: 0.3, seed: 7 }],
  ])('ends at the bits of the program: %s', async (_, given) => {
    const config = parseRunConfig({
      batchSize: 64,
      epochs: 1,
      ...(given as object),
      hyperparameters: { channels: [3, 5], kernelSize: 3, hidden: [11], stride: 1, padding: 1 },
    });
    const { numParams } = buildModel(config.hyperparameters);
    const random = createRandom(1, 'gradients');
    const gradients = Array.from({ length: NUM_UPDATES }, () =>
      Float32Array.from({ length: numParams }, () => 2 * random.float() - 1),
    );
    const file = join(await temporaryDirectory(), 'gradients.f32');
    await writeFile(file, Buffer.concat(gradients.map(({ buffer }) => new Uint8Array(buffer))));
    const bytes = Uint8Array.from({ length: NUM_IMAGES * imageBytes(INPUT) }, () =>
      random.below(256),
    );
    const images = join(await temporaryDirectory(), 'images');
    await writeFile(images, bytes);
    const request = {
      ...{ augment: [], ...config, input: INPUT, images, gradients: file },
      ...{ numTrain: NUM_TRAIN, epoch: EPOCH },
    };
    const { stdout, stderr } = spawnSync('python3', [join(root, 'scripts/independent.py')], {
      input: JSON.stringify(request),
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual(program(config, gradients, bytes));
  });
});

test('docs/algorithm.md states what the program gives', async () => {
  const text = await readFile(join(root, 'docs/algorithm.md'), 'utf8');
  const rows = [...text.matchAll(/^\| (.+?) +\| `(.+?)` +\|$/gm)].map(([, what, value]) => [
    what,
    value,
  ]);
  const random = createRandom(1, 'epoch', 0);
  const config = parseRunConfig({});
  const params = initParams(buildModel(config.hyperparameters), 1);
  const order = new Sampler(1, 60_000, 60_000).batch(0);
  const optimizer = createOptimizer({ ...config, name: 'adam' });
  const state = optimizer.init(params.length);
  const theta0 = sha256(params);
  const rateAt = createRunSchedule(config, 938);
  const rates = [0, 1, 18_759].map((t) => rateAt(t));
  for (const rate of rates) optimizer.update(params, state, params.slice(), rate);
  expect(rows).toEqual([
    [
      'the first three next() of the generator (1, `epoch`, 0)',
      [1, 2, 3].map(() => random.uint32()).join(' '),
    ],
    ['the first five of π(1, 0) for n = 60,000', order.slice(0, 5).join(' ')],
    ['SHA-256 of π(1, 0), 60,000 little-endian u32', sha256(order)],
    ['SHA-256 of θ₀ for seed 1, the default model', theta0],
    ['default learning rate at t = 0, 1 and 18,759', rates.join(' ')],
    ['SHA-256 of θ after three default updates at these rates, g = θ each time', sha256(params)],
  ]);
});

/** Several threads against a single engine in this thread: the same answers to the bit, whatever is asked. */
import { createHash } from 'node:crypto';
import { afterAll, describe, expect, it } from 'vitest';
import { initParams } from '../../../src/model/init.js';
import { LENET5, buildModel } from '../../../src/model/lenet.js';
import { createSimdEngine } from '../../../src/model/engine/simd/node.js';
import { systemClock } from '../../../src/shared/clock.js';
import { bytesOf } from '../../../src/shared/codec.js';
import { ProtocolError } from '../../../src/shared/errors.js';
import type { Range } from '../../../src/shared/protocol.js';
import { Regularizer } from '../../../src/model/regularizer.js';
import { createRandom } from '../../../src/shared/random.js';
import type { Answers, Computation } from '../../../src/worker/computation.js';
import type { Task } from '../../../src/worker/task.js';
import { EngineComputation } from '../../../src/worker/engine-computation.js';
import { SampleCache } from '../../../src/worker/sample-cache.js';
import { startThreads } from '../../../src/worker/threads/thread-computation.js';

const MODEL = buildModel(LENET5);
const REGULARIZER = new Regularizer(MODEL, {
  seed: 9,
  augment: ['shift', 'rotate', 'noise'],
  dropout: 0.2,
  labelSmoothing: 0.1,
});
const IMAGE_BYTES = 784;
const NUM_SAMPLES = 500;

function samplesOf(numSent: number, kind = 'samples'): SampleCache {
  const random = createRandom(5, kind);
  const cache = SampleCache.create('made up', NUM_SAMPLES, IMAGE_BYTES);
  cache.store({
    type: 'samples',
    indices: bytesOf(Uint32Array.from({ length: numSent }, (_, i) => i)),
    labels: bytesOf(Uint16Array.from({ length: numSent }, () => random.below(10))),
    pixels: Uint8Array.from({ length: numSent * IMAGE_BYTES }, () => random.below(256)),
  });
  return cache;
}

function stepTask(numImages: number, unitSize: number, ranges: Range[], seed = 1): Task {
  const random = createRandom(seed, 'indices');
  return {
    kind: 'step',
    globalStep: 3,
    epoch: 2,
    params: initParams(MODEL, seed),
    numUnits: Math.ceil(numImages / unitSize),
    unitSize,
    ranges: [...ranges],
    signal: new AbortController().signal,
    indices: Uint32Array.from({ length: numImages }, () => random.below(NUM_SAMPLES)),
  };
}

function evaluationTask(first: number, numImages: number, unitSize: number, ranges: Range[]): Task {
  return {
    kind: 'evaluation',
    globalStep: 3,
    params: initParams(MODEL, 2),
    numUnits: Math.ceil(numImages / unitSize),
    unitSize,
    ranges: [...ranges],
    signal: new AbortController().signal,
    set: 'test',
    first,
    numImages,
  };
}

const sha256 = (values: Float32Array) => createHash('sha256').update(bytesOf(values)).digest('hex');

/** All answers, in the order of their ranges. */
async function answersOf(computation: Computation, task: Task, samples: SampleCache) {
  const all: { range: Range; [key: string]: unknown }[] = [];
  const answers: Answers = {
    partial: (range, { gradient, ...sums }) => {
      all.push({ range: [...range] as Range, ...sums, gradient: sha256(gradient) });
      return Promise.resolve();
    },
    evaluation: ([lo, hi], lossSums, predictions) => {
      // Threads may answer a long range in parts.
      for (let unit = lo; unit < hi; unit++) {
        const begin = (unit - lo) * task.unitSize;
        all.push({
          range: [unit, unit + 1],
          lossSum: lossSums[unit - lo],
          predictions: [...predictions.subarray(begin, begin + task.unitSize)].join(' '),
        });
      }
    },
  };
  await computation.run(task, samples, answers);
  return all.sort((a, b) => a.range[0] - b.range[0]);
}

const inPlace = new EngineComputation(createSimdEngine(MODEL), {
  clock: systemClock,
  regularizer: REGULARIZER,
});
const started = new Map<number, Promise<Computation>>();
/** A computation on that many threads, started once for all tests. */
function threads(numThreads: number): Promise<Computation> {
  const computation =
    started.get(numThreads) ?? startThreads(MODEL, REGULARIZER, numThreads, systemClock);
  started.set(numThreads, computation);
  return computation;
}
afterAll(async () => {
  for (const computation of started.values()) await (await computation).dispose();
});

describe.each([1, 2, 3])('%i threads', (numThreads) => {
  it('compute the proof with the bits of the engine', async () => {
    const computation = await threads(numThreads);
    expect(sha256(await computation.prove(77))).toBe(sha256(await inPlace.prove(77)));
    expect(computation.fingerprint).toBe(inPlace.fingerprint);
  });

  it.each<[string, () => Task]>([
    ['a whole step', () => stepTask(128, 8, [[0, 16]])],
    ['a step of one micro-batch', () => stepTask(5, 8, [[0, 1]])],
    ['a short last micro-batch', () => stepTask(77, 8, [[0, 10]])],
    ['a range that is not a node', () => stepTask(128, 8, [[3, 13]])],
    [
      'several ranges',
      () =>
        stepTask(200, 4, [
          [40, 50],
          [0, 7],
          [9, 10],
        ]),
    ],
    ['more micro-batches than slots', () => stepTask(400, 1, [[0, 400]])],
    ['an evaluation', () => evaluationTask(10, 245, 50, [[0, 5]])],
    [
      'parts of an evaluation, including the short last block',
      () =>
        evaluationTask(10, 245, 50, [
          [4, 5],
          [1, 3],
        ]),
    ],
    ['more blocks than slots', () => evaluationTask(0, 300, 3, [[0, 100]])],
  ])('answer %s with the bits of one engine', async (_, task) => {
    const samples = samplesOf(NUM_SAMPLES);
    const computation = await threads(numThreads);
    const expected = await answersOf(inPlace, task(), samples);
    expect(await answersOf(computation, task(), samples)).toEqual(expected);
    expect(expected.length).toBeGreaterThan(0);
  });
});

describe('threads', () => {
  it('continue with other parameters, other samples, and more ranges of the same task', async () => {
    const computation = await threads(2);
    for (const seed of [1, 2, 3]) {
      const samples = samplesOf(NUM_SAMPLES);
      const task = stepTask(64, 8, [[0, 4]], seed);
      const first = await answersOf(computation, task, samples);
      task.ranges.push([4, 8]);
      const second = await answersOf(computation, task, samples);
      const all = stepTask(
        64,
        8,
        [
          [0, 4],
          [4, 8],
        ],
        seed,
      );
      expect([...first, ...second]).toEqual(await answersOf(inPlace, all, samples));
    }
  });

  it('abandon a superseded task, and answer the next one', async () => {
    const computation = await threads(2);
    const samples = samplesOf(NUM_SAMPLES);
    const superseded = new AbortController();
    const task = { ...stepTask(400, 1, [[0, 400]]), signal: superseded.signal };
    const run = answersOf(computation, task, samples);
    superseded.abort();
    expect(await run).toEqual([]);
    const next = () => stepTask(64, 8, [[0, 8]], 9);
    expect(await answersOf(computation, next(), samples)).toEqual(
      await answersOf(inPlace, next(), samples),
    );
  });

  it('use the samples of the last task, even if one before it was superseded before it began', async () => {
    const computation = await threads(2);
    const superseded = new AbortController();
    superseded.abort();
    const none = { ...stepTask(8, 8, [[0, 1]]), signal: superseded.signal };
    expect(await answersOf(computation, none, samplesOf(NUM_SAMPLES, 'others'))).toEqual([]);
    const samples = samplesOf(NUM_SAMPLES);
    const task = () => stepTask(64, 8, [[0, 8]], 4);
    expect(await answersOf(computation, task(), samples)).toEqual(
      await answersOf(inPlace, task(), samples),
    );
  });

  it('reject a sample that was not sent, and continue', async () => {
    const computation = await threads(2);
    const samples = samplesOf(10);
    await expect(answersOf(computation, stepTask(64, 8, [[0, 8]]), samples)).rejects.toThrow(
      ProtocolError,
    );
    const all = samplesOf(NUM_SAMPLES);
    expect(await answersOf(computation, stepTask(8, 8, [[0, 1]]), all)).toEqual(
      await answersOf(inPlace, stepTask(8, 8, [[0, 1]]), all),
    );
  });

  it('reject calls after they are disposed of', async () => {
    const computation = await startThreads(MODEL, REGULARIZER, 2, systemClock);
    await computation.dispose();
    await expect(computation.prove(1)).rejects.toThrow('The engine is disposed');
  });
});

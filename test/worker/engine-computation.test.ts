import { describe, expect, it } from 'vitest';
import { createSimdEngine } from '../../src/model/engine/simd/node.js';
import { initParams } from '../../src/model/init.js';
import { LENET5, buildModel, imageBytes } from '../../src/model/lenet.js';
import { NO_REGULARIZATION, Regularizer } from '../../src/model/regularizer.js';
import { systemClock } from '../../src/shared/clock.js';
import { bytesOf } from '../../src/shared/codec.js';
import type { Range } from '../../src/shared/protocol.js';
import type { Computation } from '../../src/worker/computation.js';
import type { StepTask } from '../../src/worker/task.js';
import { EngineComputation } from '../../src/worker/engine-computation.js';
import { SampleCache } from '../../src/worker/sample-cache.js';
import { startThreads } from '../../src/worker/threads/thread-computation.js';

const MODEL = buildModel(LENET5);
const NUM_IMAGES = 16;
const regularizer = new Regularizer(MODEL, NO_REGULARIZATION);

function samples(): SampleCache {
  const cache = SampleCache.create('made up', NUM_IMAGES, imageBytes(MODEL.input));
  cache.store({
    type: 'samples',
    indices: bytesOf(Uint32Array.from({ length: NUM_IMAGES }, (_, i) => i)),
    labels: bytesOf(Uint16Array.from({ length: NUM_IMAGES }, (_, i) => i % 10)),
    pixels: Uint8Array.from({ length: NUM_IMAGES * 784 }, (_, i) => (i * i) % 251),
  });
  return cache;
}

function task(ranges: Range[]): StepTask {
  return {
    kind: 'step',
    globalStep: 0,
    epoch: 0,
    params: initParams(MODEL, 1),
    indices: Uint32Array.from({ length: NUM_IMAGES }, (_, i) => i),
    numUnits: 8,
    unitSize: 2,
    ranges: [...ranges],
    signal: new AbortController().signal,
  };
}

/** Collects answers, whose memory counts as being read until the test calls `leave`. */
function answered(computation: Computation, rounds: Range[][]) {
  const open: { gradient: Float32Array; copy: Float32Array; left: () => void }[] = [];
  let numAnswers = 0;
  const work = (async () => {
    for (const ranges of rounds) {
      await computation.run(task(ranges), samples(), {
        partial(_range, { gradient }) {
          numAnswers++;
          return new Promise((left) => open.push({ gradient, copy: gradient.slice(), left }));
        },
        evaluation: () => undefined,
      });
    }
  })();
  let isOver = false;
  void work.then(() => (isOver = true));
  const untouched = () =>
    open.every(({ gradient, copy }) => gradient.every((v, i) => v === copy[i]));
  return {
    numAnswers: () => numAnswers,
    isOver: () => isOver,
    untouched,
    leave: () => open.shift()!.left(),
    work,
  };
}

const inPlace = () =>
  Promise.resolve(
    new EngineComputation(createSimdEngine(MODEL), { clock: systemClock, regularizer }),
  );
const onThreads = () => startThreads(MODEL, regularizer, 2, systemClock);

describe.each([
  [
    'EngineComputation',
    inPlace,
    [
      [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
      ],
    ],
    2,
  ],
  ['ThreadComputation', onThreads, [[[0, 4]], [[4, 8]], [[0, 8]]], 1],
] as [string, () => Promise<Computation>, Range[][], number][])(
  '%s.run()',
  (_name, create, rounds, mostOpen) => {
    it('does not overwrite a sum before it has been sent, however long that takes', async () => {
      const computation = await create();
      try {
        const { numAnswers, isOver, untouched, leave, work } = answered(computation, rounds);
        const total = rounds.flat().length;
        for (let numLeft = 0; numLeft < total; numLeft++) {
          const numExpected = Math.min(total, numLeft + mostOpen);
          await expect.poll(numAnswers).toBe(numExpected);
          // Long enough for a computation that does not wait to overwrite a sum.
          for (let i = 0; i < 100; i++) await systemClock.yield();
          expect(numAnswers()).toBe(numExpected);
          expect(untouched()).toBe(true);
          if (numExpected < total) expect(isOver()).toBe(false);
          leave();
        }
        await work;
      } finally {
        await computation.dispose();
      }
    });
  },
);

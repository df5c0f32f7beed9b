import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import {
  createHarness,
  startRun,
  type FakeWorker,
  type Harness,
} from '../support/coordinator-harness.js';
import { bytesOf, float32From } from '../../src/shared/codec.js';
import type { Message } from '../../src/shared/protocol.js';
import { Slices, sliceOf } from '../../src/shared/slices.js';
import { allTrainings } from '../support/simulator/training.js';

/** Answers `numSteps` steps. */
async function work(worker: FakeWorker, numSteps: number, from = 0): Promise<void> {
  for (let step = from; step < from + numSteps; step++) {
    await worker.answer(worker.rangesOf(step));
  }
}

/** Answers the last evaluation, with the given number of images right. */
async function evaluate(
  { training, settle }: Harness,
  worker: FakeWorker,
  numRight = Infinity,
): Promise<void> {
  const { globalStep, set, numImages } = worker.channel.sentOf('evaluate').at(-1)!;
  const { labels } = training.samples.evaluationSet(set);
  worker.say({
    type: 'evaluation',
    globalStep,
    set,
    range: [0, 1],
    lossSums: new Uint8Array(4),
    predictions: bytesOf(
      labels.slice(0, numImages).map((label, i) => (i < numRight ? label : (label + 1) % 10)),
    ),
    computeMs: 1,
  });
  await settle();
}

describe('Coordinator.run()', () => {
  it('leaves no timers or listeners behind when stopped in the middle of a step', async () => {
    const harness = createHarness();
    const ended = harness.run();
    await harness.settle();
    const anna = await harness.join();
    harness.stop.abort();
    await anna.answer(anna.rangesOf(0));
    expect((await ended).outcome).toBe('stopped');
    expect(harness.process.numTimers).toBe(0);
    expect(getEventListeners(harness.stop.signal, 'abort')).toEqual([]);
  });

  it('finishes the current step before it stops', async () => {
    const harness = createHarness();
    const ended = harness.run();
    await harness.settle();
    const anna = await harness.join();
    harness.stop.abort();
    await anna.answer(anna.rangesOf(0));
    expect((await ended).globalStep).toBe(1);
    expect(harness.saved.map(({ globalStep }) => globalStep)).toEqual([1]);
  });

  it('abandons a step that is not done within a second of the stop request', async () => {
    const harness = createHarness();
    const ended = harness.run();
    await harness.settle();
    await harness.join();
    harness.stop.abort();
    await harness.time.advance(1_000);
    expect((await ended).globalStep).toBe(0);
  });

  it('on resume, repeats an evaluation that was interrupted', async () => {
    const first = createHarness();
    const ended = first.run();
    await first.settle();
    const anna = await first.join();
    await work(anna, 3);
    first.stop.abort();
    await first.time.advance(1_000);
    expect((await ended).globalStep).toBe(3);
    expect(first.eventsOf('evaluation')).toEqual([]);

    const second = await startRun({ resumeFrom: first.saved.at(-1)! });
    const bert = await second.join();
    await evaluate(second, bert);
    expect(second.eventsOf('evaluation').map(({ globalStep }) => globalStep)).toEqual([3]);
    expect(bert.rangesOf(3)).toEqual([[0, 6]]);
  });

  it('ends at once when resumed from a checkpoint that has reached the target', async () => {
    const first = createHarness({ targetAccuracy: 0.5 });
    const ended = first.run();
    await first.settle();
    const anna = await first.join();
    await work(anna, 3);
    await evaluate(first, anna);
    expect((await ended).outcome).toBe('targetReached');

    const second = createHarness({ targetAccuracy: 0.5, resumeFrom: first.saved.at(-1)! });
    const result = await second.run();
    expect(result).toMatchObject({ outcome: 'targetReached', globalStep: 3, testAccuracy: 1 });
  });

  it('stops early when its patience is exhausted, and can be resumed with more', async () => {
    const first = createHarness({ patience: 1 });
    const ended = first.run();
    await first.settle();
    const anna = await first.join();
    await work(anna, 3);
    await evaluate(first, anna, 5);
    await work(anna, 3, 3);
    // Equally good is not better.
    await evaluate(first, anna, 5);
    expect(await ended).toMatchObject({
      outcome: 'stoppedEarly',
      globalStep: 6,
      best: { set: 'test', accuracy: 0.5, globalStep: 3 },
    });
    expect(anna.channel.sentOf('finished')).toMatchObject([{ isFinal: true }]);
    const last = first.saved.at(-1)!;
    expect(last.globalStep).toBe(6);

    const again = createHarness({ patience: 1, resumeFrom: last });
    expect((await again.run()).outcome).toBe('stoppedEarly');

    const second = createHarness({ patience: 2, resumeFrom: last });
    const whole = second.run();
    await second.settle();
    const bert = await second.join();
    await work(bert, 3, 6);
    await evaluate(second, bert, 6);
    expect(await whole).toMatchObject({
      outcome: 'finished',
      best: { accuracy: 0.6, globalStep: 9 },
    });
  });

  it('confirms an evaluation that would exhaust the patience and end the run', async () => {
    const harness = createHarness({ patience: 1, audit: 1e-9 });
    const ended = harness.run();
    await harness.settle();
    const anna = await harness.join();
    await work(anna, 3);
    await evaluate(harness, anna, 0);
    await work(anna, 3, 3);
    await evaluate(harness, anna, 0);
    // The lie is detected, and the coordinator's own result counts.
    await harness.time.advance(1_000);
    expect(harness.eventsOf('evaluation').at(-1)!.accuracy).toBeGreaterThan(0);
    harness.stop.abort();
    await harness.time.advance(1_000);
    await ended;
  });

  it('extends a finished run with more epochs', async () => {
    const { config } = createHarness().training;
    const shorter = { ...config, epochs: 1 };
    const first = createHarness({ config: shorter });
    const ended = first.run();
    await first.settle();
    const anna = await first.join();
    await work(anna, 3);
    await evaluate(first, anna);
    expect((await ended).outcome).toBe('finished');

    const second = createHarness({ config, resumeFrom: first.saved.at(-1)! });
    const longer = second.run();
    await second.settle();
    const [{ message }] = second.eventsOf('notice');
    expect(message).toMatch(
      /^The run goes on to 3 epochs instead of 1, .*: the learning rate is 0\.0095, it was 0\.01 before$/,
    );
    const bert = await second.join();
    await work(bert, 3, 3);
    await evaluate(second, bert);
    await work(bert, 3, 6);
    await evaluate(second, bert);
    expect(await longer).toMatchObject({ outcome: 'finished', globalStep: 9, epochs: 3 });
    expect(second.saved.at(-1)!.metrics).toMatchObject({
      extensions: [{ globalStep: 3, epochs: 1 }],
    });
    // Reported when it happens, not on every resume.
    const third = createHarness({ config, resumeFrom: second.saved.at(-1)! });
    await third.run();
    expect(third.eventsOf('notice')).toEqual([]);
  });

  it('adds up the times of all processes of the run', async () => {
    const train = async (harness: Harness, from: number, ms: number) => {
      const ended = harness.run();
      await harness.settle();
      const worker = await harness.join();
      await harness.time.advance(ms);
      await work(worker, 1, from);
      harness.stop.abort();
      await harness.time.advance(1_000);
      return ended;
    };
    const first = createHarness();
    const before = await train(first, 0, 2_000);
    const second = createHarness({ resumeFrom: first.saved.at(-1)! });
    const after = await train(second, 1, 1_000);
    expect([before.globalStep, after.globalStep]).toEqual([1, 2]);
    // Each waited a second for a step that was then abandoned; the first one's wait came after its checkpoint.
    expect([before.seconds, after.seconds]).toEqual([expect.closeTo(3, 1), expect.closeTo(4, 1)]);
    // Two steps of equal size, the first in two seconds, the second in one.
    expect(after.imagesPerSecond / before.imagesPerSecond).toBeCloseTo(4 / 3, 1);
  });

  it('fails when its last state cannot be saved, and leaves the workers waiting', async () => {
    const harness = createHarness({
      targetAccuracy: 0.5,
      save: () => Promise.reject(new Error('ENOSPC: no space left on device')),
    });
    const failed = expect(harness.run()).rejects.toThrow(
      /^Cannot write the checkpoint of step 3: E/,
    );
    await harness.settle();
    const anna = await harness.join();
    await work(anna, 3);
    await evaluate(harness, anna);
    let numPings = 0;
    for (let tenth = 0; tenth < 100; tenth++) {
      await harness.time.advance(100);
      const pings = anna.channel.sentOf('ping');
      for (const { sentAt } of pings.slice(numPings)) {
        anna.say({ type: 'pong', sentAt, workerTime: 0 });
      }
      numPings = pings.length;
    }
    await failed;
    expect(anna.channel.sentOf('finished')).toMatchObject([{ isFinal: false }]);
    expect(harness.eventsOf('finished')).toEqual([]);
  });

  it('reports only once that it is waiting for workers', async () => {
    const { join, eventsOf, settle } = await startRun({ minWorkers: 2 });
    const anna = await join();
    anna.channel.break();
    await settle();
    const notices = eventsOf('notice').filter(({ message }) => message.startsWith('Waiting'));
    expect(notices).toHaveLength(1);
  });
});

describe('the faults of a result', () => {
  it.each([
    ['a worker whose connection breaks', 1, (worker: FakeWorker) => worker.channel.break()],
    [
      'no worker that says goodbye',
      undefined,
      (worker: FakeWorker) => worker.say({ type: 'leave' }),
    ],
  ])('count %s as lost', async (_, count, go) => {
    const harness = createHarness();
    const ended = harness.run();
    await harness.settle();
    go(await harness.join());
    await harness.settle();
    expect(harness.eventsOf('workerLost')).toHaveLength(1);
    harness.stop.abort();
    await harness.time.advance(1_000);
    expect((await ended).faults.workersLost).toBe(count);
  });
});

describe('Coordinator.accept()', () => {
  it('tells a worker that connects after the end that the run is over, and closes', async () => {
    const harness = createHarness();
    const ended = harness.run();
    await harness.settle();
    harness.stop.abort();
    await ended;
    const anna = harness.connect();
    anna.hello();
    expect(anna.channel.sent.map(({ type }) => type)).toEqual(['finished']);
    expect(anna.closeCode).toBe(4001);
  });
});

describe('a coordinator whose gradients come in slices', () => {
  const SLICE = 64;
  const { numParams } = allTrainings()[0].model;
  const wholePartial = (range: [number, number]): Message<'partial'> => ({
    type: 'partial',
    globalStep: 0,
    range,
    gradient: bytesOf(new Float32Array(numParams)),
    ...{ lossSum: 1, numCorrect: 1, numImages: 2, startedAt: 0, computeMs: 1 },
  });
  /** Sends the partial in slices, without those that the test leaves out. */
  const say = (worker: FakeWorker, partial: Message<'partial'>, leaveOut: number[] = []) => {
    const values = float32From(partial.gradient, numParams, 'gradient');
    const slices = new Slices(numParams, SLICE);
    for (const [i, slice] of slices.early.entries()) {
      if (leaveOut.includes(i)) continue;
      const { globalStep, range } = partial;
      const part = bytesOf(sliceOf(values, slice));
      worker.say({ type: 'gradientSlice', globalStep, range, first: slice[0], values: part });
    }
    worker.say({ ...partial, gradient: bytesOf(sliceOf(values, slices.last)) });
  };

  it('accepts a complete gradient', async () => {
    const harness = await startRun({ sliceValues: SLICE });
    const anna = await harness.join();
    for (let unit = 0; unit < 6; unit++) say(anna, wholePartial([unit, unit + 1]));
    await harness.settle();
    expect(harness.eventsOf('step')).toHaveLength(1);
  });

  it('closes with 4400 on a gradient with a missing slice', async () => {
    const harness = await startRun({ sliceValues: SLICE });
    for (const leaveOut of [[0], [1], [0, 1, 2]]) {
      const worker = await harness.join();
      say(worker, wholePartial([0, 1]), leaveOut);
      expect(worker.closeCode).toBe(4400);
    }
  });

  it('sends each slice of the next θ once, as soon as it is updated', async () => {
    const harness = await startRun({ sliceValues: SLICE });
    const anna = await harness.join();
    const slices = new Slices(numParams, SLICE);
    for (let unit = 0; unit < 6; unit++) say(anna, wholePartial([unit, unit + 1]));
    await harness.settle();
    expect(anna.channel.sent.filter(({ type }) => type === 'paramsSlice')).toHaveLength(
      2 * slices.early.length,
    );
    const firsts = anna.channel.sentOf('paramsSlice').map(({ first }) => first);
    expect(firsts).toEqual([...slices.early, ...slices.early].map(([first]) => first));
  });
});

import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import {
  createHarness,
  startRun,
  type FakeWorker,
  type Harness,
} from '../support/coordinator-harness.js';
import { bytesOf } from '../../src/shared/codec.js';

/** Computes whatever comes, up to `numSteps` steps. */
async function work(worker: FakeWorker, numSteps: number, from = 0): Promise<void> {
  for (let step = from; step < from + numSteps; step++) {
    await worker.answer(worker.rangesOf(step));
  }
}

/** Answers the evaluation that was asked last. */
async function evaluate({ training, settle }: Harness, worker: FakeWorker): Promise<void> {
  const { globalStep, set, numImages } = worker.channel.sentOf('evaluate').at(-1)!;
  const { labels } = training.samples.evaluationSet(set);
  worker.say({
    type: 'evaluation',
    globalStep,
    set,
    range: [0, 1],
    lossSums: new Uint8Array(4),
    predictions: bytesOf(labels.slice(0, numImages)),
    computeMs: 1,
  });
  await settle();
}

describe('Coordinator.run()', () => {
  it('leaves no timer and no listener behind when it is stopped in the middle of a step', async () => {
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

  it('finishes the step under way before it stops', async () => {
    const harness = createHarness();
    const ended = harness.run();
    await harness.settle();
    const anna = await harness.join();
    harness.stop.abort();
    await anna.answer(anna.rangesOf(0));
    expect((await ended).globalStep).toBe(1);
    expect(harness.saved.map(({ globalStep }) => globalStep)).toEqual([1]);
  });

  it('breaks a step off that is not done a second after the word to stop', async () => {
    const harness = createHarness();
    const ended = harness.run();
    await harness.settle();
    await harness.join();
    harness.stop.abort();
    await harness.time.advance(1_000);
    expect((await ended).globalStep).toBe(0);
  });

  it('evaluates an epoch at resume whose evaluation was broken off', async () => {
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

  it('is over at once when resumed from a checkpoint that has reached the target', async () => {
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

  it('says once that it waits for workers', async () => {
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
    ['a worker that breaks off', 1, (worker: FakeWorker) => worker.channel.break()],
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
  it('tells a worker that comes after the end that the run is over, and hears no more of it', async () => {
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

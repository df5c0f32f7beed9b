import { describe, expect, it } from 'vitest';
import { DEADLINES } from '../../../src/shared/deadlines.js';
import { MAX_QUEUED_BYTES } from '../../../src/coordinator/round/peer.js';
import { CLOSE_CODES } from '../../../src/shared/errors.js';
import { Sampler } from '../../../src/coordinator/sampler.js';
import { uint32From } from '../../../src/shared/codec.js';
import type { Range } from '../../../src/shared/protocol.js';
import { startRun, type FakeWorker, type Harness } from '../../support/coordinator-harness.js';

const WHOLE = [[0, 6]];

/** Joins a worker whose send queue is full from the first frame of samples on. */
async function joinWithFullQueue({ connect, settle }: Harness): Promise<FakeWorker> {
  const worker = connect();
  const { channel } = worker;
  const send = channel.send.bind(channel);
  channel.send = (frame) => {
    send(frame);
    if (channel.sent.at(-1)!.type === 'samples') channel.bufferedBytes += MAX_QUEUED_BYTES;
  };
  worker.hello();
  worker.ready();
  await settle();
  return worker;
}

describe('Dispatcher', () => {
  it('sends θ again to a worker that reconnects within a step', async () => {
    const { join, settle } = await startRun();
    const anna = await join();
    anna.channel.break();
    await settle();
    const again = await join(anna.workerId);
    const [step] = again.channel.sentOf('step');
    expect(step.params).not.toBeNull();
    expect(again.rangesOf(0)).toEqual(WHOLE);
  });

  it('tells each worker the samples of its own micro-batches only, and of those that it gets later', async () => {
    const { join, training } = await startRun();
    const anna = await join();
    const bert = await join();
    await anna.answer([[0, 6]]);
    const { config, samples } = training;
    const sampler = new Sampler(config.seed, samples.numTrain, config.batchSize);
    const batch = sampler.batch(1);
    const samplesOf = (ranges: readonly Range[]) =>
      ranges.flatMap(([lo, hi]) =>
        Array.from(batch.subarray(lo * config.microBatch, hi * config.microBatch)),
      );
    const told = (worker: FakeWorker) =>
      worker.channel
        .sentOf('step')
        .filter(({ globalStep }) => globalStep === 1)
        .map(({ numImages, ranges, indices }) => {
          expect(numImages).toBe(batch.length);
          expect(Array.from(uint32From(indices, 'indices'))).toEqual(samplesOf(ranges));
          return ranges;
        });
    const [annas] = told(anna);
    expect(told(bert)).toHaveLength(1);
    anna.channel.break();
    expect(told(bert).at(-1)).toEqual(annas);
  });

  it('reassigns the open micro-batches of a lost worker at once', async () => {
    const { join } = await startRun();
    const anna = await join();
    const bert = await join();
    expect(bert.rangesOf(0)).toEqual([]);
    await anna.answer([[0, 2]]);
    anna.channel.break();
    expect(bert.rangesOf(0)).toEqual([[2, 6]]);
  });

  it('hedges a late worker’s units to one that becomes idle later', async () => {
    const { join, time } = await startRun();
    const anna = await join();
    const bert = await join();
    await anna.answer([[0, 6]]);
    // Anna never answers in step 1; Bert, whose pace is unknown, is slow.
    const [lo, hi] = bert.rangesOf(1)[0];
    await time.advance(300);
    await bert.answer([[lo, hi]]);
    expect(bert.rangesOf(1)).toContainEqual(anna.rangesOf(1)[0]);
  });

  it('hedges a late worker’s units to one that joins', async () => {
    const { join, time } = await startRun();
    const anna = await join();
    await time.advance(2_000);
    const bert = await join();
    expect(anna.rangesOf(0)).toEqual(WHOLE);
    expect(bert.rangesOf(0)).toEqual(WHOLE);
  });

  it('evicts a worker that answers only pings, and waits for another', async () => {
    const { join, time, eventsOf } = await startRun({
      heartbeatTimeoutMs: 10 * DEADLINES.answerMs,
    });
    const anna = await join();
    await time.advance(DEADLINES.answerMs - 1_000);
    expect(anna.closeCode).toBeNull();
    await time.advance(2_000);
    expect(anna.closeCode).toBe(CLOSE_CODES.mute);
    expect(eventsOf('workerLost')[0].message).toContain('6 open micro-batches wait for a worker');
    const bert = await join();
    expect(bert.rangesOf(0)).toEqual(WHOLE);
  });

  it('does not evict a worker that is slow with each of many answers', async () => {
    const { join, time } = await startRun({ heartbeatTimeoutMs: 10 * DEADLINES.answerMs });
    const anna = await join();
    for (let unit = 0; unit < 5; unit++) {
      await time.advance(0.9 * DEADLINES.answerMs);
      await anna.answer([[unit, unit + 1]]);
    }
    expect(anna.closeCode).toBeNull();
  });

  it('measures a newcomer that looks too slow for a share at once, and one a round', async () => {
    const { join, settle } = await startRun({ minWorkers: 2 });
    const anna = await join();
    const bert = await join();
    for (const [lo, hi] of bert.rangesOf(0)) {
      for (let unit = lo; unit < hi; unit++)
        bert.say(bert.partialOf([unit, unit + 1], { computeMs: 1_000 }));
    }
    await settle();
    await anna.answer(anna.rangesOf(0));
    const newcomers = [await join(), await join()];
    const asked = () => newcomers.map((worker) => worker.channel.sentOf('step').length);
    expect(anna.rangesOf(1)).toEqual(WHOLE);
    expect(asked()).toEqual([0, 0]);
    await anna.answer(WHOLE as [number, number][]);
    expect(asked()).toEqual([1, 0]);
  });

  it('gives no share, hedge or samples to a worker whose last frame is still queued', async () => {
    const { join, time } = await startRun({ minWorkers: 2 });
    const anna = await join();
    const bert = await join();
    bert.channel.bufferedBytes = 1;
    const numSent = bert.channel.sent.length;
    await bert.answer(bert.rangesOf(0));
    await anna.answer(anna.rangesOf(0));
    expect(anna.rangesOf(1)).toEqual(WHOLE);
    await time.advance(2_000);
    expect(bert.channel.sent.slice(numSent).filter(({ type }) => type !== 'ping')).toEqual([]);
    bert.channel.drain();
    expect(bert.rangesOf(1)).toEqual(WHOLE);
  });

  it('assigns work as soon as a queue drains, if all workers had one', async () => {
    const { join } = await startRun();
    const anna = await join();
    anna.channel.bufferedBytes = 1;
    await anna.answer(WHOLE as [number, number][]);
    expect(anna.rangesOf(1)).toEqual([]);
    anna.channel.drain();
    expect(anna.rangesOf(1)).toEqual(WHOLE);
  });

  it('adds nothing to a full queue, and drops waiting work when the round is over', async () => {
    const harness = await startRun();
    const { join, time } = harness;
    const anna = await join();
    const bert = await joinWithFullQueue(harness);
    await anna.answer(WHOLE as [number, number][]);
    expect(bert.channel.sentOf('samples')).toHaveLength(1);
    expect(bert.rangesOf(1)).toEqual([]);
    await anna.answer(anna.rangesOf(1));
    await time.advance(2_000);
    await anna.answer(anna.rangesOf(1).slice(1));
    expect(anna.rangesOf(2)).toEqual(WHOLE);
    bert.channel.drain();
    expect(bert.rangesOf(1)).toEqual([]);
  });

  it('does not evict a worker for work that was dropped before it left', async () => {
    const harness = await startRun({ heartbeatTimeoutMs: 10 * DEADLINES.answerMs });
    const { join, time } = harness;
    const anna = await join();
    const bert = await joinWithFullQueue(harness);
    await anna.answer(WHOLE as [number, number][]);
    expect(bert.rangesOf(1)).toEqual([]);
    await anna.answer(anna.rangesOf(1));
    await time.advance(2_000);
    await anna.answer(anna.rangesOf(1).slice(1));
    expect(anna.rangesOf(2)).toEqual(WHOLE);
    for (let unit = 0; unit < 6; unit += 2) {
      await time.advance(0.9 * DEADLINES.answerMs);
      await anna.answer([[unit, unit + 2]]);
    }
    expect(anna.closeCode).toBeNull();
    expect(bert.closeCode).toBeNull();
  });

  it('counts each partial once, however many workers were asked for it', async () => {
    const { join, time, eventsOf } = await startRun();
    const anna = await join();
    await time.advance(2_000);
    const bert = await join();
    await anna.answer([[0, 3]]);
    await bert.answer([[0, 6]]);
    const [step] = eventsOf('step');
    expect(step.workers.map(({ numImages }) => numImages)).toEqual([6, 6]);
  });

  it('does not count idle time against a worker', async () => {
    const { join, time } = await startRun({ minWorkers: 2 });
    const anna = await join();
    const bert = await join();
    await bert.answer(bert.rangesOf(0));
    // Anna never answers; long after Bert is done, he gets her half too.
    await time.advance(316);
    await bert.answer(anna.rangesOf(0));
    expect(bert.rangesOf(1)).toEqual(WHOLE);
  });
});

import { describe, expect, it } from 'vitest';
import { DEADLINES } from '../../../src/shared/deadlines.js';
import { MAX_QUEUED_BYTES } from '../../../src/coordinator/round/peer.js';
import { CLOSE_CODES } from '../../../src/shared/errors.js';
import { startRun } from '../../support/coordinator-harness.js';

const WHOLE = [[0, 6]];

describe('Dispatcher', () => {
  it('gives a worker that comes back within a step the parameters again', async () => {
    const { join, settle } = await startRun();
    const anna = await join();
    anna.channel.break();
    await settle();
    const again = await join(anna.workerId);
    const [step] = again.channel.sentOf('step');
    expect(step.params).not.toBeNull();
    expect(again.rangesOf(0)).toEqual(WHOLE);
  });

  it('hands the open micro-batches of a lost worker to another at once', async () => {
    const { join } = await startRun();
    const anna = await join();
    const bert = await join();
    expect(bert.rangesOf(0)).toEqual([]);
    await anna.answer([[0, 2]]);
    anna.channel.break();
    expect(bert.rangesOf(0)).toEqual([[2, 6]]);
  });

  it('gives a late worker’s units to one that becomes idle after it was late', async () => {
    const { join, time } = await startRun();
    const anna = await join();
    const bert = await join();
    await anna.answer([[0, 6]]);
    // Anna never answers in step 1; Bert, who has never been measured, takes his time.
    const [lo, hi] = bert.rangesOf(1)[0];
    await time.advance(300);
    await bert.answer([[lo, hi]]);
    expect(bert.rangesOf(1)).toContainEqual(anna.rangesOf(1)[0]);
  });

  it('gives a late worker’s units to one that joins', async () => {
    const { join, time } = await startRun();
    const anna = await join();
    await time.advance(2_000);
    const bert = await join();
    expect(anna.rangesOf(0)).toEqual(WHOLE);
    expect(bert.rangesOf(0)).toEqual(WHOLE);
  });

  it('sends a worker away that answers pings and never its work, and waits for another', async () => {
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

  it('does not send a worker away that takes long for each of many answers', async () => {
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

  it('gives no share, no hedge and no samples to a worker whose last frame has not left', async () => {
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

  it('hands work out as soon as a queue has drained, where all workers had one', async () => {
    const { join } = await startRun();
    const anna = await join();
    anna.channel.bufferedBytes = 1;
    await anna.answer(WHOLE as [number, number][]);
    expect(anna.rangesOf(1)).toEqual([]);
    anna.channel.drain();
    expect(anna.rangesOf(1)).toEqual(WHOLE);
  });

  it('adds nothing to a queue that is full, and forgets what waits when the round is over', async () => {
    const { connect, join, settle, time } = await startRun();
    const anna = await join();
    const bert = connect();
    // Bert's connection takes nothing, from his first frame of samples on.
    const send = bert.channel.send.bind(bert.channel);
    bert.channel.send = (frame) => {
      send(frame);
      if (bert.channel.sent.at(-1)!.type === 'samples')
        bert.channel.bufferedBytes += MAX_QUEUED_BYTES;
    };
    bert.hello();
    bert.ready();
    await settle();
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

  it('counts a partial once, whoever was asked for it too', async () => {
    const { join, time, eventsOf } = await startRun();
    const anna = await join();
    await time.advance(2_000);
    const bert = await join();
    await anna.answer([[0, 3]]);
    await bert.answer([[0, 6]]);
    const [step] = eventsOf('step');
    expect(step.workers.map(({ numImages }) => numImages)).toEqual([6, 6]);
  });

  it('does not count the time in which a worker had nothing to do against it', async () => {
    const { join, time } = await startRun({ minWorkers: 2 });
    const anna = await join();
    const bert = await join();
    await bert.answer(bert.rangesOf(0));
    // Anna never answers; long after he was done, Bert is asked for her half too.
    await time.advance(316);
    await bert.answer(anna.rangesOf(0));
    expect(bert.rangesOf(1)).toEqual(WHOLE);
  });
});

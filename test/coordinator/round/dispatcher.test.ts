import { describe, expect, it } from 'vitest';
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

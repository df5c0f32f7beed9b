/** Controlling a run in progress. */
import { expect, it } from 'vitest';
import { startRun, type FakeWorker } from '../support/coordinator-harness.js';

const isPausedIn = (events: readonly { isPaused: boolean }[]) =>
  events.map(({ isPaused }) => isPaused);

async function step(worker: FakeWorker, globalStep: number): Promise<void> {
  await worker.answer(worker.rangesOf(globalStep));
}

it('pauses after the current step while workers join and leave, and resumes with the next one', async () => {
  const { coordinator, join, settle, time, eventsOf } = await startRun();
  const anna = await join();
  coordinator.pause();
  await step(anna, 0);
  expect(isPausedIn(eventsOf('paused'))).toEqual([true]);
  expect(anna.rangesOf(1)).toEqual([]);

  // Anna falls silent.
  await time.advance(10_000);
  expect(eventsOf('workerLost')).toHaveLength(1);
  const bert = await join();
  await time.advance(100);
  expect(bert.channel.sentOf('step')).toEqual([]);
  expect(eventsOf('step')).toHaveLength(1);

  coordinator.resume();
  await settle();
  await step(bert, 1);
  expect(isPausedIn(eventsOf('paused'))).toEqual([true, false]);
  expect(eventsOf('step').map(({ globalStep }) => globalStep)).toEqual([0, 1]);
});

it('pauses while waiting for workers, and starts no step when one joins', async () => {
  const { coordinator, join, settle, eventsOf } = await startRun();
  coordinator.pause();
  coordinator.pause();
  await settle();
  expect(isPausedIn(eventsOf('paused'))).toEqual([true]);
  const anna = await join();
  expect(anna.channel.sentOf('step')).toEqual([]);
  coordinator.resume();
  await settle();
  expect(anna.rangesOf(0)).not.toEqual([]);
});

it('saves on request before the next step, or at once while paused', async () => {
  const { coordinator, join, settle, saved } = await startRun();
  const stepsSaved = () => saved.map(({ globalStep }) => globalStep);
  const anna = await join();
  coordinator.save();
  await step(anna, 0);
  expect(stepsSaved()).toEqual([1]);
  coordinator.pause();
  await step(anna, 1);
  expect(stepsSaved()).toEqual([1]);
  coordinator.save();
  await settle();
  expect(stepsSaved()).toEqual([1, 2]);
});

it('retries a failed checkpoint while paused', async () => {
  let isFull = true;
  const { coordinator, join, time, eventsOf } = await startRun({
    save: () =>
      isFull ? Promise.reject(new Error('disk full')) : Promise.resolve({ path: '', bytes: 1 }),
  });
  const anna = await join();
  coordinator.pause();
  await step(anna, 0);
  coordinator.save();
  await time.advance(1_000);
  expect(eventsOf('notice').at(-1)?.message).toMatch(/disk full; training goes on/);
  isFull = false;
  await time.advance(6_000);
  expect(eventsOf('checkpoint')).toHaveLength(1);
});

it('saves on request while it waits for workers, and within a step that waits for one', async () => {
  const { coordinator, join, time, saved } = await startRun({ minWorkers: 2 });
  const stepsSaved = () => saved.map(({ globalStep }) => globalStep);
  const [anna, bert] = [await join(), await join()];
  for (const worker of [anna, bert]) await step(worker, 0);
  bert.channel.break();
  await step(anna, 1);
  // Step 2 waits for a second worker.
  coordinator.save();
  await time.advance(1_000);
  expect(stepsSaved().at(-1)).toBe(2);

  const charlie = await join();
  for (const worker of [anna, charlie]) await step(worker, 2);
  expect(stepsSaved().at(-1)).toBe(2);
  // Step 3 has begun, and waits for any worker.
  for (const worker of [anna, charlie]) worker.channel.break();
  coordinator.save();
  await time.advance(1_000);
  expect(stepsSaved().at(-1)).toBe(3);
});

it('does not say that it goes on when it stops while paused', async () => {
  const { coordinator, join, stop, ended, saved, eventsOf } = await startRun();
  const anna = await join();
  coordinator.pause();
  await step(anna, 0);
  stop.abort();
  expect(await ended).toMatchObject({ outcome: 'stopped', globalStep: 1 });
  expect(saved.map(({ globalStep }) => globalStep)).toEqual([1]);
  expect(isPausedIn(eventsOf('paused'))).toEqual([true]);
});

it('evicts a worker, reassigns its work, and does not readmit it', async () => {
  const { coordinator, join, connect, settle, eventsOf } = await startRun();
  const anna = await join('anna-id');
  const bert = connect();
  bert.hello({ workerId: 'bert-id', name: 'bert' });
  bert.ready();
  await settle();
  expect(coordinator.dismiss('nobody')).toBe(0);
  expect(coordinator.dismiss('bert')).toBe(1);
  await settle();
  // Told that the run is over, it does not reconnect.
  expect(bert.channel.sentOf('finished')).toMatchObject([{ isFinal: true }]);
  expect(bert.closeCode).toBe(4000);
  expect(eventsOf('workerLost')).toMatchObject([{ workerId: 'bert-id', isGraceful: true }]);
  await step(anna, 0);
  expect(eventsOf('step')).toHaveLength(1);
  expect((await join('bert-id')).channel.sentOf('refused')[0].reason).toMatch(/shut out/);
  expect(coordinator.dismiss('anna-id')).toBe(1);
});

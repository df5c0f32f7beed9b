/** What one slow worker of four costs a step, on virtual time. */
import { describe, expect, it } from 'vitest';
import { startRun, type FakeWorker, type Harness } from '../../support/coordinator-harness.js';
import { allTrainings } from '../../support/simulator/training.js';

const UNIT_MS = 0.5;
const LATENCY_MS = 1;
const NUM_EPOCHS = 250;

/** When work of `workMs` that is ready at a given time actually starts, and when it is done, ms. */
type Machine = (from: number, workMs: number) => { beginsAt: number; doneAt: number };

const even: Machine = (from, workMs) => ({ beginsAt: from, doneAt: from + workMs });
const tenTimesSlower: Machine = (from, workMs) => even(from, 10 * workMs);
/** Runs for the first 5 of every 50 ms. */
const stoppedByTurns: Machine = (from, workMs) => {
  const awake = (at: number) => (at % 50 < 5 ? at : at + 50 - (at % 50));
  const beginsAt = awake(from);
  let doneAt = beginsAt;
  for (let left = workMs; left > 0;) {
    doneAt = awake(doneAt);
    const ranMs = Math.min(left, 5 - (doneAt % 50));
    doneAt += ranMs;
    left -= ranMs;
  }
  return { beginsAt, doneAt };
};

/** Makes the worker answer everything it is asked, after the time that its machine takes. */
function animate({ time }: Harness, worker: FakeWorker, machine: Machine): void {
  const { channel } = worker;
  const send = channel.send.bind(channel);
  let globalStep = -1;
  let freeAt = 0;
  channel.send = (frame) => {
    send(frame);
    const message = channel.sent.at(-1)!;
    if (message.type === 'ping') {
      worker.say({ type: 'pong', sentAt: message.sentAt, workerTime: message.sentAt });
    } else if (message.type === 'step' || message.type === 'evaluate') {
      if (message.globalStep > globalStep) freeAt = time.now + LATENCY_MS;
      globalStep = message.globalStep;
      for (const [lo, hi] of message.ranges) {
        for (let unit = lo; unit < hi; unit++) {
          const from = Math.max(freeAt, time.now + LATENCY_MS);
          const { beginsAt, doneAt } = machine(from, UNIT_MS);
          const computeMs = doneAt - beginsAt;
          freeAt = doneAt;
          time.schedule(freeAt + LATENCY_MS - time.now, () => {
            // A newer step supersedes the work of an older one.
            if (globalStep !== message.globalStep) return;
            worker.say(
              message.type === 'step'
                ? worker.partialOf([unit, unit + 1], { computeMs })
                : {
                    type: 'evaluation',
                    globalStep: message.globalStep,
                    set: message.set,
                    range: [unit, unit + 1],
                    lossSums: new Uint8Array(4),
                    predictions: new Uint8Array(2 * message.numImages),
                    computeMs,
                  },
            );
          });
        }
      }
    }
  };
}

/** @returns p99 of the step time, ms, and the weights */
async function trainOn(machines: readonly Machine[]) {
  const { config } = allTrainings()[0];
  const run = await startRun({
    config: { ...config, epochs: NUM_EPOCHS },
    minWorkers: machines.length,
  });
  for (const machine of machines) {
    const worker = run.connect();
    animate(run, worker, machine);
    worker.hello();
    worker.ready();
    await run.settle();
  }
  await run.time.advance(60_000);
  const { outcome, weightsSha256 } = await run.ended;
  expect(outcome).toBe('finished');
  const times = run.eventsOf('step').map(({ times: { totalMs } }) => totalMs);
  const sorted = times.toSorted((a, b) => a - b);
  return { p99: sorted[Math.floor(0.99 * sorted.length)], weightsSha256 };
}

describe('a straggler', () => {
  it.each([
    { name: 'ten times slower', machine: tenTimesSlower },
    { name: 'stopped for 45 of every 50 ms', machine: stoppedByTurns },
  ])('that is $name at most doubles the p99 step time, for equal weights', async ({ machine }) => {
    const without = await trainOn([even, even, even, even]);
    const withOne = await trainOn([even, even, machine, even]);
    expect(withOne.p99 / without.p99).toBeLessThanOrEqual(2);
    expect(withOne.weightsSha256).toBe(without.weightsSha256);
  });
});

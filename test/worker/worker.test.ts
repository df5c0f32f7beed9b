import { describe, expect, it } from 'vitest';
import type { Channel } from '../../src/shared/channel.js';
import { decodeWorkerMessage } from '../../src/shared/codec.js';
import { CLOSE_CODES } from '../../src/shared/errors.js';
import { createRandom } from '../../src/shared/random.js';
import { Worker, type WorkerOutcome } from '../../src/worker/worker.js';
import { createManualClock } from '../support/manual-clock.js';

/** A worker that has said hello, on a channel that writes down what it says. */
async function greeted() {
  const said: string[] = [];
  const channel: Channel = {
    handler: { received: () => undefined, closed: () => undefined },
    bufferedBytes: 0,
    isReceiving: false,
    send: (frame) => said.push(decodeWorkerMessage(frame).type),
    close: (code) => said.push(`close ${code}`),
    terminate: () => said.push('terminate'),
  };
  const clock = createManualClock(0);
  const worker = new Worker({
    dial: () => Promise.resolve(channel),
    createComputation: () => Promise.reject(new Error('no engine is asked for')),
    engineName: 'simd',
    name: 'a',
    host: 'localhost',
    token: null,
    maxMemoryBytes: 1e9,
    clock,
    random: createRandom(1),
    collectGarbage: () => undefined,
    retryForMs: Infinity,
    log: () => undefined,
  });
  const stop = new AbortController();
  let outcome: WorkerOutcome | null = null;
  const ended = worker.work(stop.signal).then((end) => (outcome = end));
  await Promise.resolve();
  await Promise.resolve();
  expect(said).toEqual(['hello']);
  return { said, channel, clock, stop, ended, outcomeNow: () => outcome };
}

/** Lets all promise reactions run. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a worker that leaves', () => {
  it('says so, and goes when the coordinator has closed: its goodbye has arrived', async () => {
    const { said, channel, stop, ended, outcomeNow } = await greeted();
    stop.abort();
    await settled();
    expect(said).toEqual(['hello', 'leave', `close ${CLOSE_CODES.left}`]);
    expect(outcomeNow()).toBeNull();
    channel.handler.closed(CLOSE_CODES.left, '');
    expect(await ended).toEqual({ outcome: 'left' });
  });

  it('goes by itself where nobody closes', async () => {
    const { clock, stop, ended, outcomeNow } = await greeted();
    stop.abort();
    await settled();
    expect(outcomeNow()).toBeNull();
    clock.advance(500);
    expect(await ended).toEqual({ outcome: 'left' });
  });
});

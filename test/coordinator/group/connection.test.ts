import { Packr } from 'msgpackr';
import { describe, expect, it, vi } from 'vitest';
import { MAX_STRANGERS } from '../../../src/coordinator/group/reception.js';
import { createVectorOps } from '../../../src/model/engine/simd/node.js';
import { buildModel } from '../../../src/model/lenet.js';
import { DEADLINES } from '../../../src/shared/deadlines.js';
import {
  HEARTBEAT_TIMEOUT_MS,
  startRun,
  type FakeWorker,
} from '../../support/coordinator-harness.js';
import { allTrainings } from '../../support/simulator/training.js';

const { numParams } = buildModel(allTrainings()[0].config.hyperparameters);
const packr = new Packr({ useRecords: false });

/** Log lines about closed connections. */
const warnings = (events: readonly { readonly message: string }[]) =>
  events.map(({ message }) => message).filter((message) => message.includes('closed'));

describe('Connection.received()', () => {
  it('contains an unexpected error to its connection, and logs the stack', async () => {
    const run = await startRun({
      judge: () => {
        throw new TypeError('no such engine');
      },
    });
    const anna = await run.join();
    expect(anna.closeCode).toBe(1011);
    const [notice] = run.eventsOf('notice').filter(({ level }) => level === 'error');
    expect(notice.message).toMatch(/TypeError: no such engine at .*connection\.test\.ts/);
    const bert = run.connect();
    bert.hello({ name: 'bert' });
    expect(bert.channel.sentOf('welcome')).toHaveLength(1);
  });

  it('reassigns the work of a worker whose answer caused an unexpected error', async () => {
    const vectors = createVectorOps(numParams);
    vi.spyOn(vectors, 'isFinite').mockImplementationOnce(() => {
      throw new RangeError('no such vector');
    });
    const run = await startRun({ vectors });
    const anna = await run.join();
    expect(anna.rangesOf(0)).toEqual([[0, 6]]);
    await anna.answer([[0, 4]]);
    expect(anna.closeCode).toBe(1011);
    const bert = await run.join();
    expect(bert.rangesOf(0)).toEqual([[0, 6]]);
  });

  it.each([
    ['an unknown key in a non-Latin script', { type: 'leave', ['ы'.repeat(120)]: 1 }],
    ['too many keys', { type: 'hello', ...Object.fromEntries(keys(40)) }],
  ])('closes with 4400 on %s', async (_what, message) => {
    const run = await startRun();
    const stranger = run.connect();
    stranger.channel.handler.received([packr.pack(message)]);
    expect(stranger.closeCode).toBe(4400);
    expect(Buffer.byteLength(stranger.channel.ended!.reason)).toBeLessThanOrEqual(123);
  });

  it('closes with 4422 on an unsolicited or repeated pong', async () => {
    const run = await startRun();
    const anna = await run.join();
    await run.time.advance(600);
    const { sentAt } = anna.channel.sentOf('ping')[0];
    anna.say({ type: 'pong', sentAt, workerTime: 1 });
    expect(anna.closeCode).toBeNull();
    anna.say({ type: 'pong', sentAt, workerTime: 1 });
    expect(anna.closeCode).toBe(4422);
  });
});

describe('Connection deadlines', () => {
  it.each([200, 3_600_000])('hello within 5 s, with a heartbeat timeout of %d ms', async (ms) => {
    const run = await startRun({ heartbeatTimeoutMs: ms });
    const stranger = run.connect();
    await run.time.advance(DEADLINES.helloMs - 1);
    expect(stranger.closeCode).toBeNull();
    await run.time.advance(1);
    expect(stranger.closeCode).toBe(1006);
    expect(warnings(run.eventsOf('notice'))).toEqual([
      'Connection from test closed: no hello within 5 s',
    ]);
  });

  it('ready after an engine has had time to start and compute, even if it answers pings', async () => {
    const run = await startRun({ heartbeatTimeoutMs: 3_600_000 });
    const anna = run.connect();
    anna.hello();
    await run.time.advance(DEADLINES.engineStartMs + DEADLINES.engineCallMs);
    expect(anna.closeCode).toBeNull();
    anna.ready();
    await run.time.advance(DEADLINES.readyMs - DEADLINES.engineStartMs - DEADLINES.engineCallMs);
    expect(anna.closeCode).toBeNull();

    const bert = run.connect();
    bert.hello();
    await run.time.advance(DEADLINES.readyMs);
    expect(bert.closeCode).toBe(1006);
  });
});

describe('WorkerGroup.accept()', () => {
  it('admits 10 of 10 workers among 2,000 silent connections', async () => {
    const run = await startRun();
    const silent: FakeWorker[] = [];
    const workers: FakeWorker[] = [];
    for (let i = 0; i < 10; i++) {
      for (let j = 0; j < 200; j++) silent.push(run.connect());
      workers.push(await run.join());
    }
    expect(workers.map(({ closeCode }) => closeCode)).toEqual(workers.map(() => null));
    expect(silent.filter(({ closeCode }) => closeCode === null)).toHaveLength(MAX_STRANGERS - 1);
    // Rate-limited: not one line per connection.
    expect(warnings(run.eventsOf('notice')).length).toBeLessThan(30);
  });
});

function keys(count: number): [string, number][] {
  return Array.from({ length: count }, (_, i) => [`${i}`.padStart(200, 'k'), i]);
}

describe('Connection.silentMs()', () => {
  const TICK_MS = HEARTBEAT_TIMEOUT_MS / 6;

  it('does not count a worker as silent while its ping waits behind frames that are being sent', async () => {
    const { join, time } = await startRun();
    const anna = await join();
    for (let left = 100_000; left > 0; left -= 1_000) {
      anna.channel.bufferedBytes = left;
      await time.advance(TICK_MS / 2);
    }
    expect(anna.closeCode).toBeNull();
    anna.channel.drain();
    await time.advance(HEARTBEAT_TIMEOUT_MS);
    expect(anna.closeCode).toBe(1006);
  });

  it('counts it as silent on time if the send queue does not move', async () => {
    const { join, time } = await startRun();
    const anna = await join();
    anna.channel.bufferedBytes = 100_000;
    await time.advance(HEARTBEAT_TIMEOUT_MS);
    expect(anna.closeCode).toBe(1006);
  });

  it('counts it as silent on time, whatever is queued and sent after an unanswered ping', async () => {
    const { join, time } = await startRun();
    const anna = await join();
    await time.advance(TICK_MS);
    for (let i = 0; i < 6; i++) {
      anna.channel.bufferedBytes = i % 2 === 0 ? 50_000 : 100;
      await time.advance(TICK_MS);
    }
    expect(anna.closeCode).toBe(1006);
  });
});

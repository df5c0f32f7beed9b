import { describe, expect, it } from 'vitest';
import type { Channel } from '../../src/shared/channel.js';
import { LENET5, buildModel } from '../../src/model/lenet.js';
import { NO_REGULARIZATION, Regularizer } from '../../src/model/regularizer.js';
import { decodeWorkerMessage, encode } from '../../src/shared/codec.js';
import { CLOSE_CODES, UserError } from '../../src/shared/errors.js';
import type { Message } from '../../src/shared/protocol.js';
import { createRandom } from '../../src/shared/random.js';
import type { Computation } from '../../src/worker/computation.js';
import { Memory } from '../../src/worker/memory.js';
import { Worker, type WorkerOutcome } from '../../src/worker/worker.js';
import { createManualClock } from '../support/manual-clock.js';

/** A worker that has said hello, on a channel that records what it sends. */
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
    session: {
      createComputation: () => Promise.reject(new Error('no engine is asked for')),
      engineName: 'simd',
      name: 'a',
      host: 'localhost',
      token: null,
      maxMemoryBytes: 1e9,
      clock,
      collectGarbage: () => undefined,
      log: () => undefined,
    },
    random: createRandom(1),
    retryForMs: Infinity,
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
  it('says goodbye, and ends once the coordinator has closed the connection', async () => {
    const { said, channel, stop, ended, outcomeNow } = await greeted();
    stop.abort();
    await settled();
    expect(said).toEqual(['hello', 'leave', `close ${CLOSE_CODES.left}`]);
    expect(outcomeNow()).toBeNull();
    channel.handler.closed(CLOSE_CODES.left, '');
    expect(await ended).toEqual({ outcome: 'left' });
  });

  it('ends by itself if the coordinator does not close', async () => {
    const { clock, stop, ended, outcomeNow } = await greeted();
    stop.abort();
    await settled();
    expect(outcomeNow()).toBeNull();
    clock.advance(500);
    expect(await ended).toEqual({ outcome: 'left' });
  });
});

describe('a worker whose coordinator is gone', () => {
  const never = new Promise<Float32Array>(() => undefined);
  it.each([
    ['was ready', (numParams: number) => Promise.resolve(new Float32Array(numParams))],
    ['waits for workers of its own', () => never],
  ])('tries the alternates named by the welcome, if it %s', async (_, prove) => {
    const dialled: (string | null)[] = [];
    const channels: Channel[] = [];
    const clock = createManualClock(0);
    const worker = new Worker({
      dial(_signal, alternate) {
        dialled.push(alternate);
        // An alternate that can never serve the run is no reason to end.
        if (alternate !== null) return Promise.reject(new UserError('of another run'));
        if (dialled.length > 1) return Promise.reject(new Error('nobody there'));
        const channel: Channel = {
          handler: { received: () => undefined, closed: () => undefined },
          bufferedBytes: 0,
          isReceiving: false,
          send: () => undefined,
          close: () => undefined,
          terminate: () => undefined,
        };
        channels.push(channel);
        return Promise.resolve(channel);
      },
      session: {
        createComputation: (model, regularizer) =>
          Promise.resolve({
            ...{ model, regularizer, name: 'fake', fingerprint: 'f', isExact: true, device: 'd' },
            prove: () => prove(model.numParams),
            run: () => Promise.resolve(),
            dispose: () => Promise.resolve(),
          }),
        engineName: 'simd',
        name: 'a',
        host: 'localhost',
        token: null,
        maxMemoryBytes: 1e9,
        clock,
        collectGarbage: () => undefined,
        log: () => undefined,
      },
      random: createRandom(1),
      retryForMs: Infinity,
    });
    void worker.work(new AbortController().signal);
    await settled();
    const model = buildModel(LENET5);
    channels[0].handler.received(
      encode({
        type: 'welcome',
        workerId: 'w1',
        secret: 'ab'.repeat(32),
        runId: 'r',
        hyperparameters: structuredClone(LENET5) as Message<'welcome'>['hyperparameters'],
        input: model.input,
        numClasses: model.numClasses,
        regularization: NO_REGULARIZATION,
        microBatch: 8,
        evaluationBlock: 10,
        numParams: model.numParams,
        sliceValues: 1e9,
        datasetId: 'd',
        numSamples: 10,
        proofSeed: 1,
        heartbeatTimeoutMs: 1e6,
        alternates: ['ws://parent:1', 'ws://top:2'],
      }),
    );
    await settled();
    channels[0].handler.closed(1006, '');
    for (let turn = 0; turn < 5; turn++) {
      await settled();
      clock.advance(5_000);
    }
    await settled();
    const [parent, top] = ['ws://parent:1', 'ws://top:2'];
    // Alternating with its own address.
    expect(dialled.slice(0, 6)).toEqual([null, null, parent, top, null, parent]);
  });
});

it('gives up at the end of its time, however long a refusal is to last', async () => {
  const clock = createManualClock(0);
  const handlers: Channel[] = [];
  const worker = new Worker({
    dial() {
      const channel: Channel = {
        handler: { received: () => undefined, closed: () => undefined },
        ...{ bufferedBytes: 0, isReceiving: false },
        ...{ send: () => undefined, close: () => undefined, terminate: () => undefined },
      };
      handlers.push(channel);
      return Promise.resolve(channel);
    },
    session: {
      createComputation: () => Promise.reject(new Error('no engine is asked for')),
      ...{ engineName: 'simd', name: 'a', host: 'localhost', token: null, maxMemoryBytes: 1e9 },
      ...{ clock, collectGarbage: () => undefined, log: () => undefined },
    },
    random: createRandom(1),
    retryForMs: 60_000,
  });
  let outcome: WorkerOutcome | null = null;
  void worker.work(new AbortController().signal).then((end) => (outcome = end));
  const refuse = async () => {
    await settled();
    const reason = 'come back in an hour';
    handlers.at(-1)!.handler.received(encode({ type: 'refused', reason, retryAfterMs: 3_600_000 }));
    await settled();
  };
  await refuse();
  clock.advance(59_999);
  await settled();
  expect(outcome).toBeNull();
  clock.advance(1);
  await refuse();
  expect(outcome).toMatchObject({ outcome: 'gaveUp', reason: 'come back in an hour' });
});

it('disposes of a computation that is made after its end', async () => {
  const memory = new Memory();
  const model = buildModel(LENET5);
  const regularizer = new Regularizer(model, NO_REGULARIZATION);
  let made: (computation: Computation) => void = () => undefined;
  let isDisposed = false;
  const computation = {
    dispose() {
      isDisposed = true;
      return Promise.resolve();
    },
  } as Computation;
  const welcome = {} as Message<'welcome'>;
  const creating = memory.computationFor(model, regularizer, welcome, () => {
    return new Promise((resolve) => (made = resolve));
  });
  await settled();
  await memory.close();
  made(computation);
  await expect(creating).rejects.toThrow('The worker has ended');
  expect(isDisposed).toBe(true);
});

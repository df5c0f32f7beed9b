/** A relay over the runs of its parent: whom it takes along, and how its door stands meanwhile. */
import { expect, it } from 'vitest';
import type { Channel } from '../../src/shared/channel.js';
import { NO_REGULARIZATION, Regularizer } from '../../src/model/regularizer.js';
import { createVectorOps } from '../../src/model/engine/simd/node.js';
import type { Message } from '../../src/shared/protocol.js';
import { createRandom } from '../../src/shared/random.js';
import { Relay } from '../../src/relay/relay.js';
import type { SessionOptions } from '../../src/worker/session.js';
import type { Worker, WorkerOutcome } from '../../src/worker/worker.js';
import { FakeWorker, type Harness } from '../support/coordinator-harness.js';
import { FakeChannel } from '../support/fake-channel.js';
import { EVALUATION_BLOCK, allTrainings } from '../support/simulator/training.js';
import { VirtualProcess, VirtualTime } from '../support/virtual-clock.js';

it('keeps its door open from one run to the next, so that its workers find it', async () => {
  const training = allTrainings()[0];
  const { samples, model, config } = training;
  const time = new VirtualTime();
  const { clock } = new VirtualProcess(time, { name: 'relay' });
  const seen: string[] = [];
  let knock: (channel: Channel, address: string) => void = () => undefined;
  let own: Pick<SessionOptions, 'createComputation'> | null = null;
  let end: (outcome: WorkerOutcome) => void = () => undefined;
  const relay = new Relay({
    createWorker(given) {
      own = given;
      return { work: () => new Promise((resolve) => (end = resolve)) } as unknown as Worker;
    },
    parent: () => 'ws://parent:7700',
    crewOptions: () => {
      seen.push('made');
      return {
        ...{ clock, random: createRandom(1, 'crew'), auditRandom: createRandom(1, 'audit') },
        report: () => undefined,
        arbiter: training.createEngine(),
        vectors: createVectorOps(model.numParams),
        judge: () => ({ isAccepted: true, isExact: true }),
        isTokenRight: () => true,
        workerKey: Buffer.alloc(32, 'crew'),
        ...{ allowsApproximate: false, minWorkers: 1, maxWorkers: 8, audit: 0 },
      };
    },
    openDoor: (crew, accept) => {
      seen.push('opened');
      knock = accept;
      return Promise.resolve({
        fits: (other) => other.model.numParams === crew.model.numParams,
        close: () => Promise.resolve(void seen.push('closed')),
      });
    },
  });
  const ended = relay.work(new AbortController().signal);
  const welcome = {
    ...{ type: 'welcome', workerId: 'r1', secret: 'ab'.repeat(32), runId: 'first' },
    hyperparameters: config.hyperparameters,
    ...{ input: model.input, numClasses: model.numClasses, regularization: NO_REGULARIZATION },
    ...{ microBatch: config.microBatch, evaluationBlock: EVALUATION_BLOCK },
    ...{ numParams: model.numParams, sliceValues: 1e9, datasetId: samples.datasetId },
    ...{ numSamples: 100, proofSeed: 1, heartbeatTimeoutMs: 3_000, alternates: [] },
  } as unknown as Message<'welcome'>;
  const regularizer = new Regularizer(model, NO_REGULARIZATION);
  const join = async () => {
    const channel = new FakeChannel();
    knock(channel, '10.0.0.1');
    const worker = new FakeWorker({ training, settle: () => time.advance(0) } as Harness, channel);
    worker.hello();
    worker.ready();
    await time.advance(0);
    return worker;
  };

  await own!.createComputation(model, regularizer, welcome);
  const first = relay.crew;
  const { channel } = await join();
  expect(first?.numWorkers).toBe(1);
  // The coordinator has started anew.
  await own!.createComputation(model, regularizer, { ...welcome, runId: 'second' });
  expect(relay.crew).not.toBe(first);
  expect(channel.sentOf('finished')).toMatchObject([{ isFinal: false }]);
  expect(relay.crew?.wasReady).toBe(first?.wasReady);
  await join();
  expect(relay.crew?.numWorkers).toBe(1);
  expect(seen).toEqual(['made', 'opened', 'made']);

  end({ outcome: 'finished', reason: 'finished' });
  await ended;
  expect(seen.at(-1)).toBe('closed');
  const late = new FakeChannel();
  knock(late, '10.0.0.1');
  expect(relay.crew).toBeNull();
});

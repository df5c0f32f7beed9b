/**
 * A coordinator on virtual time, with workers that say what a test tells them to.
 */
import { createVectorOps } from '../../src/model/engine/simd/node.js';
import { buildModel } from '../../src/model/lenet.js';
import { onTestFinished } from 'vitest';
import { Identity } from '../../src/coordinator/group/identity.js';
import { Coordinator, type CoordinatorOptions } from '../../src/coordinator/coordinator.js';
import type { RunEvent, RunResult } from '../../src/coordinator/events.js';
import type { Checkpoint } from '../../src/model/checkpoint.js';
import { bytesOf, float32From, uint32From } from '../../src/shared/codec.js';
import {
  PROTOCOL_VERSION,
  type Message,
  type Range,
  type WorkerMessage,
} from '../../src/shared/protocol.js';
import { createRandom } from '../../src/shared/random.js';
import { FakeChannel } from './fake-channel.js';
import { IMAGE_BYTES } from './mnist.js';
import { allTrainings, EVALUATION_BLOCK, imagesOf, type Training } from './simulator/training.js';
import { VirtualProcess, VirtualTime } from './virtual-clock.js';

const WORKER_KEY = Buffer.alloc(32, 'harness');
const identity = new Identity(WORKER_KEY);

export const HEARTBEAT_TIMEOUT_MS = 3_000;

export interface Harness {
  readonly time: VirtualTime;
  readonly process: VirtualProcess;
  readonly training: Training;
  readonly coordinator: Coordinator;
  readonly events: RunEvent[];
  /** Checkpoints that were to be saved. */
  readonly saved: Checkpoint[];
  readonly stop: AbortController;
  /** Begins the run. */
  readonly run: () => Promise<RunResult>;
  /** Lets what is ready happen. */
  readonly settle: () => Promise<void>;
  /** A new connection. */
  readonly connect: (address?: string) => FakeWorker;
  /** A new connection of a worker that has said hello and ready. */
  readonly join: (workerId?: string | null) => Promise<FakeWorker>;
  readonly eventsOf: <Type extends RunEvent['type']>(
    type: Type,
  ) => Extract<RunEvent, { type: Type }>[];
}

export function createHarness(overrides: Partial<CoordinatorOptions> = {}): Harness {
  const training = allTrainings()[0];
  const time = new VirtualTime();
  const process = new VirtualProcess(time, { name: 'coordinator' });
  const events: RunEvent[] = [];
  const saved: Checkpoint[] = [];
  const stop = new AbortController();
  const coordinator = new Coordinator({
    runId: 'run',
    name: 'run',
    config: training.config,
    samples: training.samples,
    clock: process.clock,
    random: createRandom(1, 'harness'),
    auditRandom: createRandom(1, 'harness', 'audit'),
    workerKey: WORKER_KEY,
    report: (event) => events.push(event),
    arbiter: training.createEngine(),
    vectors: createVectorOps(buildModel(training.config.hyperparameters).numParams),
    judge: () => ({ isAccepted: true, isExact: true }),
    isTokenRight: (token) => token === 'secret',
    minWorkers: 1,
    patience: null,
    maxWorkers: 64,
    heartbeatTimeoutMs: HEARTBEAT_TIMEOUT_MS,
    checkpointEveryMs: 1e9,
    checkpointEverySteps: 0,
    targetAccuracy: null,
    audit: 0,
    verifyLedger: true,
    resumeFrom: null,
    save: (checkpoint) => {
      saved.push(checkpoint);
      return Promise.resolve({ path: 'there', bytes: 1 });
    },
    ...overrides,
  });
  const harness: Harness = {
    time,
    process,
    training,
    coordinator,
    events,
    saved,
    stop,
    run: () => coordinator.run(stop.signal),
    settle: () => time.advance(0),
    connect(address = 'test') {
      const channel = new FakeChannel();
      coordinator.accept(channel, address);
      return new FakeWorker(harness, channel);
    },
    async join(workerId = null) {
      const worker = harness.connect();
      worker.hello({ workerId });
      worker.ready();
      await harness.settle();
      return worker;
    },
    eventsOf: <Type extends RunEvent['type']>(type: Type) =>
      events.filter((event): event is Extract<RunEvent, { type: Type }> => event.type === type),
  };
  return harness;
}

/** Begins a run that is stopped with the test. */
export async function startRun(
  overrides: Partial<CoordinatorOptions> = {},
): Promise<Harness & { readonly ended: Promise<RunResult> }> {
  const harness = createHarness(overrides);
  const ended = harness.run();
  onTestFinished(async () => {
    harness.stop.abort();
    await harness.time.advance(5_000);
    await ended.catch(() => undefined);
  });
  await harness.settle();
  return { ...harness, ended };
}

/** The worker's side: honest where not told otherwise. */
export class FakeWorker {
  readonly channel: FakeChannel;
  private readonly harness: Harness;

  constructor(harness: Harness, channel: FakeChannel) {
    this.harness = harness;
    this.channel = channel;
  }

  get workerId(): string {
    return this.channel.sentOf('welcome')[0].workerId;
  }

  /** How the coordinator ended the connection; null while it is open. */
  get closeCode(): number | null {
    return this.channel.ended?.code ?? null;
  }

  hello(changes: Partial<Message<'hello'>> = {}): void {
    this.channel.say({
      type: 'hello',
      protocolVersion: PROTOCOL_VERSION,
      workerId: null,
      // Who names an id is its owner, unless the test says otherwise.
      secret: changes.workerId ? identity.secretOf(changes.workerId) : null,
      token: 'secret',
      engine: 'reference',
      name: 'anna',
      host: 'box',
      datasetId: null,
      cached: new Uint8Array(0),
      ...changes,
    });
  }

  ready(changes: Partial<Message<'ready'>> = {}): void {
    this.channel.say({
      type: 'ready',
      fingerprint: 'reference/1',
      device: 'a test',
      proof: new Uint8Array(4),
      ...changes,
    });
  }

  say(message: WorkerMessage): void {
    this.channel.say(message);
  }

  /** The ranges of a step that this worker was given so far, in the order of messages. */
  rangesOf(globalStep: number): Range[] {
    return this.channel
      .sentOf('step')
      .filter((step) => step.globalStep === globalStep)
      .flatMap((step) => step.ranges);
  }

  /** (n,) sample indices of the step's batch, as far as this worker was told. */
  private indicesOf(step: number): Uint32Array {
    const messages = this.channel.sentOf('step').filter(({ globalStep }) => globalStep === step);
    const { microBatch } = this.harness.training.config;
    const batch = new Uint32Array(messages[0].numImages);
    for (const { ranges, indices } of messages) {
      const told = uint32From(indices, 'indices');
      let from = 0;
      for (const [lo, hi] of ranges) {
        const place = batch.subarray(lo * microBatch, hi * microBatch);
        place.set(told.subarray(from, from + place.length));
        from += place.length;
      }
    }
    return batch;
  }

  /** The true partial of a range of the step that was asked last. */
  partialOf(range: Range, changes: Partial<Message<'partial'>> = {}): Message<'partial'> {
    const { samples, createEngine, model, config } = this.harness.training;
    const steps = this.channel.sentOf('step');
    const { globalStep } = steps.at(-1)!;
    const params = steps.findLast((step) => step.params !== null)!.params!;
    const indices = this.indicesOf(globalStep);
    const engine = createEngine();
    engine.setParams(float32From(params, model.numParams, 'params'));
    const gradient = new Float32Array(model.numParams);
    let lossSum = 0;
    let numCorrect = 0;
    let numImages = 0;
    for (let unit = range[0]; unit < range[1]; unit++) {
      const { images, labels } = imagesOf(
        samples,
        indices.subarray(unit * config.microBatch, (unit + 1) * config.microBatch),
      );
      const term = engine.allocateGradient();
      const loss = engine.gradient(images, labels, term);
      if (loss instanceof Promise) throw new TypeError('Expected an engine that does not wait');
      engine.add(gradient, term);
      lossSum = Math.fround(lossSum + loss.lossSum);
      numCorrect += loss.numCorrect;
      numImages += labels.length;
    }
    return {
      type: 'partial',
      globalStep,
      range: [range[0], range[1]],
      gradient: bytesOf(gradient),
      lossSum,
      numCorrect,
      numImages,
      startedAt: 0,
      computeMs: 1,
      ...changes,
    };
  }

  /** The true answer to a range of the evaluation that was asked last. */
  evaluationOf(range: Range, changes: Partial<Message<'evaluation'>> = {}): Message<'evaluation'> {
    const { samples, createEngine, model } = this.harness.training;
    const asked = this.channel.sentOf('evaluate');
    const { globalStep, set } = asked.at(-1)!;
    const params = asked.findLast((message) => message.params !== null)!.params!;
    const { images, labels } = samples.evaluationSet(set);
    const engine = createEngine();
    engine.setParams(float32From(params, model.numParams, 'params'));
    const lossSums = new Float32Array(range[1] - range[0]);
    const predictions: number[] = [];
    for (let block = range[0]; block < range[1]; block++) {
      const [from, to] = [block * EVALUATION_BLOCK, (block + 1) * EVALUATION_BLOCK];
      const result = engine.evaluate(
        images.subarray(from * IMAGE_BYTES, to * IMAGE_BYTES),
        labels.subarray(from, to),
      );
      if (result instanceof Promise) throw new TypeError('Expected an engine that does not wait');
      lossSums[block - range[0]] = result.lossSum;
      predictions.push(...result.predictions);
    }
    return {
      type: 'evaluation',
      globalStep,
      set,
      range: [range[0], range[1]],
      lossSums: bytesOf(lossSums),
      predictions: bytesOf(Uint16Array.from(predictions)),
      computeMs: 1,
      ...changes,
    };
  }

  /** Answers single micro-batches for all of the ranges. */
  async answer(ranges: readonly Range[]): Promise<void> {
    for (const [lo, hi] of ranges) {
      for (let unit = lo; unit < hi; unit++) this.say(this.partialOf([unit, unit + 1]));
    }
    await this.harness.settle();
  }
}

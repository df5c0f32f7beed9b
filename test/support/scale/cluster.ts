/**
 * Some steps of a run of any size: the coordinator's and the relays' own code on virtual time, over the fabric, with
 * workers that take as long as computing does and answer with a gradient that is there already.
 */
import { Coordinator } from '../../../src/coordinator/coordinator.js';
import type { Samples } from '../../../src/coordinator/samples.js';
import { createSimdEngine, createVectorOps } from '../../../src/model/engine/simd/node.js';
import { DIGITS, LENET5, MNIST, buildModel, imageBytes } from '../../../src/model/lenet.js';
import { frameBytes, type Channel, type Frame } from '../../../src/shared/channel.js';
import { bytesOf, decodeCoordinatorMessage, encode } from '../../../src/shared/codec.js';
import { parseRunConfig } from '../../../src/shared/config.js';
import {
  PROTOCOL_VERSION,
  type CoordinatorMessage,
  type Message,
  type Range,
} from '../../../src/shared/protocol.js';
import { createRandom, type Random } from '../../../src/shared/random.js';
import { Slices, sliceOf } from '../../../src/shared/slices.js';
import { maximalNodes } from '../../../src/shared/tree.js';
import { Relay } from '../../../src/relay/relay.js';
import { SampleCache } from '../../../src/worker/sample-cache.js';
import { Worker } from '../../../src/worker/worker.js';
import { VirtualTime } from '../virtual-clock.js';
import { MICRO_BATCH, measureStepCosts, type Costs, type StepCosts } from './costs.js';
import { Fabric, Machine } from './fabric.js';

/** Steps of a run; the first half teaches the coordinator how fast its workers are. */
const NUM_STEPS = 6;
/** A run has a test set, if a small one. */
const NUM_TEST = 10;
/** Of a worker's time for an image, either way. */
const NOISE = 0.05;
/** Nobody is silent here, and pings would only be in the way. */
const HEARTBEAT_MS = 3_600_000;

const model = buildModel(LENET5);
const arbiter = createSimdEngine(model);
const vectors = createVectorOps(model.numParams);

export interface Shape {
  readonly numWorkers: number;
  readonly batchSize: number;
  /** Relays below the coordinator, below each of those, and so on; empty for a star. */
  readonly relays: readonly number[];
  /** That θ and gradients are sent in; 1 by default. */
  readonly numSlices?: number;
}

export interface Network {
  readonly gigabits: number;
  readonly latencyMs: number;
}

export interface ClusterResult {
  /** Median of the measured steps, ms. */
  readonly stepMs: number;
  /** Images/s of the run ÷ those that its workers compute without it. */
  readonly efficiency: number;
  /** Of the coordinator's core, for a step, ms. */
  readonly coordinatorMs: number;
  /** Sent by all together, for a step. */
  readonly bytes: number;
}

/** Who has others below it. */
interface Hub {
  readonly machine: Machine;
  readonly accept: (channel: Channel, address: string) => void;
}

export async function runCluster(
  shape: Shape,
  network: Network,
  costs: Costs,
): Promise<ClusterResult> {
  const { numWorkers, batchSize, relays, numSlices = 1 } = shape;
  const slices = new Slices(model.numParams, Math.ceil(model.numParams / numSlices));
  const samples = blankSamples(NUM_STEPS * batchSize);
  const numSamples = samples.numTrain + samples.numTest;
  // Every worker says that it has every image, so none is looked at.
  const everything = new SampleCache({
    datasetId: samples.datasetId,
    imageBytes: imageBytes(samples.input),
    images: new Uint8Array(0),
    labels: new Uint16Array(numSamples),
    cached: new Uint8Array(Math.ceil(numSamples / 8)).fill(0xff),
  });
  const time = new VirtualTime();
  const random = createRandom(1, 'cluster');
  const stepCosts = new Map<Machine, StepCosts>();
  const parents = new Map<Machine, Machine>();
  const numSums = new Map<Machine, number>();
  /** The step that each hub has planned. */
  const planned = new Map<Machine, number>();
  /** The slice of θ that the coordinator has updated last, as `step:first`. */
  let updated = '';
  const socketMs = (frame: Frame) => costs.frameMs + costs.msPerByte * frameBytes(frame);
  const fabric = new Fabric(time, {
    bytesPerMs: (network.gigabits * 1e9) / 8 / 1000,
    latencyMs: network.latencyMs,
    sendMs(frame, sender) {
      const kind = kindOf(frame);
      const isCoordinator = !parents.has(sender);
      const sumsMs = (numSums.get(sender) ?? 0) * costs.addMs;
      if (kind === 'partial' || kind === 'gradientSlice') {
        // A relay adds up before it sends the first slice.
        numSums.set(sender, 0);
        return socketMs(frame) + costs.encodeMs * fractionOf(frame) + sumsMs;
      }
      if (kind === 'paramsSlice') {
        if (!isCoordinator) return socketMs(frame);
        const { globalStep, first } = decoded(frame) as Message<'paramsSlice'>;
        const slice = `${globalStep}:${first}`;
        if (updated === slice) return socketMs(frame);
        updated = slice;
        return socketMs(frame) + (sumsMs + costs.updateMs) * fractionOf(frame);
      }
      if (kind !== 'step') return socketMs(frame);
      const { planMs, encodeMs } = stepCosts.get(sender)!;
      const { globalStep } = decodeCoordinatorMessage(frame) as Message<'step'>;
      if (planned.get(sender) === globalStep) return socketMs(frame) + encodeMs;
      planned.set(sender, globalStep);
      if (!isCoordinator) return socketMs(frame) + encodeMs + planMs;
      numSums.set(sender, 0);
      // It plans once more, for the samples that it sends ahead.
      const ownMs = (sumsMs + costs.updateMs) / slices.ranges.length + planMs;
      return socketMs(frame) + encodeMs + planMs + ownMs;
    },
    receiveMs(frame, receiver) {
      const kind = kindOf(frame);
      if (kind === 'step') {
        return socketMs(frame) + stepCosts.get(parents.get(receiver)!)!.decodeMs;
      }
      if (kind === 'partial') numSums.set(receiver, (numSums.get(receiver) ?? 0) + 1);
      if (kind !== 'partial' && kind !== 'gradientSlice') return socketMs(frame);
      return socketMs(frame) + costs.decodeMs * fractionOf(frame);
    },
  });

  const root = new Machine(time, 'coordinator');
  const numChildren = relays.at(0) ?? numWorkers;
  const ends: { readonly atMs: number; readonly busyMs: number; readonly bytes: number }[] = [];
  const coordinator = new Coordinator({
    ...{ runId: 'scale', name: 'scale' },
    // Set past the option, which takes no more than the images of MNIST.
    config: {
      ...parseRunConfig({ dataset: 'blank', epochs: 1, microBatch: MICRO_BATCH }),
      batchSize,
    },
    samples,
    clock: root.process.clock,
    random: createRandom(1, 'scale'),
    auditRandom: createRandom(1, 'scale', 'audit'),
    report: (event) => {
      if (event.type === 'notice' && event.level === 'error') throw new Error(event.message);
      if (event.type !== 'step') return;
      ends.push({ atMs: time.now, busyMs: root.busyMs, bytes: fabric.sentBytes });
    },
    arbiter,
    vectors,
    ...openHouse('coordinator'),
    minWorkers: numChildren,
    maxWorkers: numChildren,
    heartbeatTimeoutMs: HEARTBEAT_MS,
    checkpointEveryMs: Infinity,
    sliceValues: slices.ranges[0][1],
    ...{ checkpointEverySteps: 0, audit: 0, targetAccuracy: null, patience: null },
    ...{ verifyLedger: false, resumeFrom: null },
    save: () => Promise.resolve({ path: '', bytes: 0 }),
  });
  const failures: unknown[] = [];
  const watched = (ended: Promise<unknown>) =>
    void ended.catch((error: unknown) => failures.push(error));
  watched(coordinator.run(new AbortController().signal));

  /** Puts so many workers below a hub. */
  const populate = (hub: Hub, count: number, levels: readonly number[]) => {
    const numBelow = levels.at(0) ?? count;
    const numUnits = Math.ceil((batchSize / MICRO_BATCH) * (count / numWorkers));
    stepCosts.set(hub.machine, stepCostsOf(numBelow, numUnits));
    for (let i = 0; i < numBelow; i++) {
      const machine = new Machine(time, `${hub.machine.name}/${i}`);
      parents.set(machine, hub.machine);
      const dial = () => {
        const [channel, upper] = fabric.connect(machine, hub.machine);
        hub.accept(upper, machine.name);
        return channel;
      };
      if (levels.length === 0) {
        // One after the other: of those that have not said hello, a hub takes so many and no more.
        time.schedule(i, () => {
          new ReplayingWorker(machine, random, costs, slices, dial()).hello(everything);
        });
        continue;
      }
      const share = Math.floor(((i + 1) * count) / numBelow) - Math.floor((i * count) / numBelow);
      const relay = new Relay({
        createWorker: (own) =>
          new Worker({
            session: {
              ...own,
              ...{ name: machine.name, host: 'scale', token: null, maxMemoryBytes: Infinity },
              clock: machine.process.clock,
              collectGarbage: () => undefined,
              keepsake: {
                ...{ identity: null, samples: everything },
                keepWelcome: () => undefined,
                keepSamples: () => undefined,
              },
              log: (level, message) => {
                if (level === 'warn') failures.push(new Error(`${machine.name}: ${message}`));
              },
            },
            dial: () => Promise.resolve(dial()),
            random: createRandom(1, machine.name),
            retryForMs: Infinity,
          }),
        parent: () => hub.machine.name,
        crewOptions: () => ({
          clock: machine.process.clock,
          random: createRandom(1, machine.name, 'crew'),
          auditRandom: createRandom(1, machine.name, 'audit'),
          report: () => undefined,
          arbiter,
          vectors,
          ...openHouse(machine.name),
          allowsApproximate: false,
          minWorkers: levels.at(1) ?? share,
          maxWorkers: levels.at(1) ?? share,
          audit: 0,
        }),
        openDoor: (_crew, accept) => {
          populate({ machine, accept }, share, levels.slice(1));
          return Promise.resolve({ fits: () => true, close: () => Promise.resolve() });
        },
      });
      watched(relay.work(new AbortController().signal));
    }
  };
  populate(
    { machine: root, accept: (channel, address) => coordinator.accept(channel, address) },
    numWorkers,
    relays,
  );
  await time.runUntil(() => ends.length === NUM_STEPS || failures.length > 0, Infinity);
  if (failures.length > 0) throw failures[0];
  if (ends.length < NUM_STEPS) throw new Error(`Only ${ends.length} steps were made`);

  const measured = ends.slice(NUM_STEPS / 2 - 1);
  const each = (of: (end: (typeof ends)[0]) => number) =>
    median(measured.slice(1).map((end, i) => of(end) - of(measured[i])));
  const stepMs = each(({ atMs }) => atMs);
  return {
    stepMs,
    efficiency: (1000 * batchSize) / stepMs / (numWorkers * costs.imagesPerSecond),
    coordinatorMs: each(({ busyMs }) => busyMs),
    bytes: each(({ bytes }) => bytes),
  };
}

/** Answers what it is asked for, after the time that computing it takes. */
class ReplayingWorker {
  private readonly machine: Machine;
  private readonly random: Random;
  private readonly msPerImage: number;
  private readonly slices: Slices;
  private readonly channel: Channel;

  constructor(machine: Machine, random: Random, costs: Costs, slices: Slices, channel: Channel) {
    this.machine = machine;
    this.slices = slices;
    this.random = random;
    this.msPerImage = 1000 / costs.imagesPerSecond;
    this.channel = channel;
    channel.handler = {
      received: (frame) => this.received(decoded(frame)),
      closed: (code, reason) => {
        throw new Error(`${machine.name} was closed with ${code} ${reason}`);
      },
    };
  }

  hello({ datasetId, cached }: SampleCache): void {
    this.send({
      ...{ type: 'hello', protocolVersion: PROTOCOL_VERSION, workerId: null, secret: null },
      ...{ token: null, engine: 'simd', name: this.machine.name, host: 'scale' },
      ...{ datasetId, cached },
    });
  }

  private received(message: CoordinatorMessage): void {
    if (message.type === 'welcome') {
      const { fingerprint } = arbiter;
      this.send({ type: 'ready', fingerprint, device: 'none', proof: new Uint8Array(4) });
    } else if (message.type === 'step') {
      const { numImages, ranges } = message;
      const nodes = ranges.flatMap((range) =>
        maximalNodes(range, Math.ceil(numImages / MICRO_BATCH)),
      );
      for (const [lo, hi] of nodes) {
        const count = Math.min(hi * MICRO_BATCH, numImages) - lo * MICRO_BATCH;
        const noise = 1 + NOISE * (2 * this.random.float() - 1);
        const computeMs = count * this.msPerImage * noise;
        const base = { globalStep: message.globalStep, range: [lo, hi] as [number, number] };
        const { early, last } = this.slices;
        this.machine.spend(computeMs, () => {
          for (const slice of early) {
            const values = gradientOf(slice);
            this.send({ type: 'gradientSlice', ...base, first: slice[0], values });
          }
          this.send({
            ...{ type: 'partial', ...base },
            ...{ gradient: gradientOf(last), lossSum: 0, numCorrect: 0, numImages: count },
            ...{ startedAt: this.machine.process.clock.now() - computeMs, computeMs },
          });
        });
      }
    }
  }

  private send(message: Parameters<typeof encode>[0]): void {
    this.channel.send(encode(message));
  }
}

const GRADIENT = new Float32Array(model.numParams);

function gradientOf(slice: Range): Uint8Array {
  return bytesOf(sliceOf(GRADIENT, slice));
}

/** One frame goes to many. */
const messages = new WeakMap<Frame, CoordinatorMessage>();
function decoded(frame: Frame): CoordinatorMessage {
  let message = messages.get(frame);
  if (!message) messages.set(frame, (message = decodeCoordinatorMessage(frame)));
  return message;
}

const KINDS = ['partial', 'gradientSlice', 'paramsSlice', 'step'] as const;

/** By the first field of a frame, its type; a step without θ costs little more than any other frame. */
function kindOf(frame: Frame): (typeof KINDS)[number] | 'other' {
  const [map] = frame;
  const head = Buffer.from(map.buffer, map.byteOffset, Math.min(map.length, 24));
  const kind = KINDS.find((name) => head.includes(name)) ?? 'other';
  return kind === 'step' && tailOf(frame) === 0 ? 'other' : kind;
}

/** The fraction of all parameters that a frame brings. */
function fractionOf(frame: Frame): number {
  return tailOf(frame) / (4 * model.numParams);
}

/** Bytes of parameters in a frame. */
function tailOf(frame: Frame): number {
  return frame.slice(1).reduce((sum, { length }) => sum + length, 0);
}

/** Takes everyone at their word. */
function openHouse(name: string) {
  return {
    judge: () => ({ isAccepted: true, isExact: true }) as const,
    isTokenRight: () => true,
    workerKey: Buffer.alloc(32, name),
  };
}

const measuredCosts = new Map<string, StepCosts>();
function stepCostsOf(...of: Parameters<typeof measureStepCosts>): StepCosts {
  let found = measuredCosts.get(of.join());
  if (!found) measuredCosts.set(of.join(), (found = measureStepCosts(...of)));
  return found;
}

/** Nothing but their number. */
function blankSamples(numTrain: number): Samples {
  const blank = (count: number) => ({
    images: new Uint8Array(imageBytes(MNIST.input) * count),
    labels: new Uint16Array(count),
  });
  const { images, labels } = blank(NUM_TEST);
  return {
    input: MNIST.input,
    classNames: DIGITS,
    numClasses: DIGITS.length,
    numTrain,
    numValidation: 0,
    numTest: NUM_TEST,
    datasetId: 'blank',
    image: () => blank(1).images,
    label: () => 0,
    evaluationSet: () => ({ images, labels, first: numTrain }),
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

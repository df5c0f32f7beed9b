/**
 * One schedule, run: the coordinator's, the relays' and the workers' own code on virtual time, over a simulated network
 * and disk, with the faults of the schedule; and a look at each promise while it runs and when it is over.
 */
import { createVectorOps } from '../../../src/model/engine/simd/node.js';
import { getEventListeners } from 'node:events';
import { createProofJudge, proveEngine } from '../../../src/model/engine/proof.js';
import { Coordinator } from '../../../src/coordinator/coordinator.js';
import type { RunEvent, RunResult } from '../../../src/coordinator/events.js';
import { MAX_QUEUED_BYTES } from '../../../src/coordinator/round/peer.js';
import {
  readLatestCheckpoint,
  writeCheckpoint,
  type Checkpoint,
} from '../../../src/model/checkpoint.js';
import type { Engine, MaybePromise } from '../../../src/model/engine/engine.js';
import { joinFrame, type Channel, type Frame } from '../../../src/shared/channel.js';
import type { Timer } from '../../../src/shared/clock.js';
import { float32From } from '../../../src/shared/codec.js';
import { UserError } from '../../../src/shared/errors.js';
import { messageOf } from '../../../src/shared/errors.js';
import type { Storage } from '../../../src/shared/node/storage.js';
import type { Message } from '../../../src/shared/protocol.js';
import { createRandom, type Random } from '../../../src/shared/random.js';
import { Relay, type RelayOptions } from '../../../src/relay/relay.js';
import { EngineComputation } from '../../../src/worker/engine-computation.js';
import { Worker, type WorkerOutcome } from '../../../src/worker/worker.js';
import { VirtualProcess, VirtualTime, type ClockFaults } from '../virtual-clock.js';
import { Link, SimulatedNetwork, type End } from './network.js';
import {
  describeFault,
  type ClockSetup,
  type Fault,
  type Moment,
  type RelaySetup,
  type Schedule,
  type WorkerSetup,
} from './schedule.js';
import { SimulatedDisk } from './disk.js';
import { keptWork, standstill } from './liveness.js';
import { allTrainings, bytes, evaluationKey, type Figures, type Training } from './training.js';

/** Once nothing more goes wrong, a run must be over within this time. The longest quarantine is a minute. */
const PATIENCE_MS = 180_000;
/** Told to go, a worker must be gone within this time, and so must a relay, which tells its workers. */
const GOODBYE_MS = 1_000;
/** A message of samples; one of parameters is shorter here. */
const LONGEST_FRAME_BYTES = 64 * 1024;
const CHECKPOINTS = 'checkpoints';
const COORDINATOR = 'coordinator';
/** As in server.ts: what is left of the connections ends so long after the run. */
const SERVER_CLOSE_MS = 500;

export interface SimulationResult {
  /** Broken promises, in words; none if all is well. */
  readonly violations: readonly string[];
  readonly stats: {
    /** Faults that struck. */
    readonly numFaults: number;
    readonly numEvents: number;
    readonly virtualMs: number;
    /** Steps done again after a crash of the coordinator. */
    readonly numRepeated: number;
  };
}

export async function simulate(
  schedule: Schedule,
  trace: (line: string) => void = () => undefined,
): Promise<SimulationResult> {
  const simulation = new Simulation(schedule, trace);
  return simulation.run();
}

/** One life of a process that others work for. */
interface Hub {
  readonly process: VirtualProcess;
  readonly clock: ClockSetup;
  /** Those that it has, by its own word: workerId → a stay. */
  readonly present: Map<string, { readonly name: string }>;
  /** Until when it was, or will have been, paused. */
  pausedUntilMs: number;
  isOver: boolean;
}

interface CoordinatorLife extends Hub {
  /** Null until it has read its checkpoint. */
  coordinator: Coordinator | null;
  readonly stop: AbortController;
}

interface RelayLife extends Hub {
  relay: Relay | null;
}

/** A worker, or a relay. */
interface SimulatedWorker {
  readonly setup: WorkerSetup;
  readonly name: string;
  readonly link: Link;
  /** Address of the peer that it has dialled last. */
  connectedTo: string;
  process: VirtualProcess | null;
  /** Of a relay. */
  life: RelayLife | null;
  stop: AbortController;
  isOver: boolean;
  /** Mean time of an image is multiplied by it. */
  slowness: number;
  /** Computations that have been held up until the wedge is gone. */
  wedged: (() => void)[] | null;
  numBadAnswers: number;
  numWrongAnswers: number;
  isProving: boolean;
  numDoubledFrames: number;
  numGarbledFrames: number;
  numLives: number;
}

/** Faults after which a worker breaks the protocol. */
const BREAKS_PROTOCOL: ReadonlySet<Fault['kind']> = new Set(['double frames', 'garble frame']);
/** What is said of a worker that broke it. */
const OF_A_BREACH =
  /that was not asked|that no ping asked for|Wrong (partial|evaluation)|Unexpected|, now \d/;

type IsPending = (timer: Timer) => boolean;

/** Makes a worker, or the worker that a relay is. */
type CreateWorker = RelayOptions['createWorker'];

interface Agent {
  work(signal: AbortSignal): Promise<WorkerOutcome>;
}

class Simulation {
  private readonly schedule: Schedule;
  private readonly training: Training;
  private readonly time = new VirtualTime();
  private readonly random: Random;
  private readonly network: SimulatedNetwork;
  private readonly disk: SimulatedDisk;
  private readonly workers: SimulatedWorker[];
  private readonly write: (line: string) => void;
  private readonly violations: string[] = [];

  private life: CoordinatorLife | null = null;
  private numLives = 0;
  private result: RunResult | null = null;
  private isOver = false;
  /** When the last thing went wrong, or is to be mended. */
  private calmAtMs = 0;
  private readonly counts = new Map<string, number>();
  private readonly evaluationsSeen = new Map<string, Figures>();
  private numFaults = 0;
  private numEvents = 0;
  private numRepeated = 0;
  /** By step: when it was first done. */
  private readonly doneAtMs: number[] = [];
  /** The step that the next life of the coordinator must begin with; null if a crash leaves it open. */
  private nextStep: number | null = 0;
  /** Things happened after which repeated work may be older than promised. */
  private isDiskTroubled = false;

  constructor(schedule: Schedule, trace: (line: string) => void) {
    this.schedule = schedule;
    this.training = allTrainings()[schedule.training];
    this.random = createRandom(schedule.seed, 'simulation');
    this.network = new SimulatedNetwork(this.time, createRandom(schedule.seed, 'network'));
    this.disk = new SimulatedDisk(createRandom(schedule.seed, 'disk'), schedule.diskMs);
    this.write = (line) => trace(`${(this.time.now / 1000).toFixed(4).padStart(9)} s  ${line}`);
    this.workers = schedule.workers.map((setup, index) => ({
      setup,
      name: `${setup.relay ? 'relay' : 'worker'}${index}`,
      link: new Link(setup.latencyMs, setup.jitterMs, setup.bytesPerMs),
      connectedTo: COORDINATOR,
      process: null,
      life: null,
      stop: new AbortController(),
      isOver: false,
      slowness: 1,
      wedged: null,
      numBadAnswers: 0,
      numWrongAnswers: 0,
      isProving: false,
      numDoubledFrames: 0,
      numGarbledFrames: 0,
      numLives: 0,
    }));
  }

  async run(): Promise<SimulationResult> {
    const { schedule, time } = this;
    const { minWorkers, workers, heartbeatTimeoutMs } = schedule;
    this.write(
      `seed ${schedule.seed}: training '${this.training.name}', ${workers.length} workers, at least ${minWorkers}, ` +
        `heartbeat ${heartbeatTimeoutMs} ms`,
    );
    if (workers.some(({ relay }) => relay !== null)) {
      const edges = this.workers.map(
        ({ name, setup }) => `${name} → ${this.addressOf(setup.parent)}`,
      );
      this.write(edges.join(', '));
    }
    this.startCoordinator();
    this.workers.forEach((worker, index) => {
      this.calm(worker.setup.startAtMs);
      time.schedule(worker.setup.startAtMs, () => this.startWorker(index));
    });
    for (const fault of schedule.faults) {
      if ('atMs' in fault.when) this.plan(fault, fault.when.atMs);
    }
    const isDone = () => {
      this.checkLiveness();
      return this.isOver || this.violations.length > 0;
    };
    while (!isDone()) {
      const deadlineMs = this.calmAtMs + PATIENCE_MS;
      const isFinished = await time.runUntil(isDone, deadlineMs);
      if (isFinished || deadlineMs < this.calmAtMs + PATIENCE_MS) continue;
      this.violate(`the run is not over ${PATIENCE_MS / 1000} s after the last fault`);
    }
    if (this.violations.length === 0) this.checkResult();
    if (this.violations.length === 0) await this.checkGoodbyes();
    const { violations, numFaults, numEvents, numRepeated } = this;
    return { violations, stats: { numFaults, numEvents, virtualMs: time.now, numRepeated } };
  }

  // The coordinator

  private startCoordinator(): void {
    if (this.life && this.life.process.state !== 'dead') return;
    const { time } = this;
    const number = ++this.numLives;
    const process = new VirtualProcess(time, {
      name: `coordinator#${number}`,
      clockOffsetMs: number,
      clockFaults: this.clockFaults(this.schedule.coordinatorClock, 'coordinator', number),
      crashed: (error) => this.violate(`the coordinator threw: ${stackOf(error)}`),
    });
    this.workers.forEach((worker, index) => {
      // Told that the run is over by a coordinator that was killed before it was.
      if (worker.isOver) time.schedule(100, () => this.startWorker(index));
    });
    const storage = this.disk.storageFor(process);
    const skipped = (message: string) => this.write(`${process.name} says: ${message}`);
    const stop = new AbortController();
    const life: CoordinatorLife = {
      ...this.hubOf(process, this.schedule.coordinatorClock),
      ...{ coordinator: null, stop },
    };
    this.life = life;
    readLatestCheckpoint(storage, CHECKPOINTS, skipped)
      .then((stored) => this.runCoordinator(life, storage, stored?.checkpoint ?? null))
      .catch((error: unknown) => this.violate(`${process.name} did not start: ${stackOf(error)}`));
  }

  private runCoordinator(
    life: CoordinatorLife,
    storage: Storage,
    resumeFrom: Checkpoint | null,
  ): void {
    const { schedule, training } = this;
    const { process, stop } = life;
    const firstStep = resumeFrom?.globalStep ?? 0;
    this.write(`${process.name} starts at step ${firstStep}`);
    this.checkResume(firstStep);
    let expectedStep = firstStep;
    const coordinator = new Coordinator({
      runId: process.name,
      name: 'simulated',
      config: training.config,
      samples: training.samples,
      clock: process.clock,
      random: createRandom(schedule.seed, process.name),
      auditRandom: createRandom(schedule.seed, process.name, 'audit'),
      workerKey: Buffer.alloc(32, 'simulated'),
      report: (event) => {
        if (event.type === 'step' && event.globalStep !== expectedStep++) {
          this.violate(`step ${event.globalStep} was done where ${expectedStep - 1} was due`);
        }
        this.checkPresence(life, event);
        this.observe(event);
      },
      ...this.judgement(),
      minWorkers: schedule.minWorkers,
      maxWorkers: schedule.maxWorkers,
      heartbeatTimeoutMs: schedule.heartbeatTimeoutMs,
      sliceValues: training.sliceValues,
      checkpointEveryMs: schedule.checkpointEveryMs,
      checkpointEverySteps: schedule.checkpointEverySteps,
      targetAccuracy: training.targetAccuracy,
      patience: null,
      audit: schedule.audit,
      verifyLedger: true,
      resumeFrom,
      save: (checkpoint, isBest) => writeCheckpoint(storage, CHECKPOINTS, checkpoint, isBest),
    });
    life.coordinator = coordinator;
    this.listen(COORDINATOR, process, coordinator);
    coordinator.run(stop.signal).then(
      (result) => this.coordinatorEnded(life, result),
      (error: unknown) => this.coordinatorFailed(life, error),
    );
  }

  private coordinatorEnded(life: CoordinatorLife, result: RunResult): void {
    const { process, stop } = life;
    if (process.state === 'dead') return;
    life.isOver = true;
    this.write(`${process.name} ends: ${result.outcome} after ${result.globalStep} steps`);
    this.checkLeftovers(process, stop.signal);
    if (result.outcome === 'stopped') {
      this.nextStep = this.isDiskTroubled ? null : result.globalStep;
    } else {
      this.result = result;
      const file = `step-${String(result.globalStep).padStart(8, '0')}.safetensors`;
      if (!this.disk.has(`${CHECKPOINTS}/${file}`)) {
        this.violate(`the run is over, and its weights are not on disk (${file})`);
      }
    }
    this.time.schedule(SERVER_CLOSE_MS, () => {
      if (process.state === 'dead') return;
      this.endProcess(process, false);
      this.network.close(COORDINATOR, process);
      if (result.outcome !== 'stopped') this.isOver = true;
    });
  }

  /** A full disk may keep the last state from it; whoever looks after it starts it again. */
  private coordinatorFailed(life: CoordinatorLife, error: unknown): void {
    const { process } = life;
    if (process.state === 'dead') return;
    if (!this.isDiskTroubled || !(error instanceof UserError)) {
      this.violate(`the run failed: ${stackOf(error)}`);
      return;
    }
    life.isOver = true;
    this.write(`${process.name} fails: ${error.message}`);
    this.checkLeftovers(process, life.stop.signal);
    this.nextStep = null;
    this.time.schedule(SERVER_CLOSE_MS, () => {
      this.endProcess(process, false);
      this.network.close(COORDINATOR, process);
      this.calm(0);
      this.startCoordinator();
    });
  }

  /** What whoever has workers decides by. */
  private judgement() {
    const { training } = this;
    const arbiter = training.createEngine();
    const judge = createProofJudge(arbiter, training.createEngine(), training.regularizer);
    return {
      arbiter,
      vectors: createVectorOps(arbiter.model.numParams, { numVectors: 16 }),
      judge: ({ fingerprint, proof }: Message<'ready'>, proofSeed: number) => {
        const gradient = float32From(proof, training.model.numParams, 'proof');
        return judge({ fingerprint, gradient }, proofSeed);
      },
      isTokenRight: (token: string | null) => token === 'secret',
    };
  }

  private listen(address: string, process: VirtualProcess, hub: Pick<Coordinator, 'accept'>): void {
    this.network.listen(address, {
      process,
      accept: (channel, from) => {
        this.watchQueue(channel);
        hub.accept(channel, from);
      },
    });
  }

  private hubOf(process: VirtualProcess, clock: ClockSetup): Hub {
    return { process, clock, present: new Map(), pausedUntilMs: 0, isOver: false };
  }

  private addressOf(parent: number | null): string {
    return parent === null ? COORDINATOR : this.workers[parent].name;
  }

  private observe(event: RunEvent): void {
    this.numEvents++;
    this.checkEvent(event);
    this.write(describeEvent(event));
    // What real sockets contain is a bug all the same.
    if (event.type === 'notice' && event.level === 'error') this.violate(event.message);
    const count = (this.counts.get(event.type) ?? 0) + 1;
    this.counts.set(event.type, count);
    for (const fault of this.schedule.faults) {
      const { when } = fault;
      if ('event' in when && when.event === event.type && when.count === count) {
        this.plan(fault, when.plusMs);
      }
    }
  }

  // Workers

  private startWorker(index: number): void {
    const worker = this.workers[index];
    if (this.isOver || (worker.process && worker.process.state !== 'dead')) return;
    const { schedule, time } = this;
    const number = ++worker.numLives;
    const name = `${worker.name}#${number}`;
    const process = new VirtualProcess(time, {
      name,
      clockOffsetMs: worker.setup.clock.offsetMs,
      clockFaults: this.clockFaults(worker.setup.clock, 'worker', index, number),
      crashed: (error) => this.violate(`${name} threw: ${stackOf(error)}`),
    });
    worker.process = process;
    worker.stop = new AbortController();
    worker.isOver = false;
    const { signal } = worker.stop;
    this.write(`${name} starts`);
    const createWorker: CreateWorker = (own) =>
      new Worker({
        session: {
          ...own,
          name: worker.name,
          host: 'nowhere',
          token: 'secret',
          maxMemoryBytes: 1e9,
          clock: process.clock,
          collectGarbage: () => undefined,
          log: (_level, message) => this.write(`${name} says: ${message}`),
        },
        dial: async (dialSignal, alternate) => {
          const address = alternate ?? this.addressOf(worker.setup.parent);
          const channel = await this.network.dial(process, worker.link, address, dialSignal);
          worker.connectedTo = address;
          return this.faultyChannel(worker, channel);
        },
        random: createRandom(schedule.seed, 'worker', index, number),
        retryForMs: Infinity,
      });
    const { relay } = worker.setup;
    const agent = relay
      ? this.relayOf(worker, process, createWorker, relay)
      : this.workerOf(worker, process, createWorker);
    agent.work(signal).then(
      (outcome) => {
        if (process.state === 'dead') return;
        worker.isOver = true;
        if (worker.life) worker.life.isOver = true;
        this.write(`${name} ends: ${outcome.outcome}`);
        this.checkLeftovers(process, signal);
        const isLiar = outcome.outcome === 'refused' && this.hasLied(index);
        if ((outcome.outcome === 'refused' && !isLiar) || outcome.outcome === 'gaveUp') {
          this.violate(`${name} ${outcome.outcome}: ${outcome.reason}`);
        }
        this.endProcess(process, false);
      },
      (error: unknown) => this.violate(`${name} failed: ${stackOf(error)}`),
    );
  }

  private workerOf(
    worker: SimulatedWorker,
    process: VirtualProcess,
    createWorker: CreateWorker,
  ): Agent {
    return createWorker({
      engineName: 'reference',
      createComputation: async (_model, regularizer) => {
        await new Promise<void>((resolve) => void process.after(5, resolve));
        const engine = this.slowEngine(worker, process, this.training.createEngine());
        return new EngineComputation(engine, {
          clock: process.clock,
          regularizer,
          prove: async (_, proofSeed) => {
            // A worker that fails its proof is refused for good; what comes later is of interest here.
            worker.isProving = true;
            const proof = proveEngine(engine, proofSeed, regularizer);
            worker.isProving = false;
            return proof;
          },
        });
      },
    });
  }

  private relayOf(
    worker: SimulatedWorker,
    process: VirtualProcess,
    createWorker: CreateWorker,
    { minWorkers, audit }: RelaySetup,
  ): Agent {
    const { seed } = this.schedule;
    const life: RelayLife = { ...this.hubOf(process, worker.setup.clock), relay: null };
    worker.life = life;
    let numCrews = 0;
    const relay = new Relay({
      createWorker,
      parent: () => worker.connectedTo,
      crewOptions: () => {
        // Workers come again for another run.
        life.present.clear();
        return {
          ...this.judgement(),
          clock: process.clock,
          // Each crew draws other ids: a worker may come back to it with one of the crew before.
          random: createRandom(seed, process.name, numCrews++),
          auditRandom: createRandom(seed, process.name, 'audit'),
          report: (event) => {
            this.checkPresence(life, event);
            this.write(`${process.name} has: ${describeEvent(event)}`);
            if (event.type === 'notice' && event.level === 'error') this.violate(event.message);
          },
          workerKey: Buffer.alloc(32, process.name),
          allowsApproximate: false,
          // A later process is not told to wait for two: one of them may have been shut out.
          minWorkers: process.name.endsWith('#1') ? minWorkers : 1,
          maxWorkers: 64,
          audit,
        };
      },
      openDoor: (_crew, accept) => {
        this.listen(worker.name, process, { accept });
        return Promise.resolve({
          fits: () => true,
          close: () => {
            life.present.clear();
            this.network.close(worker.name, process);
            return new Promise<void>((resolve) => void process.after(SERVER_CLOSE_MS, resolve));
          },
        });
      },
    });
    life.relay = relay;
    return relay;
  }

  /** The engine's results come after the virtual time that the worker's machine takes. */
  private slowEngine(worker: SimulatedWorker, process: VirtualProcess, engine: Engine): Engine {
    const compute = <T>(numImages: number, work: () => T): Promise<T> =>
      new Promise((resolve) => {
        const noise = 0.8 + 0.4 * this.random.float();
        const delayMs = numImages * worker.setup.msPerImage * worker.slowness * noise;
        const finish = () => {
          if (worker.wedged) worker.wedged.push(finish);
          else process.run(() => resolve(work()));
        };
        process.after(delayMs, finish);
      });
    return {
      ...engine,
      gradient: (images, labels, out, training) => {
        // Where it is computed beside the event loop, `out` is written when it is done.
        const result = engine.allocateGradient();
        const loss = settled(engine.gradient(images, labels, result, training));
        if (worker.numBadAnswers > 0 && !worker.isProving) {
          worker.numBadAnswers--;
          result[result.length - 1] = NaN;
        } else if (worker.numWrongAnswers > 0 && !worker.isProving) {
          worker.numWrongAnswers--;
          result[0] += 1;
        }
        return compute(labels.length, () => {
          out.set(result);
          return loss;
        });
      },
      evaluate: (images, labels) => {
        const evaluation = settled(engine.evaluate(images, labels));
        return compute(labels.length / 20, () => evaluation);
      },
    };
  }

  /** A channel whose frames may be sent twice, or be garbled. */
  private faultyChannel(worker: SimulatedWorker, channel: Channel): Channel {
    const send = channel.send.bind(channel);
    channel.send = (frame, left) => {
      if (worker.numGarbledFrames > 0) {
        worker.numGarbledFrames--;
        const garbled = joinFrame(frame).slice();
        garbled[this.random.below(garbled.length)] ^= 1 << this.random.below(8);
        garbled[0] = 0xc1;
        send([garbled], left);
        return;
      }
      send(frame, left);
      // Pings of its own are all that a worker sends unasked; hello and ready come before any fault counts.
      if (worker.numDoubledFrames > 0) {
        worker.numDoubledFrames--;
        send(frame);
      }
    };
    return channel;
  }

  // Faults

  private plan(fault: Fault & { readonly when: Moment }, delayMs: number): void {
    this.calm(delayMs);
    this.time.schedule(delayMs, () => {
      if (this.isOver) return;
      this.numFaults++;
      this.write(`FAULT ${describeFault(fault)}`);
      this.strike(fault);
    });
  }

  private strike(fault: Fault): void {
    const { time } = this;
    const later = (delayMs: number, action: () => void) => {
      this.calm(delayMs);
      if (delayMs !== Infinity) time.schedule(delayMs, action);
    };
    switch (fault.kind) {
      case 'kill worker': {
        const { process } = this.workers[fault.worker];
        if (process) this.endProcess(process, fault.isSilent);
        this.expectNotice(fault.worker);
        later(fault.restartMs, () => this.startWorker(fault.worker));
        break;
      }
      case 'stop worker': {
        const worker = this.workers[fault.worker];
        worker.process?.run(() => worker.stop.abort());
        const restart = () => {
          // It may have been paused when it was told.
          if (worker.process?.state !== 'dead') {
            time.schedule(100, restart);
            return;
          }
          this.calm(0);
          this.startWorker(fault.worker);
        };
        later(fault.restartMs, restart);
        break;
      }
      case 'pause worker': {
        const { process, life } = this.workers[fault.worker];
        process?.pause();
        if (life) life.pausedUntilMs = Math.max(life.pausedUntilMs, time.now + fault.durationMs);
        later(fault.durationMs, () => process?.resume());
        break;
      }
      case 'slow worker': {
        const worker = this.workers[fault.worker];
        worker.slowness = fault.factor;
        later(fault.durationMs, () => (worker.slowness = 1));
        break;
      }
      case 'wedge worker': {
        const worker = this.workers[fault.worker];
        worker.wedged ??= [];
        later(fault.durationMs, () => {
          const held = worker.wedged ?? [];
          worker.wedged = null;
          for (const finish of held) finish();
        });
        break;
      }
      case 'bad numbers':
        this.workers[fault.worker].numBadAnswers += fault.count;
        break;
      case 'wrong bits':
        this.workers[fault.worker].numWrongAnswers += fault.count;
        break;
      case 'double frames':
        this.workers[fault.worker].numDoubledFrames += fault.count;
        break;
      case 'garble frame':
        this.workers[fault.worker].numGarbledFrames++;
        break;
      case 'break connection':
        this.workers[fault.worker].link.reset();
        break;
      case 'black hole':
        this.workers[fault.worker].link.blackhole();
        break;
      case 'partition':
        for (const index of fault.workers) {
          const { link } = this.workers[index];
          link.isCut = true;
          later(fault.durationMs, () => link.heal());
        }
        break;
      case 'jump of a clock': {
        const process =
          fault.worker === null ? this.life?.process : this.workers[fault.worker].process;
        process?.clock.jump(fault.byMs);
        // To itself it looks as if it had been paused, and it listens once more before it calls anybody silent.
        for (const hub of this.hubs()) {
          if (hub.process === process) hub.pausedUntilMs = Math.max(hub.pausedUntilMs, time.now);
        }
        break;
      }
      case 'pause coordinator': {
        const { life } = this;
        if (life?.process.state !== 'running') break;
        life.process.pause();
        life.pausedUntilMs = Math.max(life.pausedUntilMs, time.now + fault.durationMs);
        later(fault.durationMs, () => life.process.resume());
        break;
      }
      case 'kill coordinator': {
        const { life } = this;
        if (!life || life.process.state === 'dead') break;
        this.nextStep = null;
        this.endProcess(life.process, fault.isSilent);
        this.network.close(COORDINATOR, life.process);
        this.result = null;
        later(fault.restartMs, () => this.startCoordinator());
        break;
      }
      case 'stop coordinator': {
        const { life } = this;
        if (!life || life.process.state === 'dead') break;
        life.process.run(() => life.stop.abort());
        const restart = () => {
          if (this.life !== life || this.result) return;
          if (life.process.state !== 'dead') {
            time.schedule(100, restart);
            return;
          }
          this.calm(0);
          this.startCoordinator();
        };
        later(fault.restartMs, restart);
        break;
      }
      case 'damaged file': {
        const path = this.disk.damage();
        if (path === null) break;
        this.write(`damaged: ${path}`);
        this.nextStep = null;
        this.isDiskTroubled = true;
        break;
      }
      case 'disk full':
        this.isDiskTroubled = true;
        this.disk.isFull = true;
        later(fault.durationMs, () => (this.disk.isFull = false));
        break;
    }
  }

  private clockFaults(setup: ClockSetup, ...stream: (string | number)[]): ClockFaults {
    return { ...setup, random: createRandom(this.schedule.seed, 'clock', ...stream) };
  }

  private hasLied(index: number): boolean {
    const { faults } = this.schedule;
    return faults.some((fault) => fault.kind === 'wrong bits' && fault.worker === index);
  }

  private endProcess(process: VirtualProcess, isSilent: boolean): void {
    if (process.state === 'dead') return;
    process.kill();
    const links = this.workers.map(({ link }) => link);
    this.network.forget(process, links, isSilent);
  }

  /** Something is wrong until then. */
  private calm(delayMs: number): void {
    if (delayMs !== Infinity) this.calmAtMs = Math.max(this.calmAtMs, this.time.now + delayMs);
  }

  // Promises

  private violate(message: string): void {
    this.write(`VIOLATION ${message}`);
    this.violations.push(message);
  }

  private checkEvent(event: RunEvent): void {
    const { training } = this;
    if (event.type === 'step') {
      const { globalStep, params, loss, accuracy } = event;
      if (globalStep >= training.numSteps) {
        this.violate(`step ${globalStep} was done after the end of the training`);
        return;
      }
      const expected = training.params[globalStep + 1];
      if (Buffer.compare(bytes(params), bytes(expected)) !== 0) {
        this.violate(`θ differs from the undisturbed run's after step ${globalStep}`);
      }
      const figures = training.steps[globalStep];
      if (loss !== figures.loss || accuracy !== figures.accuracy) {
        this.violate(
          `step ${globalStep}: loss ${loss}, accuracy ${accuracy}, expected ${figures.loss}, ${figures.accuracy}`,
        );
      }
      if (globalStep in this.doneAtMs) this.numRepeated++;
      else this.doneAtMs[globalStep] = this.time.now;
    } else if (event.type === 'evaluation') {
      const key = evaluationKey(event.set, event.globalStep);
      const expected = training.evaluations.get(key);
      if (event.loss !== expected?.loss || event.accuracy !== expected.accuracy) {
        this.violate(
          `evaluation of ${key}: loss ${event.loss}, accuracy ${event.accuracy}, ` +
            `expected ${expected?.loss}, ${expected?.accuracy}`,
        );
      }
      this.evaluationsSeen.set(key, event);
    }
  }

  /** What a new life of the coordinator may begin with. */
  private checkResume(firstStep: number): void {
    const { nextStep } = this;
    if (nextStep !== null && firstStep !== nextStep) {
      this.violate(`the coordinator went on with step ${firstStep}, stopped before ${nextStep}`);
    }
    this.nextStep = null;
    if (firstStep > this.doneAtMs.length) {
      this.violate(`the coordinator went on with step ${firstStep} of ${this.doneAtMs.length}`);
    }
  }

  /** Who is there; nobody goes for having broken the protocol where no fault made it. */
  private checkPresence({ process, present }: Hub, event: RunEvent): void {
    if (event.type === 'workerJoined') present.set(event.workerId, { name: event.name });
    if (event.type !== 'workerLost') return;
    present.delete(event.workerId);
    const isBroken = this.schedule.faults.some(({ kind }) => BREAKS_PROTOCOL.has(kind));
    if (!isBroken && OF_A_BREACH.test(event.message)) {
      this.violate(`${process.name} wrongs a worker: ${event.message}`);
    }
  }

  private hubs(): Hub[] {
    const lives = [this.life, ...this.workers.map(({ life }) => life)];
    return lives.filter((life) => life !== null);
  }

  /** A worker is dead, and maybe nobody has said so: whom it works for must find out before the heartbeat timeout. */
  private expectNotice(index: number): void {
    for (const hub of this.hubs()) this.expectNoticeBy(hub, index);
  }

  private expectNoticeBy(hub: Hub, index: number): void {
    const { time } = this;
    const { heartbeatTimeoutMs } = this.schedule;
    const killedAtMs = time.now;
    const { name, setup } = this.workers[index];
    const gone = [...hub.present].filter(([, stay]) => stay.name === name);
    const { latencyMs, jitterMs, bytesPerMs } = setup;
    // On a slow link, what is queued may go on leaving, to nobody, and the heartbeat looks once more.
    const leavingMs = (MAX_QUEUED_BYTES + LONGEST_FRAME_BYTES) / bytesPerMs;
    const queueMs = leavingMs < 10 ? 0 : leavingMs + heartbeatTimeoutMs / 6;
    const patienceMs =
      1.001 * heartbeatTimeoutMs + latencyMs + jitterMs + 8 * hub.clock.lateMs + queueMs;
    time.schedule(patienceMs, () => {
      // Where it was held up itself, it could not know.
      if (hub.isOver || hub.process.state === 'dead' || hub.pausedUntilMs > killedAtMs) return;
      for (const [workerId, stay] of gone) {
        // It may have come again, even under the same id.
        if (hub.present.get(workerId) !== stay) continue;
        const who = `${name} (${workerId})`;
        this.violate(`${hub.process.name} did not miss ${who} in ${heartbeatTimeoutMs} ms`);
      }
    });
  }

  /** After every event: work that is open, and a worker that could do it, must have something to bring them together. */
  private checkLiveness(): void {
    if (this.violations.length > 0) return;
    const check = ({ process, isOver }: Hub, look: (isPending: IsPending) => string | null) => {
      if (isOver || process.state !== 'running') return;
      const what = look((timer) => process.clock.isPending(timer));
      if (what !== null) this.violate(`${process.name}: ${what}`);
    };
    const { life } = this;
    if (life?.coordinator) {
      const { coordinator } = life;
      check(life, (isPending) => standstill(coordinator, isPending));
    }
    for (const { life: relay } of this.workers) {
      const crew = relay?.relay?.crew;
      if (!crew) continue;
      check(relay, (isPending) => standstill(crew, isPending) ?? keptWork(crew, isPending));
    }
  }

  /** No θ is sent to a worker whose last one has not left. */
  private watchQueue(channel: End): void {
    const send = channel.send.bind(channel);
    channel.send = (frame, left) => {
      if (channel.queue.some((queued) => hasParams(queued.frame)) && hasParams(frame)) {
        this.violate('parameters were queued behind parameters that have not left');
      }
      send(frame, left);
    };
  }

  private checkLeftovers(process: VirtualProcess, signal: AbortSignal): void {
    if (process.numTimers > 0) {
      this.violate(`${process.name} is over and has ${process.numTimers} timers`);
    }
    const numListeners = getEventListeners(signal, 'abort').length;
    if (numListeners > 0) {
      this.violate(`${process.name} is over and has ${numListeners} listeners of its signal`);
    }
  }

  private checkResult(): void {
    const { result, training } = this;
    if (!result) {
      this.violate('the run is over without a result');
      return;
    }
    if (result.weightsSha256 !== training.weightsSha256) {
      this.violate(`weights ${result.weightsSha256}, expected ${training.weightsSha256}`);
    }
    if (result.globalStep !== training.numSteps) {
      this.violate(`over after ${result.globalStep} steps, expected ${training.numSteps}`);
    }
    const last = training.evaluations.get(evaluationKey('test', training.numSteps));
    if (result.testLoss !== last?.loss || result.testAccuracy !== last.accuracy) {
      this.violate(
        `result with test loss ${result.testLoss}, accuracy ${result.testAccuracy}, ` +
          `expected ${last?.loss}, ${last?.accuracy}`,
      );
    }
    for (const key of training.evaluations.keys()) {
      if (!this.evaluationsSeen.has(key)) this.violate(`no evaluation of ${key} was reported`);
    }
    if (!result.reproducible) this.violate('the result is called not reproducible');
  }

  /** Whoever is still there goes when told, and leaves nothing behind. */
  private async checkGoodbyes(): Promise<void> {
    const { time } = this;
    for (const { link } of this.workers) link.heal();
    const present = this.workers.filter(({ process }) => process && process.state !== 'dead');
    for (const worker of present) {
      worker.process?.resume();
      worker.process?.after(0, () => worker.stop.abort());
    }
    const isDone = () => present.every(({ isOver }) => isOver) || this.violations.length > 0;
    const goodbyeMs = present.some(({ life }) => life) ? GOODBYE_MS + SERVER_CLOSE_MS : GOODBYE_MS;
    if (await time.runUntil(isDone, time.now + goodbyeMs)) return;
    for (const { process, isOver } of present) {
      if (!isOver) this.violate(`${process?.name} did not go when told`);
    }
  }
}

const PARAMS = Buffer.from('\xa6params', 'latin1');
const NIL = 0xc0;

/** Whether a frame of the coordinator carries θ. */
function hasParams([map]: Frame): boolean {
  const at = Buffer.from(map.buffer, map.byteOffset, map.length).indexOf(PARAMS);
  return at >= 0 && map[at + PARAMS.length] !== NIL;
}

function settled<T>(value: MaybePromise<T>): T {
  if (value instanceof Promise) throw new TypeError('Expected an engine that does not wait');
  return value;
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : messageOf(error);
}

function describeEvent(event: RunEvent): string {
  switch (event.type) {
    case 'started':
      return `started at step ${event.globalStep} of ${event.totalSteps}`;
    case 'step': {
      const shares = event.workers.map(
        ({ name, numMicroBatches }) => `${name}: ${numMicroBatches}`,
      );
      return `step ${event.globalStep} done (${shares.join(', ')})`;
    }
    case 'evaluation':
      return `evaluation ${evaluationKey(event.set, event.globalStep)}: ${event.accuracy}`;
    case 'workerJoined':
      return `${event.name} (${event.workerId}) joined${event.isReturn ? ' again' : ''}, ${event.worldSize} now`;
    case 'workerLost':
    case 'notice':
      return event.message;
    case 'workerPinged':
      return `${event.workerId} answered a ping after ${event.roundTripMs.toFixed(2)} ms`;
    case 'checkpoint':
      return `checkpoint of step ${event.globalStep} is on disk`;
    case 'waiting':
      return `no step with ${event.numActive} of ${event.minWorkers} workers`;
    case 'paused':
      return event.isPaused ? 'paused' : 'goes on';
    case 'finished':
      return `finished: ${event.result.outcome}, ${event.result.weightsSha256.slice(0, 8)}`;
  }
}

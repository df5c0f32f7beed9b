/**
 * The workers behind a relay: admitted, given work and audited as by a coordinator, with the same code. The work comes from
 * the relay's parent.
 */
import type { Engine } from '../model/engine/engine.js';
import { proveEngine } from '../model/engine/proof.js';
import type { VectorOps } from '../model/engine/simd/vector.js';
import type { Model } from '../model/lenet.js';
import type { Regularizer } from '../model/regularizer.js';
import type { Channel } from '../shared/channel.js';
import type { Clock, Timer } from '../shared/clock.js';
import { MAX_ALTERNATES, longestFrameBytes, type Message, type Range } from '../shared/protocol.js';
import type { Random } from '../shared/random.js';
import { Slices } from '../shared/slices.js';
import { maximalNodes } from '../shared/tree.js';
import type { Observer } from '../coordinator/events.js';
import { WorkerGroup, type GroupOptions } from '../coordinator/group/group.js';
import { Auditor } from '../coordinator/round/auditor.js';
import { Dispatcher } from '../coordinator/round/dispatcher.js';
import { Gatherer } from '../coordinator/round/gatherer.js';
import { rangesOf } from '../coordinator/round/planner.js';
import type { SampleSource } from '../coordinator/samples.js';
import type { Answers, Computation } from '../worker/computation.js';
import type { SampleCache } from '../worker/sample-cache.js';
import { indicesOf, type Task } from '../worker/task.js';
import { EvaluationPart, StepPart } from './part.js';

/** The fingerprint of a relay that may have approximate workers; no exact engine has the same. */
const APPROXIMATE = 'relay/approximate';

export interface CrewOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly auditRandom: Random;
  readonly report: Observer;
  /** An exact engine of the run's model: computes the relay's own proof, and audits its workers. */
  readonly arbiter: Engine;
  readonly vectors: VectorOps;
  readonly judge: GroupOptions['judge'];
  readonly isTokenRight: GroupOptions['isTokenRight'];
  readonly workerKey: GroupOptions['workerKey'];
  /** Whether approximate workers are admitted, which makes the relay approximate. */
  readonly allowsApproximate: boolean;
  /** Required before the relay is ready for the first time. */
  readonly minWorkers: number;
  readonly maxWorkers: number;
  /** Fraction of answers that are confirmed before they count, 0 to 1. */
  readonly audit: number;
}

/** The run that the crew works for. */
export interface CrewRun {
  readonly model: Model;
  readonly regularizer: Regularizer;
  readonly welcome: Message<'welcome'>;
  /** Join line of the peer that the relay is connected to, without a token. */
  readonly parent: () => string;
  /** Whether the relay has been ready before: then one worker is enough, as others may be gone for good. */
  readonly wasReady: boolean;
}

export class Crew implements Computation {
  readonly model: Model;
  readonly regularizer: Regularizer;
  readonly name = 'relay';
  readonly fingerprint: string;
  readonly isExact: boolean;
  private readonly options: CrewOptions;
  private readonly welcome: Message<'welcome'>;
  /** What its own workers are welcomed with. */
  private readonly told: Omit<Message<'welcome'>, 'type' | 'workerId' | 'secret' | 'proofSeed'>;
  private readonly parent: () => string;
  private readonly slices: Slices;
  private readonly group: WorkerGroup;
  private readonly gatherer: Gatherer;
  private readonly closed = new AbortController();
  /** Set by the first task. */
  private samples: SampleCache | null = null;
  /** Runs while there are no workers. */
  private absence: Timer | null = null;
  private isDeserted = false;
  /** Whether the relay has been ready before, for this run or another. */
  wasReady: boolean;

  constructor(options: CrewOptions, { model, regularizer, welcome, parent, wasReady }: CrewRun) {
    const { clock, arbiter, vectors, auditRandom, audit } = options;
    this.options = options;
    this.model = model;
    this.regularizer = regularizer;
    this.welcome = welcome;
    this.wasReady = wasReady;
    this.isExact = !options.allowsApproximate;
    this.fingerprint = this.isExact ? arbiter.fingerprint : APPROXIMATE;
    // eslint-disable-next-line @typescript-eslint/no-unused-vars -- what is the relay's own stays with it
    const { type, workerId, secret, proofSeed, ...rest } = welcome;
    this.told = rest;
    this.parent = parent;
    this.group = new WorkerGroup({
      ...options,
      report: (event) => {
        options.report(event);
        if (event.type === 'workerJoined' || event.type === 'workerLost') this.callRoll();
      },
      welcome: this.told,
    });
    this.slices = new Slices(model.numParams, welcome.sliceValues);
    const source = this.source();
    this.gatherer = new Gatherer({
      group: this.group,
      dispatcher: new Dispatcher({ clock, samples: source, group: this.group }),
      auditor: new Auditor({ arbiter, regularizer, samples: source, clock, auditRandom, audit }),
      clock,
      vectors,
      slices: this.slices,
      count: () => undefined,
      isRelay: true,
    });
    this.welcomed(welcome);
  }

  get device(): string {
    return `a relay of ${this.numWorkers} workers`;
  }

  /** Including those behind further relays. */
  get numWorkers(): number {
    return this.group.active().reduce((sum, { numWorkers }) => sum + numWorkers, 0);
  }

  /** In which gradients are sent. */
  get numSlices(): number {
    return this.slices.ranges.length;
  }

  get longestFrameBytes(): number {
    const { numSamples, evaluationBlock } = this.welcome;
    return longestFrameBytes(this.model.numParams, numSamples, evaluationBlock);
  }

  isFor(welcome: Message<'welcome'>): boolean {
    // A restarted coordinator has a different run id, and cannot use answers from before. Another parent names others above it.
    const runOf = (of: Message<'welcome'>) =>
      JSON.stringify({ ...of, workerId: null, secret: null, proofSeed: null, alternates: null });
    return !this.closed.signal.aborted && runOf(welcome) === runOf(this.welcome);
  }

  /** Has workers that join from now on know whom the relay is connected to. */
  welcomed({ alternates }: Message<'welcome'>): void {
    this.told.alternates = [this.parent(), ...alternates].slice(0, MAX_ALTERNATES);
  }

  accept(channel: Channel, address: string): void {
    this.group.accept(channel, address);
  }

  /** The proof of the relay's own engine; waits for workers first, as the relay is not ready without them. */
  async prove(proofSeed: number): Promise<Float32Array> {
    const { arbiter, clock, report } = this.options;
    const minWorkers = this.wasReady ? 1 : this.options.minWorkers;
    await this.gatherer.waitForWorkers(
      minWorkers,
      this.closed.signal,
      () => this.closed.signal.aborted,
      (numActive) =>
        report({
          type: 'notice',
          time: clock.now(),
          level: 'info',
          message: `Waiting for workers: ${numActive} of ${minWorkers}`,
        }),
    );
    this.wasReady = true;
    return proveEngine(arbiter, proofSeed, this.regularizer);
  }

  async run(task: Task, samples: SampleCache, answers: Answers): Promise<void> {
    this.samples = samples;
    while (task.ranges.length > 0 && !task.signal.aborted) {
      const ranges = this.takeRanges(task);
      for (const range of ranges) samples.expect(indicesOf(task, range));
      const leaving: Promise<void>[] = [];
      const work = this.partOf(task, ranges, answers, leaving);
      const isSuperseded = () => task.signal.aborted;
      const breakOff = () => this.gatherer.breakOff();
      task.signal.addEventListener('abort', breakOff, { once: true });
      this.callRoll();
      try {
        if (!this.hasNobody()) await this.gatherer.gather(work);
      } catch (error) {
        // The gatherer cannot take more work after an error.
        this.close(false, 'has failed');
        throw error;
      } finally {
        task.signal.removeEventListener('abort', breakOff);
      }
      // The gatherer reuses the memory of the sums for the next work.
      await Promise.all(leaving);
      if (!work.isComplete && !isSuperseded()) {
        throw new Error('no worker is left behind the relay');
      }
    }
  }

  forwardSlice(globalStep: number, params: Float32Array, index: number): void {
    this.gatherer.sendSlice(globalStep, { params, slices: this.slices }, index);
  }

  /** Keeps the workers, for the next connection to the parent. */
  dispose(): Promise<void> {
    return Promise.resolve();
  }

  /** Tells every worker that the run is over, or that the relay is leaving. */
  close(isFinal: boolean, reason: string): void {
    if (this.closed.signal.aborted) return;
    this.closed.abort();
    this.absence?.cancel();
    this.gatherer.stop();
    this.group.close(isFinal, reason);
  }

  /**
   * Takes ranges off the task: all at once, divided into nodes of the tree; or one at a time, if approximate workers may
   * answer for ranges that are not nodes.
   */
  private takeRanges(task: Task): readonly Range[] {
    if (task.kind === 'step' && !this.isExact) return task.ranges.splice(0, 1);
    const units = new Set<number>();
    for (const [lo, hi] of task.ranges.splice(0)) {
      for (let unit = lo; unit < hi; unit++) units.add(unit);
    }
    const ranges = rangesOf([...units].sort((a, b) => a - b));
    return task.kind === 'evaluation'
      ? ranges
      : ranges.flatMap((range) => maximalNodes(range, task.numUnits));
  }

  /** @param leaving collects promises that resolve once an answer's memory may change */
  private partOf(task: Task, ranges: readonly Range[], answers: Answers, leaving: Promise<void>[]) {
    const { clock, vectors } = this.options;
    const begunAt = clock.now();
    // Time per unit of all workers together: ranges run in parallel and end at about the same time.
    const timing = ([lo, hi]: Range, numDone: number) => {
      const now = clock.now();
      const computeMs = ((now - begunAt) * (hi - lo)) / numDone;
      return { startedAt: now - computeMs, computeMs };
    };
    if (task.kind === 'step') {
      return new StepPart(task, ranges, this.slices, vectors, (range, sum, numDone) => {
        if (task.signal.aborted) return;
        leaving.push(answers.partial(range, sum, timing(range, numDone)));
      });
    }
    const set = this.samples!.view(task.first, task.numImages);
    return new EvaluationPart(
      ...([task, ranges, this.slices, this.source(), set] as const),
      (range, lossSums, predictions, numDone) => {
        if (task.signal.aborted) return;
        answers.evaluation(range, lossSums, predictions, timing(range, numDone));
      },
    );
  }

  private source(): SampleSource {
    const { input, numClasses } = this.model;
    return {
      input,
      numClasses,
      image: (index) => this.samples!.view(index, 1).images,
      label: (index) => this.samples!.view(index, 1).labels[0],
    };
  }

  /** A method, so that TypeScript does not narrow the flag, which may change during an await. */
  private hasNobody(): boolean {
    return this.isDeserted;
  }

  /** Starts or stops the timer after which a relay without workers fails its task. */
  private callRoll(): void {
    if (this.group.active().length > 0) {
      this.absence?.cancel();
      this.absence = null;
      this.isDeserted = false;
      return;
    }
    this.absence ??= this.options.clock.schedule(this.welcome.heartbeatTimeoutMs, () => {
      this.isDeserted = true;
      this.gatherer.breakOff();
    });
  }
}

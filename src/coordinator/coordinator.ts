/**
 * The coordinator: trains as docs/algorithm.md says, with whatever workers there are.
 *
 * It owns θ, and `update` is the only place where θ changes. It runs on any `Clock` and over any `Channel`; sockets,
 * files and processes are given to it.
 */
import { initParams } from '../model/init.js';
import type { Checkpoint } from '../model/checkpoint.js';
import { buildModel, type Model } from '../model/lenet.js';
import { Regularizer } from '../model/regularizer.js';
import { createOptimizer, type Optimizer, type OptimizerState } from '../model/optimizer.js';
import { createRunSchedule, type Schedule } from '../model/schedule.js';
import type { Engine } from '../model/engine/engine.js';
import type { VectorOps } from '../model/engine/simd/vector.js';
import { addLoss } from '../model/engine/tree-sum.js';
import type { Channel } from '../shared/channel.js';
import type { Clock, Timer } from '../shared/clock.js';
import { regularizationOf, type RunConfig } from '../shared/config.js';
import { DEADLINES } from '../shared/deadlines.js';
import { messageOf } from '../shared/errors.js';
import type { Random } from '../shared/random.js';
import { MAX_SLICES, Slices, sliceOf } from '../shared/slices.js';
import { Checkpointer } from './checkpointer.js';
import { Auditor, type AuditorOptions } from './round/auditor.js';
import { Dispatcher } from './round/dispatcher.js';
import type { Observer, RunResult } from './events.js';
import { EVALUATION_BLOCK, Evaluator } from './evaluator.js';
import { describeExtension } from './extension.js';
import { WorkerGroup, type GroupOptions } from './group/group.js';
import { Gatherer } from './round/gatherer.js';
import { Ledger } from './round/ledger.js';
import { NO_PROGRESS, progressOf } from './progress.js';
import { Sampler } from './sampler.js';
import type { Samples } from './samples.js';
import { StepWork, type WorkParams } from './round/work.js';
import { stepDone } from './step-done.js';
import { Tally } from './tally.js';

/** Between two looks at whether a checkpoint is due, besides those before each step, ms. */
const LOOK_MS = 1_000;

export interface CoordinatorOptions {
  readonly runId: string;
  readonly name: string;
  readonly config: RunConfig;
  readonly samples: Samples;
  readonly clock: Clock;
  readonly random: Random;
  readonly auditRandom: AuditorOptions['auditRandom'];
  readonly report: Observer;
  /** An exact engine of the run's model: decides where workers disagree. */
  readonly arbiter: Engine;
  readonly vectors: VectorOps;
  readonly judge: GroupOptions['judge'];
  readonly isTokenRight: GroupOptions['isTokenRight'];
  readonly workerKey: GroupOptions['workerKey'];
  readonly minWorkers: number;
  readonly maxWorkers: number;
  /** Share of answers that are confirmed before they count, 0 to 1. */
  readonly audit: number;
  readonly heartbeatTimeoutMs: number;
  /** Values of a slice of θ, and of gradients; null, the default, for one slice. */
  readonly sliceValues?: number | null;
  /** A checkpoint is due after each epoch, and when this time has passed since the last, ms. */
  readonly checkpointEveryMs: number;
  /** Also due after as many steps; 0 for never. */
  readonly checkpointEverySteps: number;
  /** Stops as soon as an evaluation reaches it. */
  readonly targetAccuracy: number | null;
  /** Stops after as many epochs whose evaluation was no better than the best before. */
  readonly patience: number | null;
  /** Checks after each epoch that each image counted once. */
  readonly verifyLedger: boolean;
  readonly resumeFrom: Checkpoint | null;
  /** θ₀ (P,) of a run that begins; by default that of the seed. */
  readonly initialParams?: Float32Array | null;
  /** Stores the checkpoint durably; may fail, and is then tried again. */
  readonly save: (
    checkpoint: Checkpoint,
    isBest: boolean,
  ) => Promise<{ path: string; bytes: number }>;
}

export class Coordinator {
  readonly model: Model;
  private readonly options: CoordinatorOptions;
  private readonly group: WorkerGroup;
  private readonly gatherer: Gatherer;
  private readonly evaluator: Evaluator;
  private readonly tally: Tally;
  private readonly sampler: Sampler;
  private readonly schedule: Schedule;
  private readonly optimizer: Optimizer;
  private readonly totalSteps: number;
  private readonly checkpointer: Checkpointer;
  private readonly ledger: Ledger | null;

  /** θ (P,) */
  private readonly params: Float32Array;
  private readonly slices: Slices;
  private readonly optimizerState: OptimizerState;
  /** No step is made meanwhile. */
  private isPaused = false;
  private wakeHeld: () => void = () => undefined;
  /** Updates made so far. */
  private globalStep = 0;

  constructor(options: CoordinatorOptions) {
    const { config, samples, clock, resumeFrom, initialParams, vectors } = options;
    this.options = options;
    this.model = buildModel(config.hyperparameters, samples);
    this.sampler = new Sampler(config.seed, samples.numTrain, config.batchSize);
    const { stepsPerEpoch } = this.sampler;
    this.totalSteps = config.epochs * stepsPerEpoch;
    this.schedule = createRunSchedule(config, stepsPerEpoch);
    this.optimizer = createOptimizer({ ...config, name: config.optimizer }, vectors);
    const { numParams } = this.model;
    const sliceValues = Math.max(
      options.sliceValues ?? numParams,
      Math.ceil(numParams / MAX_SLICES),
    );
    this.slices = new Slices(numParams, sliceValues);
    this.params = vectors.allocate();
    this.params.set(resumeFrom?.params ?? initialParams ?? initParams(this.model, config.seed));
    this.optimizerState = this.optimizer.init(this.model.numParams, () => vectors.allocate());
    if (resumeFrom) {
      const { tensors, scalars } = this.optimizerState;
      for (const [name, tensor] of Object.entries(resumeFrom.optimizerState.tensors)) {
        tensors[name].set(tensor);
      }
      Object.assign(scalars, resumeFrom.optimizerState.scalars);
      this.globalStep = resumeFrom.globalStep;
    }
    const { targetAccuracy, patience } = options;
    this.tally = new Tally(
      resumeFrom
        ? progressOf(resumeFrom, config, samples, options.arbiter.fingerprint)
        : NO_PROGRESS,
      {
        totalSteps: this.totalSteps,
        stepsPerEpoch,
        decidingSet: samples.numValidation > 0 ? 'validation' : 'test',
        targetAccuracy,
        patience,
      },
      clock.now(),
    );
    this.ledger = options.verifyLedger ? new Ledger(this.sampler, this.globalStep) : null;
    this.checkpointer = new Checkpointer(
      {
        ...options,
        everyMs: options.checkpointEveryMs,
        everySteps: options.checkpointEverySteps,
        snapshot: () => this.snapshot(),
        failed: () => this.tally.count('checkpointFailures'),
      },
      this.globalStep,
    );
    const { random, auditRandom, arbiter, audit } = options;
    const regularizer = new Regularizer(this.model, regularizationOf(config));
    this.group = new WorkerGroup({
      clock,
      random,
      report: (event) => {
        if (event.type === 'workerJoined') this.tally.participants.joined(event);
        options.report(event);
      },
      judge: options.judge,
      isTokenRight: options.isTokenRight,
      workerKey: options.workerKey,
      maxWorkers: options.maxWorkers,
      progress: (workerId) => ({
        globalStep: this.globalStep,
        totalSteps: this.totalSteps,
        testAccuracy: this.tally.testAccuracy,
        numImages: this.tally.participants.imagesOf(workerId),
        numImagesOfAll: this.tally.participants.numImages,
      }),
      welcome: {
        runId: options.runId,
        hyperparameters: config.hyperparameters,
        input: this.model.input,
        numClasses: this.model.numClasses,
        regularization: regularizationOf(config),
        microBatch: config.microBatch,
        evaluationBlock: EVALUATION_BLOCK,
        numParams,
        sliceValues,
        datasetId: samples.datasetId,
        numSamples: samples.numTrain + samples.numValidation + samples.numTest,
        heartbeatTimeoutMs: options.heartbeatTimeoutMs,
        alternates: [],
      },
    });
    this.gatherer = new Gatherer({
      group: this.group,
      dispatcher: new Dispatcher({ clock, samples, group: this.group }),
      auditor: new Auditor({ arbiter, regularizer, samples, clock, auditRandom, audit }),
      clock,
      vectors,
      slices: this.slices,
      count: (fault) => this.tally.count(fault),
    });
    const { gatherer, sampler, tally } = this;
    const { report } = options;
    this.evaluator = new Evaluator({ gatherer, samples, sampler, tally, clock, report });
  }

  /** Workers that compute now. */
  get numWorkers(): number {
    return this.group.active().length;
  }

  /** Workers that are remembered, here or not. */
  get numMembers(): number {
    return [...this.group.all()].length;
  }

  /** Takes a new connection of a worker. */
  accept(channel: Channel, address: string): void {
    this.group.accept(channel, address);
  }

  /** Makes no further step until `resume`; workers come, stay and go. */
  pause(): void {
    this.isPaused = true;
    this.gatherer.wake();
  }

  resume(): void {
    this.isPaused = false;
    this.wakeHeld();
  }

  /** Writes a checkpoint before the next step, or at once where none is made. */
  save(): void {
    this.checkpointer.ask();
    this.wakeHeld();
  }

  /** Sends the workers of that name or id away, for the rest of the run. @returns how many there were */
  dismiss(name: string): number {
    return this.group.dismiss(name);
  }

  /** At which step the last complete evaluation was made. */
  get evaluatedStep(): number {
    return this.tally.evaluatedStep;
  }

  /** How the run would end if it ended now. */
  outcome(): RunResult['outcome'] {
    return this.tally.outcome(this.globalStep);
  }

  /** What the run has come to. */
  result(): RunResult {
    const { clock, arbiter } = this.options;
    return this.tally.result(clock.now(), this.globalStep, this.params, arbiter.fingerprint);
  }

  /**
   * Trains to the end, or until the signal aborts: then it finishes the step, saves a checkpoint and returns.
   *
   * @throws {UserError} if the training diverged, or its last state cannot be saved
   */
  async run(signal: AbortSignal): Promise<RunResult> {
    const { clock, report } = this.options;
    let deadline: Timer | null = null;
    const stop = () =>
      (deadline = clock.schedule(DEADLINES.finishStepMs, () => this.gatherer.stop()));
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
    this.reportStarted();
    let isFinal = false;
    let reason = 'stopped';
    try {
      await this.train(signal);
      await this.checkpointer.saveLast(this.globalStep);
      isFinal = this.outcome() !== 'stopped';
      if (isFinal) reason = 'finished';
    } catch (error) {
      reason = messageOf(error);
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
      (deadline as Timer | null)?.cancel();
      this.group.close(isFinal, reason);
    }
    const result = this.result();
    report({ type: 'finished', time: clock.now(), result });
    return result;
  }

  /** The loop of docs/algorithm.md. */
  private async train(signal: AbortSignal): Promise<void> {
    const saving = this.saveMeanwhile();
    try {
      for (;;) {
        const isEpochEnd = this.globalStep % this.sampler.stepsPerEpoch === 0;
        if (isEpochEnd && this.tally.evaluatedStep < this.globalStep) {
          if (!(await this.evaluate())) return;
        }
        this.checkpointer.saveIfDue(this.globalStep, isEpochEnd);
        if (this.outcome() !== 'stopped' || signal.aborted) return;
        if (this.isPaused) await this.hold(signal);
        else if (!(await this.trainStep(signal))) return;
      }
    } finally {
      saving.cancel();
    }
  }

  /**
   * Writes checkpoints that become due, or are asked for, or failed, while the loop waits for workers or is held: between
   * updates, the state does not change.
   */
  private saveMeanwhile(): Timer {
    const { clock } = this.options;
    const look = () => {
      this.checkpointer.saveIfDue(this.globalStep, false);
      timer = clock.schedule(LOOK_MS, look);
    };
    let timer = clock.schedule(LOOK_MS, look);
    return { cancel: () => timer.cancel() };
  }

  /** Until it is to go on, or the signal aborts. */
  private async hold(signal: AbortSignal): Promise<void> {
    const { clock, report } = this.options;
    const say = (isPaused: boolean) =>
      report({ type: 'paused', time: clock.now(), isPaused, globalStep: this.globalStep });
    const wake = () => this.wakeHeld();
    signal.addEventListener('abort', wake, { once: true });
    say(true);
    while (this.isPaused && !signal.aborted) {
      await new Promise<void>((resolve) => (this.wakeHeld = resolve));
      this.checkpointer.saveIfDue(this.globalStep, false);
    }
    signal.removeEventListener('abort', wake);
    if (!signal.aborted) say(false);
  }

  /** One update. @returns false if it was broken off before */
  private async trainStep(signal: AbortSignal): Promise<boolean> {
    const { clock, report, minWorkers } = this.options;
    const { globalStep } = this;
    const waitedFrom = clock.now();
    const isOff = () => signal.aborted || this.isPaused;
    await this.gatherer.waitForWorkers(minWorkers, signal, isOff, (numActive) => {
      report({ type: 'waiting', time: waitedFrom, numActive, minWorkers });
      this.say(`Waiting for workers: ${numActive} of at least ${minWorkers} there`);
    });
    if (isOff()) return !signal.aborted;
    const startedAt = clock.now();

    // Bₜ, and its partials from whoever is there
    const step = this.stepWork(globalStep);
    const gathering = this.gatherer.gather(step);
    if (globalStep + 1 < this.totalSteps) this.gatherer.prefetch(this.stepWork(globalStep + 1));
    const round = await gathering;
    if (!round) return false;

    // g ← T(0, V) / n, θ ← update(θ, g), one slice after the other
    const learningRate = this.schedule(globalStep);
    const reduced = this.reduceAndUpdate(step, learningRate);
    this.globalStep++;

    const time = clock.now();
    for (const unit of step.counted) this.ledger?.add(step.samplesOf([unit, unit + 1]));
    this.ledger?.close(this.globalStep);
    this.tally.stepped(step, time - startedAt);
    const worldSize = this.group.active().length;
    const queuedBytes = this.group.queuedBytes();
    const at = { waitedFrom, startedAt, time };
    report(stepDone(step, round, { ...reduced, ...at, learningRate, worldSize, queuedBytes }));
    return true;
  }

  /** θ, and how it travels. */
  private get theta(): WorkParams {
    return { params: this.params, slices: this.slices };
  }

  /** The only place where θ changes. A slice that is done travels while the next one is computed. */
  private reduceAndUpdate(step: StepWork, learningRate: number) {
    const { clock, vectors } = this.options;
    const { params, slices } = this;
    const update = this.optimizer.begin(params, this.optimizerState, learningRate);
    let [reduceMs, updateMs] = [0, 0];
    const sums = slices.ranges.map((slice, i) => {
      const reduceFrom = clock.now();
      const sum = step.reducer.reduce((left, right) => {
        vectors.add(sliceOf(left.gradient, slice), sliceOf(right.gradient, slice));
        return { ...addLoss(left, right), gradient: left.gradient };
      });
      if (sum.numImages !== step.numImages) {
        throw new Error(`Step ${step.globalStep}: ${sum.numImages} images of ${step.numImages}`);
      }
      vectors.divide(sliceOf(sum.gradient, slice), step.numImages);
      const updateFrom = clock.now();
      update(sum.gradient, slice);
      reduceMs += updateFrom - reduceFrom;
      updateMs += clock.now() - updateFrom;
      if (i < slices.early.length) this.gatherer.sendSlice(step.globalStep + 1, this.theta, i);
      return sum;
    });
    return { sum: sums[0], reduceMs, updateMs };
  }

  private stepWork(globalStep: number): StepWork {
    const { microBatch } = this.options.config;
    const epoch = this.sampler.epochOf(globalStep);
    const batch = this.sampler.batch(globalStep);
    return new StepWork(globalStep, epoch, batch, microBatch, this.theta);
  }

  /** @returns false if it was broken off */
  private async evaluate(): Promise<boolean> {
    const isBest = await this.evaluator.evaluate(this.globalStep, this.theta);
    if (isBest) this.checkpointer.markBest();
    return isBest !== null;
  }

  private snapshot(): Checkpoint {
    const { clock, config, samples, arbiter } = this.options;
    const { globalStep } = this;
    const { tensors, scalars } = this.optimizerState;
    const copies = Object.entries(tensors).map(([name, tensor]) => [name, tensor.slice()] as const);
    return {
      params: this.params.slice(),
      optimizerState: { tensors: Object.fromEntries(copies), scalars: { ...scalars } },
      globalStep,
      epoch: this.sampler.epochOf(globalStep),
      seed: config.seed,
      hyperparameters: config.hyperparameters,
      input: this.model.input,
      classNames: samples.classNames,
      config,
      engineFingerprint: arbiter.fingerprint,
      metrics: this.tally.store(clock.now()),
    };
  }

  private reportStarted(): void {
    const { clock, config, samples, report, runId, name, resumeFrom } = this.options;
    report({
      type: 'started',
      time: clock.now(),
      runId,
      name,
      config,
      input: this.model.input,
      classNames: samples.classNames,
      numParams: this.model.numParams,
      numTrain: samples.numTrain,
      numValidation: samples.numValidation,
      numTest: samples.numTest,
      stepsPerEpoch: this.sampler.stepsPerEpoch,
      totalSteps: this.totalSteps,
      globalStep: this.globalStep,
      isResumed: resumeFrom !== null,
      secondsBefore: this.tally.secondsBefore,
      params: this.params,
    });
    const extension = this.tally.extensions.at(-1);
    if (resumeFrom && extension?.globalStep === resumeFrom.globalStep) {
      this.say(describeExtension(extension, config, this.sampler.stepsPerEpoch));
    }
  }

  private say(message: string): void {
    const { clock, report } = this.options;
    report({ type: 'notice', time: clock.now(), level: 'info', message });
  }
}

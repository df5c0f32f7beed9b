/**
 * The coordinator: trains as docs/algorithm.md says, with whatever workers there are.
 *
 * It owns θ, and `update` is the only place where θ changes. It runs on any `Clock` and over any `Channel`; sockets,
 * files and processes are given to it.
 */
import { initParams } from '../model/init.js';
import type { Engine } from '../model/engine.js';
import { weightsSha256, type Checkpoint } from '../model/checkpoint.js';
import { IMAGE_BYTES, buildModel, type Model } from '../model/lenet.js';
import {
  createOptimizer,
  type Optimizer,
  type OptimizerKernels,
  type OptimizerState,
} from '../model/optimizer.js';
import { createSchedule, type Schedule } from '../model/schedule.js';
import { TreeSum, addLoss } from '../model/tree-sum.js';
import type { Channel } from '../shared/channel.js';
import type { Clock } from '../shared/clock.js';
import { float32From } from '../shared/codec.js';
import type { RunConfig } from '../shared/config.js';
import { ProtocolError, UserError } from '../shared/errors.js';
import type { EvaluationSet, Message, Range } from '../shared/protocol.js';
import type { Random } from '../shared/random.js';
import { Checkpointer } from './checkpointer.js';
import { Dispatcher, type RoundTimes } from './dispatcher.js';
import type { EvaluationDone, Observer, RunResult, StepTimes } from './events.js';
import { WorkerGroup, type GroupHandler, type Member, type Verdict } from './group.js';
import { Sampler } from './sampler.js';
import type { Samples } from './samples.js';
import { EvaluationWork, StepWork, type StepPartial } from './work.js';

/** Images of one block of an evaluation; part of the contract, as loss sums add block after block. */
const EVALUATION_BLOCK = 250;
/** After the word to stop, the step under way has this long to finish, ms. */
const FINISH_STEP_MS = 1_000;

/** What a checkpoint of a run holds besides the state of the training. */
export interface Progress {
  readonly testAccuracy: number | null;
  readonly testLoss: number | null;
  readonly bestAccuracy: number;
  readonly faults: Record<string, number>;
  readonly workers: RunResult['workers'];
}

export interface CoordinatorOptions {
  readonly runId: string;
  readonly name: string;
  readonly config: RunConfig;
  readonly samples: Samples;
  readonly clock: Clock;
  /** For what need not be reproducible: worker ids, proofs, audits. */
  readonly random: Random;
  readonly report: Observer;
  /** An exact engine of the run's model: decides where workers disagree. */
  readonly arbiter: Engine;
  readonly kernels?: OptimizerKernels;
  readonly judge: (ready: Message<'ready'>, proofSeed: number) => Verdict;
  readonly isTokenRight: (token: string | null) => boolean;
  readonly minWorkers: number;
  readonly maxWorkers: number;
  readonly heartbeatTimeoutMs: number;
  /** A checkpoint is due after each epoch, and when this time has passed since the last, ms. */
  readonly checkpointEveryMs: number;
  /** Also due after as many steps; 0 for never. */
  readonly checkpointEverySteps: number;
  /** Stops as soon as an evaluation reaches it. */
  readonly targetAccuracy: number | null;
  readonly resumeFrom: Checkpoint | null;
  /** Stores the checkpoint durably; may fail, and is then tried again. */
  readonly save: (
    checkpoint: Checkpoint,
    isBest: boolean,
  ) => Promise<{ path: string; bytes: number }>;
}

export class Coordinator implements GroupHandler {
  readonly model: Model;
  private readonly options: CoordinatorOptions;
  private readonly group: WorkerGroup;
  private readonly dispatcher: Dispatcher;
  private readonly sampler: Sampler;
  private readonly schedule: Schedule;
  private readonly optimizer: Optimizer;
  private readonly totalSteps: number;
  private readonly checkpointer: Checkpointer;

  private readonly params: Float32Array;
  private readonly optimizerState: OptimizerState;
  /** Updates made so far. */
  private globalStep = 0;
  private progress: Progress = {
    testAccuracy: null,
    testLoss: null,
    bestAccuracy: 0,
    faults: {},
    workers: [],
  };

  /** Images that each worker had done when the run was resumed. */
  private readonly imagesBefore = new Map<string, number>();

  /** The work that answers are for, while there is some. */
  private step: StepWork | null = null;
  private evaluation: EvaluationWork | null = null;
  /** Buffers (P,) for partials, used again from step to step. */
  private readonly freeGradients: Float32Array[] = [];
  private wakeWaiter = () => {};
  private failure: Error | null = null;
  private readonly hardStop = new AbortController();

  constructor(options: CoordinatorOptions) {
    const { config, samples, clock, resumeFrom } = options;
    this.options = options;
    this.model = buildModel(config.hyperparameters);
    this.sampler = new Sampler(config.seed, samples.numTrain, config.batchSize);
    const { stepsPerEpoch } = this.sampler;
    this.totalSteps = config.epochs * stepsPerEpoch;
    this.schedule = createSchedule({
      name: config.schedule,
      learningRate: config.lr,
      warmupSteps: Math.round(config.warmupEpochs * stepsPerEpoch),
      totalSteps: this.totalSteps,
      stepEvery: Math.max(1, Math.round(config.stepEpochs * stepsPerEpoch)),
      stepFactor: config.stepFactor,
    });
    this.optimizer = createOptimizer({ ...config, name: config.optimizer }, options.kernels);
    this.params = options.arbiter.allocateGradient();
    this.params.set(resumeFrom?.params ?? initParams(this.model, config.seed));
    this.optimizerState = resumeFrom?.optimizerState ?? this.optimizer.init(this.model.numParams);
    if (resumeFrom) {
      this.globalStep = resumeFrom.globalStep;
      this.progress = { ...this.progress, ...(resumeFrom.metrics as Partial<Progress>) };
    }
    for (const { workerId, numImages } of this.progress.workers) {
      this.imagesBefore.set(workerId, numImages);
    }
    this.checkpointer = new Checkpointer(
      {
        ...options,
        everyMs: options.checkpointEveryMs,
        everySteps: options.checkpointEverySteps,
        snapshot: () => this.snapshot(),
        failed: () => this.count('checkpointFailures'),
      },
      this.globalStep,
    );
    this.dispatcher = new Dispatcher(clock, samples);
    this.group = new WorkerGroup({
      ...options,
      handler: this,
      welcome: {
        runId: options.runId,
        hyperparameters: config.hyperparameters,
        microBatch: config.microBatch,
        evaluationBlock: EVALUATION_BLOCK,
        numParams: this.model.numParams,
        datasetId: samples.datasetId,
        numSamples: samples.numTrain + samples.numValidation + samples.numTest,
        heartbeatTimeoutMs: options.heartbeatTimeoutMs,
      },
    });
    this.dispatcher.attach(this.group);
  }

  /** Takes a new connection of a worker. */
  accept(channel: Channel, address: string): void {
    this.group.accept(channel, address);
  }

  /**
   * Trains to the end, or until the signal aborts: then it finishes the step, saves a checkpoint and returns.
   *
   * @throws {UserError} if the training diverged
   */
  async run(signal: AbortSignal): Promise<RunResult> {
    const { clock } = this.options;
    const startedAt = clock.now();
    const firstStep = this.globalStep;
    let numImages = 0;
    let trainingMs = 0;
    let isTargetReached = false;
    const stopHard = () => {
      this.wakeWaiter();
      clock.schedule(FINISH_STEP_MS, () => this.hardStop.abort());
    };
    signal.addEventListener('abort', stopHard, { once: true });
    this.reportStarted();
    try {
      while (this.globalStep < this.totalSteps && !isTargetReached) {
        const waitMs = await this.waitForWorkers(signal);
        if (signal.aborted) break;
        const done = await this.trainStep(waitMs);
        if (!done) break;
        numImages += done.numImages;
        trainingMs += done.totalMs;
        const isEpochEnd = this.globalStep % this.sampler.stepsPerEpoch === 0;
        if (isEpochEnd) {
          isTargetReached = await this.evaluateAll();
          if (this.hardStop.signal.aborted) break;
        }
        this.checkpointer.saveIfDue(this.globalStep, isEpochEnd);
      }
      await this.checkpointer.saveLast(this.globalStep);
    } finally {
      signal.removeEventListener('abort', stopHard);
      this.hardStop.abort();
      const isFinal = this.globalStep >= this.totalSteps || isTargetReached;
      this.group.close(isFinal, this.failure?.message ?? (isFinal ? 'finished' : 'stopped'));
    }
    if (this.failure) throw this.failure;
    const result: RunResult = {
      ...this.describeWorkers(),
      outcome: isTargetReached
        ? 'targetReached'
        : this.globalStep >= this.totalSteps
          ? 'finished'
          : 'stopped',
      testAccuracy: this.progress.testAccuracy,
      testLoss: this.progress.testLoss,
      weightsSha256: weightsSha256(this.params),
      globalStep: this.globalStep,
      epochs: Math.floor(this.globalStep / this.sampler.stepsPerEpoch),
      imagesPerSecond: this.globalStep > firstStep ? (1000 * numImages) / trainingMs : 0,
      seconds: (clock.now() - startedAt) / 1000,
      faults: this.progress.faults,
    };
    this.options.report({ type: 'finished', time: clock.now(), result });
    return result;
  }

  /** One pass of docs/algorithm.md; null if it was broken off. */
  private async trainStep(waitMs: number): Promise<{ numImages: number; totalMs: number } | null> {
    const { clock, config, report } = this.options;
    const { globalStep } = this;
    const startedAt = clock.now();

    // Bₜ, and its partials from whoever is there
    const batch = this.sampler.batch(globalStep);
    const step = new StepWork(globalStep, batch, config.microBatch, this.params);
    this.step = step;
    const isRunning = this.dispatcher.run(step, this.hardStop.signal);
    if (globalStep + 1 < this.totalSteps) this.prefetch(globalStep + 1);
    const times = await isRunning;
    this.step = null;
    this.freeGradients.push(...step.gradients);
    if (this.failure || !step.reducer.isComplete) return null;

    // g ← T(0, V) / n
    const reduceFrom = clock.now();
    const sum = step.reducer.reduce((left, right) => {
      this.options.arbiter.add(left.gradient, right.gradient);
      return { ...addLoss(left, right), gradient: left.gradient };
    });
    const n = Math.fround(batch.length);
    for (let i = 0; i < sum.gradient.length; i++) sum.gradient[i] /= n;

    // θ ← update(θ, g)
    const updateFrom = clock.now();
    const learningRate = this.schedule(globalStep);
    this.optimizer.update(this.params, this.optimizerState, sum.gradient, learningRate);
    this.globalStep++;

    const now = clock.now();
    for (const [member, { numImages }] of step.credits) member.numImages += numImages;
    report({
      type: 'step',
      time: now,
      globalStep,
      epoch: Math.floor(globalStep / this.sampler.stepsPerEpoch),
      numImages: batch.length,
      loss: sum.lossSum / batch.length,
      accuracy: sum.numCorrect / batch.length,
      learningRate,
      worldSize: this.group.active().length,
      times: stepTimes(times, waitMs, startedAt, reduceFrom, updateFrom, now),
      workers: times.answers.map(({ member, computeMs, sentAt, receivedAt }) => ({
        workerId: member.workerId,
        name: member.name,
        numMicroBatches: step.credits.get(member)?.numUnits ?? 0,
        numImages: step.credits.get(member)?.numImages ?? 0,
        computeMs,
        roundTripMs: receivedAt - sentAt,
      })),
      startedAt,
      partials: step.traces,
      params: this.params,
    });
    return { numImages: batch.length, totalMs: now - startedAt };
  }

  /** Evaluates on the sets there are. @returns whether the target accuracy is reached */
  private async evaluateAll(): Promise<boolean> {
    const { samples, targetAccuracy } = this.options;
    let deciding: EvaluationDone | null = null;
    if (samples.numValidation > 0) deciding = await this.evaluate('validation');
    const test = await this.evaluate('test');
    deciding ??= test;
    if (!deciding || !test) return false;
    this.progress = { ...this.progress, testAccuracy: test.accuracy, testLoss: test.loss };
    if (deciding.accuracy > this.progress.bestAccuracy) {
      this.progress = { ...this.progress, bestAccuracy: deciding.accuracy };
      this.checkpointer.markBest();
    }
    return targetAccuracy !== null && deciding.accuracy >= targetAccuracy;
  }

  private async evaluate(set: EvaluationSet): Promise<EvaluationDone | null> {
    const { clock, samples, report } = this.options;
    const startedAt = clock.now();
    const work = new EvaluationWork(this.globalStep, set, samples, EVALUATION_BLOCK, this.params);
    this.evaluation = work;
    await this.dispatcher.run(work, this.hardStop.signal);
    this.evaluation = null;
    if (!work.isComplete) return null;
    const { labels, images } = work;
    let numCorrect = 0;
    labels.forEach((label, i) => (numCorrect += label === work.predictions[i] ? 1 : 0));
    const event: EvaluationDone = {
      type: 'evaluation',
      time: clock.now(),
      set,
      globalStep: this.globalStep,
      epoch: Math.floor(this.globalStep / this.sampler.stepsPerEpoch),
      loss: work.lossSum() / labels.length,
      accuracy: numCorrect / labels.length,
      seconds: (clock.now() - startedAt) / 1000,
      numImages: labels.length,
      predictions: work.predictions,
      labels,
      images,
      params: this.params,
    };
    report(event);
    return event;
  }

  // What the group tells

  joined(): void {
    this.wakeWaiter();
    this.dispatcher.joined();
  }

  lost(member: Member): { readonly hadWork: boolean; readonly action: string } {
    this.count('workersLost');
    return this.dispatcher.lost(member);
  }

  answered(member: Member, message: Message<'partial'> | Message<'evaluation'>): void {
    const current = message.type === 'partial' ? this.step : this.evaluation;
    const isCurrent =
      current?.globalStep === message.globalStep &&
      (message.type === 'partial' || message.set === this.evaluation?.set);
    if (!isCurrent) {
      this.takeStale(member, message);
      return;
    }
    if (message.type === 'partial') this.takePartial(member, message, this.step!);
    else this.takeEvaluation(member, message, this.evaluation!);
  }

  /** An answer to an earlier round: of no use but for what it tells of the worker's pace. */
  private takeStale(member: Member, message: Message<'partial'> | Message<'evaluation'>): void {
    const { globalStep, range, computeMs, type } = message;
    if (globalStep > this.globalStep) {
      throw new ProtocolError(
        'unexpected',
        `Answer for step ${globalStep}, now ${this.globalStep}`,
      );
    }
    const pace = type === 'partial' ? member.stepPace : member.evaluationPace;
    pace.addCompute(range[1] - range[0], computeMs);
    this.count('staleAnswers');
  }

  private takePartial(member: Member, message: Message<'partial'>, step: StepWork): void {
    const { clock } = this.options;
    const { range, numImages, numCorrect, startedAt, computeMs } = message;
    if (range[1] > step.numUnits || numImages !== step.imagesIn(range) || numCorrect > numImages) {
      throw new ProtocolError(
        'malformed',
        `Wrong partial of [${range.join(', ')}): ${numImages} images, ${numCorrect} of them right`,
      );
    }
    const gradient = this.freeGradients.pop() ?? this.options.arbiter.allocateGradient();
    step.gradients.push(gradient);
    gradient.set(float32From(message.gradient, this.model.numParams, 'gradient'));
    if (!this.dispatcher.answered(member, range, computeMs)) {
      throw new ProtocolError(
        'unexpected',
        `A partial of [${range.join(', ')}) that was not asked`,
      );
    }
    if (!Number.isFinite(message.lossSum) || !isFiniteVector(gradient)) {
      void this.judgeBadNumbers(member, step, range);
      return;
    }
    const { lossSum } = message;
    const added = step.reducer.add(range, { gradient, lossSum, numCorrect, numImages });
    step.credit(member, added);
    if (added.length === 0) this.count('duplicatePartials');
    step.traces.push({
      workerId: member.workerId,
      range,
      startedAt: startedAt - member.clockOffset.offsetMs,
      computeMs,
      receivedAt: clock.now(),
      wasUsed: added.length > 0,
    });
    this.dispatcher.progressed();
  }

  /**
   * A worker sent NaN or Inf. The arbiter computes the same: if it agrees, the training has diverged and stops before
   * the update; if not, the worker is sent away and its work done by others.
   */
  private async judgeBadNumbers(member: Member, step: StepWork, range: Range): Promise<void> {
    const own = await this.arbitrate(step, range);
    if (this.step !== step) return;
    if (!Number.isFinite(own.lossSum) || !isFiniteVector(own.gradient)) {
      this.fail(
        new UserError(
          `The training diverged at step ${step.globalStep}: its gradient is not finite; ` +
            'start again, or resume from the last checkpoint, with a smaller --lr',
        ),
      );
      return;
    }
    this.count('badNumbers');
    const [lo, hi] = range;
    this.group.expel(member, 'badNumbers', `it sent NaN or Inf for micro-batches [${lo}, ${hi})`);
    this.dispatcher.progressed();
  }

  private async arbitrate(step: StepWork, range: Range): Promise<StepPartial> {
    const { arbiter, samples, config } = this.options;
    arbiter.setParams(this.params);
    const partial = await new TreeSum(arbiter).sum(
      range,
      (units) => gather(samples, step.samplesOf(units)),
      () => true,
    );
    if (!partial)
      throw new Error(`No partial of step ${step.globalStep} with ${config.microBatch}`);
    return { ...partial, gradient: partial.gradient.slice() };
  }

  private takeEvaluation(
    member: Member,
    message: Message<'evaluation'>,
    work: EvaluationWork,
  ): void {
    const { range, predictions, computeMs } = message;
    const lossSums = float32From(message.lossSums, range[1] - range[0], 'lossSums');
    if (range[1] > work.numUnits || predictions.length !== work.imagesIn(range)) {
      throw new ProtocolError(
        'malformed',
        `Wrong evaluation of [${range.join(', ')}): ${predictions.length} predictions`,
      );
    }
    if (!this.dispatcher.answered(member, range, computeMs)) {
      throw new ProtocolError('unexpected', `An evaluation of [${range.join(', ')}) not asked`);
    }
    work.take(range, lossSums, predictions);
    this.dispatcher.progressed();
  }

  // Waiting, saving, counting

  /** Waits until there are enough workers. @returns how long that took, ms */
  private async waitForWorkers(signal: AbortSignal): Promise<number> {
    const { clock, minWorkers, report } = this.options;
    const since = clock.now();
    let hasSaid = false;
    while (this.group.active().length < minWorkers && !signal.aborted) {
      if (!hasSaid) {
        hasSaid = true;
        const message = `Waiting for workers: ${this.group.active().length} of at least ${minWorkers}`;
        report({ type: 'notice', time: since, level: 'info', message });
      }
      await new Promise<void>((resolve) => (this.wakeWaiter = resolve));
    }
    return clock.now() - since;
  }

  private prefetch(globalStep: number): void {
    const { config } = this.options;
    const next = new StepWork(
      globalStep,
      this.sampler.batch(globalStep),
      config.microBatch,
      this.params,
    );
    this.dispatcher.prefetch(next.numUnits, (range) => next.samplesOf(range));
  }

  private snapshot(): Checkpoint {
    const { config, arbiter } = this.options;
    const { globalStep } = this;
    const { tensors, scalars } = this.optimizerState;
    const copies = Object.entries(tensors).map(([name, tensor]) => [name, tensor.slice()] as const);
    this.progress = { ...this.progress, workers: this.describeWorkers().workers };
    return {
      params: this.params.slice(),
      optimizerState: { tensors: Object.fromEntries(copies), scalars: { ...scalars } },
      globalStep,
      epoch: Math.floor(globalStep / this.sampler.stepsPerEpoch),
      seed: config.seed,
      hyperparameters: config.hyperparameters,
      config,
      engineFingerprint: arbiter.fingerprint,
      metrics: { ...this.progress, faults: { ...this.progress.faults } },
    };
  }

  /** Stops the run for a reason of its own. */
  private fail(error: Error): void {
    this.failure ??= error;
    this.hardStop.abort();
  }

  private count(fault: string): void {
    const { faults } = this.progress;
    faults[fault] = (faults[fault] ?? 0) + 1;
  }

  private describeWorkers(): Pick<RunResult, 'workers' | 'reproducible' | 'engineFingerprint'> {
    const before = new Map(this.progress.workers.map((worker) => [worker.workerId, worker]));
    for (const member of this.group.all()) {
      if (!member.hasTakenPart) continue;
      const { workerId, name, engine, device, isExact } = member;
      const numImages = member.numImages + (this.imagesBefore.get(workerId) ?? 0);
      before.set(workerId, { workerId, name, engine, device, isExact, numImages });
    }
    const workers = [...before.values()];
    const hasExact = workers.some(({ isExact }) => isExact);
    return {
      workers,
      reproducible: workers.every(({ isExact }) => isExact),
      engineFingerprint: hasExact ? this.options.arbiter.fingerprint : null,
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
      numParams: this.model.numParams,
      numTrain: samples.numTrain,
      numValidation: samples.numValidation,
      numTest: samples.numTest,
      stepsPerEpoch: this.sampler.stepsPerEpoch,
      totalSteps: this.totalSteps,
      globalStep: this.globalStep,
      isResumed: resumeFrom !== null,
    });
  }
}

/** The images of some samples, one after the other. */
function gather(
  samples: Samples,
  indices: Uint32Array,
): { images: Uint8Array; labels: Uint8Array } {
  const images = new Uint8Array(indices.length * IMAGE_BYTES);
  const labels = new Uint8Array(indices.length);
  indices.forEach((index, i) => {
    images.set(samples.image(index), i * IMAGE_BYTES);
    labels[i] = samples.label(index);
  });
  return { images, labels };
}

/** Sums keep NaN and Inf (or make NaN of two Inf), so one look at the sum of all values times zero is enough. */
function isFiniteVector(values: Float32Array): boolean {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] * 0;
  return sum === 0;
}

function stepTimes(
  round: RoundTimes,
  waitMs: number,
  startedAt: number,
  reduceFrom: number,
  updateFrom: number,
  now: number,
): StepTimes {
  const { planMs, broadcastMs, computeMs } = round;
  const reduceMs = updateFrom - reduceFrom;
  const updateMs = now - updateFrom;
  const totalMs = waitMs + now - startedAt;
  const wireMs = Math.max(
    0,
    totalMs - waitMs - planMs - broadcastMs - computeMs - reduceMs - updateMs,
  );
  return { totalMs, planMs, broadcastMs, computeMs, wireMs, reduceMs, updateMs, waitMs };
}

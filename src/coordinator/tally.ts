/**
 * What a run has come to, over all its processes: its evaluations and how it would end by them, who took part, what went
 * wrong, and the time it took. It decides by these figures alone: no clock, no files, no workers.
 */
import { weightsSha256 } from '../model/checkpoint.js';
import type { EvaluationSet } from '../shared/protocol.js';
import type { EvaluationDone, FaultKind, RunResult } from './events.js';
import { Participants } from './participants.js';
import type { Progress } from './progress.js';
import type { StepWork } from './round/work.js';

/** When a run is over, and by what. */
export interface TallyRules {
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
  /** On which set the evaluations are that decide about the best and the end. */
  readonly decidingSet: EvaluationSet;
  /** The run ends as soon as a deciding evaluation reaches it. */
  readonly targetAccuracy: number | null;
  /** It ends after as many epochs whose evaluation was no better than the best before. */
  readonly patience: number | null;
}

export class Tally {
  readonly participants: Participants;
  private readonly rules: TallyRules;
  private progress: Progress;
  /** When this process began, ms. */
  private readonly startedAt: number;
  /** Of this process: training images, and the time that their steps took, ms. */
  private numImages = 0;
  private trainingMs = 0;

  /** @param progress of the processes before */
  constructor(progress: Progress, rules: TallyRules, startedAt: number) {
    this.progress = progress;
    this.rules = rules;
    this.startedAt = startedAt;
    this.participants = new Participants(progress);
  }

  /** How long the processes before this one worked. */
  get secondsBefore(): number {
    return this.progress.spent.seconds;
  }

  /** At which step the last evaluation was made. */
  get evaluatedStep(): number {
    return this.progress.evaluatedStep;
  }

  /** Of the last evaluation on the test set. */
  get testAccuracy(): number | null {
    return this.progress.testAccuracy;
  }

  /** Each time that the run was given more epochs. */
  get extensions(): Progress['extensions'] {
    return this.progress.extensions;
  }

  count(fault: FaultKind): void {
    const { faults } = this.progress;
    this.progress = { ...this.progress, faults: { ...faults, [fault]: (faults[fault] ?? 0) + 1 } };
  }

  /** A step was made, in that time, ms. */
  stepped({ numImages, credits, isApproximate }: StepWork, stepMs: number): void {
    this.numImages += numImages;
    this.trainingMs += stepMs;
    for (const [{ workerId }, credit] of credits) {
      this.participants.credit(workerId, credit.numImages);
    }
    if (isApproximate) this.participants.noteApproximate();
  }

  /** Takes the evaluations after that many updates. @returns whether they are the best so far */
  evaluated(globalStep: number, deciding: EvaluationDone, test: EvaluationDone): boolean {
    const { accuracy } = deciding;
    const isBest = accuracy > this.progress.bestAccuracy;
    this.progress = {
      ...this.progress,
      evaluatedStep: globalStep,
      decidingAccuracy: accuracy,
      testAccuracy: test.accuracy,
      testLoss: test.loss,
      ...(isBest ? { bestAccuracy: accuracy, bestStep: globalStep } : {}),
    };
    return isBest;
  }

  /** Whether a deciding accuracy would end the run or be its best. */
  isMomentous(globalStep: number, accuracy: number): boolean {
    const { targetAccuracy } = this.rules;
    const isTarget = targetAccuracy !== null && accuracy >= targetAccuracy;
    return isTarget || accuracy > this.progress.bestAccuracy || this.isOutOfPatience(globalStep);
  }

  /** How the run would end if it ended now. */
  outcome(globalStep: number): RunResult['outcome'] {
    const { targetAccuracy, totalSteps } = this.rules;
    const { decidingAccuracy, evaluatedStep } = this.progress;
    if (evaluatedStep !== globalStep || evaluatedStep === 0) return 'stopped';
    if (targetAccuracy !== null && decidingAccuracy >= targetAccuracy) return 'targetReached';
    if (globalStep >= totalSteps) return 'finished';
    return this.isOutOfPatience(globalStep) ? 'stoppedEarly' : 'stopped';
  }

  /** @param params θ (P,) @param fingerprint of the exact engine */
  result(now: number, globalStep: number, params: Float32Array, fingerprint: string): RunResult {
    const { testAccuracy, testLoss, faults } = this.progress;
    const { seconds, trainingMs, numImages } = this.spent(now);
    const workers = this.participants.list();
    const hasExact = workers.some(({ isExact }) => isExact);
    return {
      outcome: this.outcome(globalStep),
      testAccuracy,
      testLoss,
      best: this.best(),
      weightsSha256: weightsSha256(params),
      globalStep,
      epochs: Math.floor(globalStep / this.rules.stepsPerEpoch),
      imagesPerSecond: trainingMs > 0 ? (1000 * numImages) / trainingMs : 0,
      seconds,
      workers,
      reproducible: globalStep > 0 && this.participants.isReproducible,
      engineFingerprint: hasExact ? fingerprint : null,
      faults,
    };
  }

  /** What of it a checkpoint holds. */
  store(now: number): Progress {
    return { ...this.progress, spent: this.spent(now), ...this.participants.store() };
  }

  private best(): RunResult['best'] {
    const { bestAccuracy, bestStep, evaluatedStep } = this.progress;
    if (evaluatedStep === 0) return null;
    return { set: this.rules.decidingSet, accuracy: bestAccuracy, globalStep: bestStep };
  }

  /** Whether too many epochs have gone by since the best evaluation. */
  private isOutOfPatience(globalStep: number): boolean {
    const { patience, stepsPerEpoch } = this.rules;
    return patience !== null && globalStep - this.progress.bestStep >= patience * stepsPerEpoch;
  }

  /** By this process and those before. */
  private spent(now: number): Progress['spent'] {
    const { seconds, trainingMs, numImages } = this.progress.spent;
    return {
      seconds: seconds + (now - this.startedAt) / 1000,
      trainingMs: trainingMs + this.trainingMs,
      numImages: numImages + this.numImages,
    };
  }
}

/** Evaluates θ, by the workers there are, on the sets there are. */
import type { Clock } from '../shared/clock.js';
import type { EvaluationSet } from '../shared/protocol.js';
import type { EvaluationDone, Observer } from './events.js';
import type { Gatherer } from './round/gatherer.js';
import { EvaluationWork, type WorkParams } from './round/work.js';
import type { Sampler } from './sampler.js';
import type { Samples } from './samples.js';
import type { Tally } from './tally.js';

/** Images of one block of an evaluation; part of the contract, as loss sums add block after block. */
export const EVALUATION_BLOCK = 250;

export interface EvaluatorOptions {
  readonly gatherer: Gatherer;
  readonly samples: Samples;
  readonly sampler: Sampler;
  readonly tally: Tally;
  readonly clock: Clock;
  readonly report: Observer;
}

export class Evaluator {
  private readonly options: EvaluatorOptions;

  constructor(options: EvaluatorOptions) {
    this.options = options;
  }

  /**
   * Evaluates on the validation set, if there is one, and on the test set, and notes it in the tally.
   *
   * @param globalStep updates made to θ
   * @returns whether it is the best so far; null if it was broken off
   */
  async evaluate(globalStep: number, theta: WorkParams): Promise<boolean | null> {
    const { samples, tally } = this.options;
    const hasValidation = samples.numValidation > 0;
    const validation = hasValidation
      ? await this.evaluateOn('validation', globalStep, theta, true)
      : null;
    if (hasValidation && !validation) return null;
    const test = await this.evaluateOn('test', globalStep, theta, !hasValidation);
    return test && tally.evaluated(globalStep, validation ?? test, test);
  }

  private async evaluateOn(
    set: EvaluationSet,
    globalStep: number,
    theta: WorkParams,
    isDeciding: boolean,
  ): Promise<EvaluationDone | null> {
    const { clock, samples, sampler, gatherer, tally, report } = this.options;
    const startedAt = clock.now();
    const work = new EvaluationWork(globalStep, set, samples, EVALUATION_BLOCK, theta);
    if (!(await gatherer.gather(work))) return null;
    const { labels, images, predictions } = work;
    const numImages = labels.length;
    // What would end the run, or be called its best, is not taken on a worker's word.
    if (isDeciding && tally.isMomentous(globalStep, work.numCorrect() / numImages)) {
      if (!(await gatherer.confirm(work))) return null;
    }
    if (work.isApproximate) tally.participants.noteApproximate();
    const time = clock.now();
    const evaluation: EvaluationDone = {
      type: 'evaluation',
      time,
      set,
      globalStep,
      epoch: sampler.epochOf(globalStep),
      loss: work.lossSum() / numImages,
      accuracy: work.numCorrect() / numImages,
      seconds: (time - startedAt) / 1000,
      numImages,
      predictions,
      labels,
      images,
      params: theta.params,
    };
    report(evaluation);
    return evaluation;
  }
}

/**
 * Audits answers: the coordinator's own exact engine recomputes what a worker was asked for. It recomputes one answer at a
 * time and yields between micro-batches, so that the run continues meanwhile.
 *
 * A second worker would not do as a check: two workers may collude.
 */
import type { Engine, Evaluation } from '../../model/engine/engine.js';
import { largestDistance } from '../../model/engine/proof.js';
import { TreeSum, addLoss, type Batch } from '../../model/engine/tree-sum.js';
import { imageBytes } from '../../model/lenet.js';
import type { Regularizer } from '../../model/regularizer.js';
import type { Clock } from '../../shared/clock.js';
import { bytesOf } from '../../shared/codec.js';
import type { Range } from '../../shared/protocol.js';
import type { Random } from '../../shared/random.js';
import { maximalNodes } from '../../shared/tree.js';
import type { SampleSource } from '../samples.js';
import type { BlockResult, EvaluationWork, StepPartial, StepWork } from './work.js';

/**
 * How far an approximate worker's answer may be from the exact one: ‖g − g_own‖ / ‖g_own‖ for each parameter tensor, the
 * relative error of the loss, and the fraction of images classified differently. This is a hundred times the tolerance of
 * the proof, because late in training gradients are small differences of large numbers, and with `relu` or `max` two
 * correct engines may land on different sides of a kink. (Reference against `simd` over 180 micro-batches of trained
 * models: 4e-5 at worst with `sigmoid`, 9e-5 with `relu` and `max`.)
 */
export const APPROXIMATE_TOLERANCE = 1e-2;

export interface AuditorOptions {
  /** An exact engine of the run's model. Other code may set its parameters whenever the auditor yields. */
  readonly arbiter: Engine;
  /** Applied to training images, as on the workers. */
  readonly regularizer: Regularizer;
  readonly samples: SampleSource;
  readonly clock: Clock;
  /** Picks the answers to confirm. A stream of its own: workers see numbers from the others and must not predict this one. */
  readonly auditRandom: Random;
  /** Fraction of answers that are confirmed before they count, 0 to 1. */
  readonly audit: number;
}

/** A node's partial as the auditor's engine computes it. */
export interface OwnPartial {
  readonly node: Range;
  readonly partial: StepPartial;
}

export class Auditor {
  private readonly options: AuditorOptions;
  private readonly treeSum: TreeSum;
  /** Settles once the engine is idle. */
  private idle: Promise<unknown> = Promise.resolve();

  constructor(options: AuditorOptions) {
    this.options = options;
    this.treeSum = new TreeSum(options.arbiter);
  }

  get fingerprint(): string {
    return this.options.arbiter.fingerprint;
  }

  get isOn(): boolean {
    return this.options.audit > 0;
  }

  /** Decides at random whether an answer is confirmed before it counts. */
  draw(): boolean {
    const { audit, auditRandom } = this.options;
    return audit > 0 && auditRandom.float() < audit;
  }

  /**
   * The partials of the maximal nodes inside a range of micro-batches.
   *
   * @param isWanted checked between micro-batches; once false, the rest is not computed
   * @returns fresh buffers; null if abandoned
   */
  partials(
    step: StepWork,
    range: Range,
    isWanted: () => boolean,
  ): Promise<readonly OwnPartial[] | null> {
    return this.queue(async () => {
      const { arbiter, clock, regularizer } = this.options;
      const batchOf = (units: Range): Batch => {
        // Every time: a proof may have been checked in between, with other parameters.
        arbiter.setParams(step.params);
        const indices = step.samplesOf(units);
        return regularizer.apply(this.collect(indices), indices, step.epoch);
      };
      const proceed = async () => {
        await clock.yield();
        return isWanted();
      };
      const own: OwnPartial[] = [];
      for (const node of maximalNodes(range, step.numUnits)) {
        const partial = isWanted() && (await this.treeSum.sum(node, batchOf, proceed));
        if (!partial) return null;
        own.push({ node, partial: { ...partial, gradient: partial.gradient.slice() } });
        await clock.yield();
      }
      return own;
    });
  }

  /** Evaluates one block. @returns null if it was no longer wanted */
  evaluate(
    work: EvaluationWork,
    block: number,
    isWanted: () => boolean,
  ): Promise<BlockResult | null> {
    return this.queue(async () => {
      const { arbiter, clock } = this.options;
      if (!isWanted()) return null;
      const { images, labels } = work.imagesOf(block);
      arbiter.setParams(work.params);
      const own: Evaluation = await arbiter.evaluate(images, labels);
      await clock.yield();
      return own;
    });
  }

  /** Whether a partial matches the auditor's engine: to the bit, or within tolerance for an approximate worker. */
  isRightPartial(isExact: boolean, partial: StepPartial, own: readonly OwnPartial[]): boolean {
    if (isExact) return own.length === 1 && isSamePartial(partial, own[0].partial);
    const whole = own.map((other) => other.partial).reduce(sumOf);
    const { distance } = largestDistance(
      this.options.arbiter.model,
      partial.gradient,
      whole.gradient,
    );
    return (
      distance <= APPROXIMATE_TOLERANCE &&
      isNear(partial.lossSum, whole.lossSum) &&
      Math.abs(partial.numCorrect - whole.numCorrect) <= mayDiffer(whole.numImages)
    );
  }

  /** Like `isRightPartial`, for one block of an evaluation. */
  isRightBlock(isExact: boolean, block: BlockResult, own: BlockResult): boolean {
    const numOther = block.predictions.reduce(
      (sum, prediction, i) => sum + (prediction === own.predictions[i] ? 0 : 1),
      0,
    );
    if (isExact) return numOther === 0 && Object.is(block.lossSum, own.lossSum);
    return isNear(block.lossSum, own.lossSum) && numOther <= mayDiffer(own.predictions.length);
  }

  private queue<T>(work: () => Promise<T>): Promise<T> {
    const done = this.idle.then(work);
    this.idle = done.catch(() => undefined);
    return done;
  }

  private collect(indices: Uint32Array): Batch {
    const { samples } = this.options;
    const numBytes = imageBytes(samples.input);
    const images = new Uint8Array(indices.length * numBytes);
    const labels = new Uint16Array(indices.length);
    indices.forEach((index, i) => {
      images.set(samples.image(index), i * numBytes);
      labels[i] = samples.label(index);
    });
    return { images, labels };
  }
}

function sumOf(left: StepPartial, right: StepPartial): StepPartial {
  const gradient = left.gradient.map((value, i) => value + right.gradient[i]);
  return { ...addLoss(left, right), gradient };
}

function isSamePartial(a: StepPartial, b: StepPartial): boolean {
  return (
    Object.is(a.lossSum, b.lossSum) &&
    a.numCorrect === b.numCorrect &&
    Buffer.compare(bytesOf(a.gradient), bytesOf(b.gradient)) === 0
  );
}

function isNear(loss: number, own: number): boolean {
  return Math.abs(loss - own) <= APPROXIMATE_TOLERANCE * Math.max(1, Math.abs(own));
}

/** How many of these images an approximate engine may classify differently. */
function mayDiffer(numImages: number): number {
  return Math.max(1, APPROXIMATE_TOLERANCE * numImages);
}

/**
 * Judges answers: the coordinator's own exact engine recomputes what a worker was asked for. It recomputes one answer after
 * the other, and handles frames between micro-batches, so that the run continues meanwhile.
 *
 * No second worker is asked: two workers may collude, the coordinator's engine does not.
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
 * How far the answer of an approximate worker may be from the exact one: ‖g − g_own‖ / ‖g_own‖ of each parameter
 * tensor, the share of the loss, the share of the images that are classified otherwise. A hundred times what its
 * engine is proved to keep: late in a training gradients are small differences of large numbers, and with `relu` or
 * `max` two right engines may fall on different sides of a kink. (Reference and `simd` over 180 micro-batches of
 * trained models: 4e-5 at worst with `sigmoid`, 9e-5 with `relu` and `max`.)
 */
export const APPROXIMATE_TOLERANCE = 1e-2;

export interface AuditorOptions {
  /** An exact engine of the run's model. Others may set its parameters while the auditor waits. */
  readonly arbiter: Engine;
  /** Does to training images what workers do. */
  readonly regularizer: Regularizer;
  readonly samples: SampleSource;
  readonly clock: Clock;
  /** Draws which answers are confirmed. A separate stream, since workers see numbers from others and must not predict it. */
  readonly auditRandom: Random;
  /** Share of answers that are confirmed before they count, 0 to 1. */
  readonly audit: number;
}

/** What the auditor's engine computes for a node. */
export interface OwnPartial {
  readonly node: Range;
  readonly partial: StepPartial;
}

export class Auditor {
  private readonly options: AuditorOptions;
  private readonly treeSum: TreeSum;
  /** Settles when the engine has nothing to do. */
  private idle: Promise<unknown> = Promise.resolve();

  constructor(options: AuditorOptions) {
    this.options = options;
    this.treeSum = new TreeSum(options.arbiter);
  }

  /** Of the engine that decides. */
  get fingerprint(): string {
    return this.options.arbiter.fingerprint;
  }

  get isOn(): boolean {
    return this.options.audit > 0;
  }

  /** Whether chance will have an answer confirmed before it counts. */
  draw(): boolean {
    const { audit, auditRandom } = this.options;
    return audit > 0 && auditRandom.float() < audit;
  }

  /**
   * The partials of the maximal nodes inside a range of micro-batches.
   *
   * @param isWanted looked at between micro-batches; once it says false, the rest is not computed
   * @returns fresh buffers; null if it was given up
   */
  partials(
    step: StepWork,
    range: Range,
    isWanted: () => boolean,
  ): Promise<readonly OwnPartial[] | null> {
    return this.queue(async () => {
      const { arbiter, clock, regularizer } = this.options;
      const batchOf = (units: Range): Batch => {
        // Each time, as proofs may have been judged in between.
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

  /** Evaluates one block. @returns null if it was not wanted any more */
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

  /** As `isRightPartial`, of a block of an evaluation. */
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

/** Images of as many that an approximate engine may classify otherwise. */
function mayDiffer(numImages: number): number {
  return Math.max(1, APPROXIMATE_TOLERANCE * numImages);
}

/**
 * The partial of a node: an engine's gradients of single micro-batches, added over the fixed tree.
 */
import type { Range } from '../../shared/protocol.js';
import { middle } from '../../shared/tree.js';
import type { Engine, LossSum, TrainingLoss } from './engine.js';

/** Images of one micro-batch or of several. */
export interface Batch {
  /** (n, C, H, W) */
  readonly images: Uint8Array;
  /** (n,) */
  readonly labels: Uint16Array;
  /** Of training; that of an evaluation by default. */
  readonly loss?: TrainingLoss;
}

export interface Partial extends LossSum {
  /** (P,) Σ of the gradients; valid until the next call. */
  readonly gradient: Float32Array;
  readonly numImages: number;
}

export class TreeSum {
  private readonly engine: Engine;
  /** One gradient a level of the tree. */
  private readonly buffers: Float32Array[] = [];

  constructor(engine: Engine) {
    this.engine = engine;
  }

  /**
   * T(lo, hi) of a node under the parameters that the engine has.
   *
   * @param batchOf the images of a range of micro-batches; valid until the next call
   * @param proceed called between micro-batches; the sum is given up when it says false
   * @param into (P,) where the sum goes; a buffer that the next call overwrites by default
   */
  async sum(
    [lo, hi]: Range,
    batchOf: (range: Range) => Batch,
    proceed: () => Promise<boolean> | boolean,
    into?: Float32Array,
  ): Promise<Partial | null> {
    const gradient = into ?? this.buffer(0);
    const sum = await this.sumNode(gradient, 1, lo, hi, batchOf, proceed);
    return sum && { ...sum, gradient };
  }

  /** As `sum`, of any range and in one call of the engine: for engines that are approximate anyway. */
  async sumAtOnce(
    range: Range,
    batchOf: (range: Range) => Batch,
    gradient = this.buffer(0),
  ): Promise<Partial> {
    const { images, labels, loss } = batchOf(range);
    const sums = await this.engine.gradient(images, labels, gradient, loss);
    return { ...sums, gradient, numImages: labels.length };
  }

  /** @param out where the sum goes  @param level of the buffer for the right half */
  private async sumNode(
    out: Float32Array,
    level: number,
    lo: number,
    hi: number,
    batchOf: (range: Range) => Batch,
    proceed: () => Promise<boolean> | boolean,
  ): Promise<Omit<Partial, 'gradient'> | null> {
    if (hi - lo === 1) {
      const { images, labels, loss } = batchOf([lo, hi]);
      const sums = await this.engine.gradient(images, labels, out, loss);
      return { ...sums, numImages: labels.length };
    }
    const mid = middle(lo, hi);
    const left = await this.sumNode(out, level, lo, mid, batchOf, proceed);
    if (!left || !(await proceed())) return null;
    const other = this.buffer(level);
    const right = await this.sumNode(other, level + 1, mid, hi, batchOf, proceed);
    if (!right) return null;
    this.engine.add(out, other);
    return addLoss(left, right);
  }

  private buffer(level: number): Float32Array {
    return (this.buffers[level] ??= this.engine.allocateGradient());
  }
}

/** The counts of two neighbouring nodes together; losses add in float32. */
export function addLoss<T extends LossSum & { readonly numImages: number }>(
  left: T,
  right: T,
): LossSum & { readonly numImages: number } {
  return {
    lossSum: Math.fround(left.lossSum + right.lossSum),
    numCorrect: left.numCorrect + right.numCorrect,
    numImages: left.numImages + right.numImages,
  };
}

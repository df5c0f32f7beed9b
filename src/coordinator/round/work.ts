/**
 * The two kinds of work in a round: the micro-batches of a step, and the blocks of an evaluation. They know which images a
 * unit contains, encode the work for the workers, and hold the results.
 */
import type { Frame } from '../../shared/channel.js';
import { bytesOf, encode } from '../../shared/codec.js';
import type { EvaluationSet, Range } from '../../shared/protocol.js';
import { sliceOf, type Slices } from '../../shared/slices.js';
import { imageBytes } from '../../model/lenet.js';
import type { Work } from './dispatcher.js';
import type { PartialTrace } from '../events.js';
import type { Member } from '../group/group.js';
import { Reducer } from './reducer.js';
import type { Samples } from '../samples.js';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A partial sum over some micro-batches. */
export interface StepPartial {
  /** (P,) */
  readonly gradient: Float32Array;
  readonly lossSum: number;
  readonly numCorrect: number;
  readonly numImages: number;
}

/** The result of evaluating one block of images. */
export interface BlockResult {
  readonly lossSum: number;
  /** (n,) */
  readonly predictions: Uint16Array;
}

/** The θ that the work uses, and the slices it is sent in. */
export interface WorkParams {
  /** θ (P,), unchanged while the work is under way. */
  readonly params: Float32Array;
  readonly slices: Slices;
}

/** The frame of a slice of θ after `globalStep` updates, which is sent before the work's own message. */
export function encodeSlice(
  globalStep: number,
  { params, slices }: WorkParams,
  index: number,
): Frame {
  const slice = slices.ranges[index];
  const values = bytesOf(sliceOf(params, slice));
  return encode({ type: 'paramsSlice', globalStep, first: slice[0], values });
}

/** Work whose units may have an answer that is still being confirmed; meanwhile no other worker is asked for them. */
abstract class ConfirmableWork {
  readonly globalStep: number;
  readonly numUnits: number;
  readonly params: Float32Array;
  readonly slices: Slices;
  /** Whether an approximate worker's answer counted without confirmation. */
  isApproximate = false;
  /** (numUnits,) answers being confirmed. */
  private readonly numHeld: Uint16Array;
  /** Encoded once for all workers. */
  private readonly sliceFrames: Frame[] = [];

  constructor(globalStep: number, numUnits: number, { params, slices }: WorkParams) {
    this.globalStep = globalStep;
    this.numUnits = numUnits;
    this.params = params;
    this.slices = slices;
    this.numHeld = new Uint16Array(numUnits);
  }

  /** The slices sent before the work's own message, without the first `numSent`. */
  earlySlices(numSent: number): readonly Frame[] {
    return this.slices.early
      .map((_, i) => (this.sliceFrames[i] ??= encodeSlice(this.globalStep, this, i)))
      .slice(numSent);
  }

  /** Not a copy of θ: a worker that is sent it after θ has changed is working for a round that no longer counts. */
  protected lastSlice(): Uint8Array {
    return bytesOf(sliceOf(this.params, this.slices.last));
  }

  abstract isDone(unit: number): boolean;

  isOpen(unit: number): boolean {
    return !this.isDone(unit) && this.numHeld[unit] === 0;
  }

  hasOpen([lo, hi]: Range): boolean {
    for (let unit = lo; unit < hi; unit++) if (this.isOpen(unit)) return true;
    return false;
  }

  /** An answer for the range is being confirmed. */
  hold([lo, hi]: Range): void {
    for (let unit = lo; unit < hi; unit++) this.numHeld[unit]++;
  }

  /** Undoes one `hold`: the confirmation has finished. */
  release([lo, hi]: Range): void {
    for (let unit = lo; unit < hi; unit++) this.numHeld[unit]--;
  }
}

export class StepWork extends ConfirmableWork implements Work {
  readonly kind = 'step';
  readonly isTree = true;
  readonly epoch: number;
  readonly reducer: Reducer<StepPartial>;
  /** Each worker's contribution, with nothing counted twice. */
  readonly credits = new Map<Member, { numUnits: number; numImages: number }>();
  /** Units whose gradients are in the sum, each once (see ledger.ts). */
  readonly counted: number[] = [];
  readonly traces: Mutable<PartialTrace>[] = [];
  /** The buffers of all partials received. */
  readonly gradients: Float32Array[] = [];
  private readonly batch: Uint32Array;
  private readonly microBatch: number;

  /** @param batch (n,) sample indices */
  constructor(
    globalStep: number,
    epoch: number,
    batch: Uint32Array,
    microBatch: number,
    params: WorkParams,
  ) {
    super(globalStep, Math.ceil(batch.length / microBatch), params);
    this.epoch = epoch;
    this.batch = batch;
    this.microBatch = microBatch;
    this.reducer = new Reducer(this.numUnits);
  }

  isDone(unit: number): boolean {
    return this.reducer.isCovered(unit);
  }

  get numImages(): number {
    return this.batch.length;
  }

  get isComplete(): boolean {
    return this.reducer.isComplete;
  }

  samplesOf([lo, hi]: Range): Uint32Array {
    return this.batch.subarray(lo * this.microBatch, hi * this.microBatch);
  }

  imagesIn(range: Range): number {
    return this.samplesOf(range).length;
  }

  /** Records that these units of the sum come from that worker, or from the arbiter (null). */
  credit(member: Member | null, units: readonly number[]): void {
    this.counted.push(...units);
    if (!member) return;
    const credit = this.credits.get(member) ?? { numUnits: 0, numImages: 0 };
    credit.numUnits += units.length;
    for (const unit of units) credit.numImages += this.imagesIn([unit, unit + 1]);
    this.credits.set(member, credit);
  }

  encode(ranges: readonly Range[], withParams: boolean): Frame {
    const numImages = ranges.reduce((sum, range) => sum + this.imagesIn(range), 0);
    const indices = new Uint32Array(numImages);
    let from = 0;
    for (const range of ranges) {
      indices.set(this.samplesOf(range), from);
      from += this.imagesIn(range);
    }
    return encode({
      type: 'step',
      globalStep: this.globalStep,
      epoch: this.epoch,
      params: withParams ? this.lastSlice() : null,
      numImages: this.numImages,
      ranges: ranges.map(([lo, hi]) => [lo, hi]),
      indices: bytesOf(indices),
    });
  }
}

export class EvaluationWork extends ConfirmableWork implements Work {
  readonly kind = 'evaluation';
  readonly isTree = false;
  readonly set: EvaluationSet;
  /** (n, C, H, W) and (n,) */
  readonly images: Uint8Array;
  readonly labels: Uint16Array;
  /** (n,) */
  readonly predictions: Uint16Array;
  private readonly first: number;
  private readonly block: number;
  readonly numClasses: number;
  private readonly imageBytes: number;
  /** (numUnits,) */
  private readonly lossSums: Float32Array;
  /** By unit: the worker that its result is from; null for the auditor. */
  private readonly sources = new Map<number, Member | null>();

  /** @param block images per unit */
  constructor(
    globalStep: number,
    set: EvaluationSet,
    samples: Pick<Samples, 'input' | 'numClasses' | 'evaluationSet'>,
    block: number,
    params: WorkParams,
  ) {
    const { images, labels, first } = samples.evaluationSet(set);
    super(globalStep, Math.ceil(labels.length / block), params);
    this.set = set;
    this.images = images;
    this.labels = labels;
    this.first = first;
    this.numClasses = samples.numClasses;
    this.imageBytes = imageBytes(samples.input);
    this.block = block;
    this.predictions = new Uint16Array(labels.length);
    this.lossSums = new Float32Array(this.numUnits);
  }

  isDone(unit: number): boolean {
    return this.sources.has(unit);
  }

  get isComplete(): boolean {
    return this.sources.size === this.numUnits;
  }

  /** The blocks whose result is still a worker's own, and that worker. */
  get unconfirmed(): (readonly [block: number, source: Member])[] {
    return [...this.sources].filter((entry): entry is [number, Member] => entry[1] !== null);
  }

  samplesOf([lo, hi]: Range): Uint32Array {
    const length = this.imagesIn([lo, hi]);
    return Uint32Array.from({ length }, (_, i) => this.first + lo * this.block + i);
  }

  imagesIn([lo, hi]: Range): number {
    return Math.min(hi * this.block, this.labels.length) - lo * this.block;
  }

  /** The images of one block, not copied. */
  imagesOf(block: number): { readonly images: Uint8Array; readonly labels: Uint16Array } {
    const [from, to] = this.placeOf(block);
    return {
      images: this.images.subarray(from * this.imageBytes, to * this.imageBytes),
      labels: this.labels.subarray(from, to),
    };
  }

  /** The stored result of a block. */
  resultOf(block: number): BlockResult {
    const [from, to] = this.placeOf(block);
    return { lossSum: this.lossSums[block], predictions: this.predictions.subarray(from, to) };
  }

  /**
   * Stores the result of a block. The auditor's result overrides a worker's; otherwise the first one stays.
   *
   * @param source the worker that it is from; null for the auditor
   * @returns whether the block had no result before
   */
  take(block: number, { lossSum, predictions }: BlockResult, source: Member | null): boolean {
    const isNew = !this.isDone(block);
    if (!isNew && source !== null) return false;
    this.lossSums[block] = lossSum;
    this.predictions.set(predictions, this.placeOf(block)[0]);
    this.sources.set(block, source);
    return isNew;
  }

  /** Sum of the losses, block by block in float64. */
  lossSum(): number {
    return this.lossSums.reduce((sum, term) => sum + term, 0);
  }

  numCorrect(): number {
    let numCorrect = 0;
    for (const [i, label] of this.labels.entries()) if (label === this.predictions[i]) numCorrect++;
    return numCorrect;
  }

  /** The images [from, to) of a block. */
  private placeOf(block: number): readonly [from: number, to: number] {
    const from = block * this.block;
    return [from, from + this.imagesIn([block, block + 1])];
  }

  encode(ranges: readonly Range[], withParams: boolean): Frame {
    return encode({
      type: 'evaluate',
      globalStep: this.globalStep,
      set: this.set,
      params: withParams ? this.lastSlice() : null,
      first: this.first,
      numImages: this.labels.length,
      ranges: ranges.map(([lo, hi]) => [lo, hi]),
    });
  }
}

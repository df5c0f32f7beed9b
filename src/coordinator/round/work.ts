/**
 * The two kinds of work that a round is made of: the micro-batches of a step, the blocks of an evaluation. They know
 * which images a unit is, how the work is told to workers, and hold the results.
 */
import { bytesOf, encode } from '../../shared/codec.js';
import type { EvaluationSet, Range } from '../../shared/protocol.js';
import type { Work } from './dispatcher.js';
import type { PartialTrace } from '../events.js';
import type { Member } from '../group/group.js';
import { Reducer } from './reducer.js';
import type { Shares } from './round.js';
import type { Samples } from '../samples.js';

/** A sum that travelled up, and what it counts. */
export interface StepPartial {
  /** (P,) */
  readonly gradient: Float32Array;
  readonly lossSum: number;
  readonly numCorrect: number;
  readonly numImages: number;
}

export class StepWork implements Work {
  readonly kind = 'step';
  readonly globalStep: number;
  readonly numUnits: number;
  readonly reducer: Reducer<StepPartial>;
  /** What each worker did of it, nothing counted twice. */
  readonly credits = new Map<Member, { numUnits: number; numImages: number }>();
  /** Units whose gradient is in the sum, each once if all is right. */
  readonly counted: number[] = [];
  readonly traces: PartialTrace[] = [];
  /** Buffers of the partials that came. */
  readonly gradients: Float32Array[] = [];
  private readonly batch: Uint32Array;
  private readonly microBatch: number;
  /** θ (P,), not changed while the work is under way. */
  readonly params: Float32Array;

  /** @param batch (n,) sample indices */
  constructor(globalStep: number, batch: Uint32Array, microBatch: number, params: Float32Array) {
    this.globalStep = globalStep;
    this.batch = batch;
    this.microBatch = microBatch;
    this.params = params;
    this.numUnits = Math.ceil(batch.length / microBatch);
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

  /** Notes that the sum has these units from that worker, or from the arbiter. */
  credit(member: Member | null, units: readonly number[]): void {
    this.counted.push(...units);
    if (!member) return;
    const credit = this.credits.get(member) ?? { numUnits: 0, numImages: 0 };
    credit.numUnits += units.length;
    for (const unit of units) credit.numImages += this.imagesIn([unit, unit + 1]);
    this.credits.set(member, credit);
  }

  encode(shares: Shares, withParams: boolean): Uint8Array {
    return encode({
      type: 'step',
      globalStep: this.globalStep,
      params: withParams ? bytesOf(this.params) : null,
      indices: bytesOf(this.batch),
      shards: shardsOf(shares),
    });
  }
}

export class EvaluationWork implements Work {
  readonly kind = 'evaluation';
  readonly globalStep: number;
  readonly set: EvaluationSet;
  readonly numUnits: number;
  /** (n, 784) and (n,) */
  readonly images: Uint8Array;
  readonly labels: Uint8Array;
  /** (n,) */
  readonly predictions: Uint8Array;
  private readonly first: number;
  private readonly block: number;
  private readonly params: Float32Array;
  /** (numUnits,) */
  private readonly lossSums: Float32Array;
  private readonly done: Uint8Array;

  /** @param block images of one unit */
  constructor(
    globalStep: number,
    set: EvaluationSet,
    samples: Samples,
    block: number,
    params: Float32Array,
  ) {
    this.globalStep = globalStep;
    this.set = set;
    ({ images: this.images, labels: this.labels, first: this.first } = samples.evaluationSet(set));
    this.block = block;
    this.params = params;
    this.numUnits = Math.ceil(this.labels.length / block);
    this.predictions = new Uint8Array(this.labels.length);
    this.lossSums = new Float32Array(this.numUnits);
    this.done = new Uint8Array(this.numUnits);
  }

  isDone(unit: number): boolean {
    return this.done[unit] === 1;
  }

  get isComplete(): boolean {
    return this.done.every((flag) => flag === 1);
  }

  samplesOf([lo, hi]: Range): Uint32Array {
    const length = this.imagesIn([lo, hi]);
    return Uint32Array.from({ length }, (_, i) => this.first + lo * this.block + i);
  }

  imagesIn([lo, hi]: Range): number {
    return Math.min(hi * this.block, this.labels.length) - lo * this.block;
  }

  /** Stores what came for a range of blocks; what was there already stays. @returns how many blocks were new */
  take([lo, hi]: Range, lossSums: Float32Array, predictions: Uint8Array): number {
    let numNew = 0;
    for (let unit = lo; unit < hi; unit++) {
      if (this.isDone(unit)) continue;
      const begin = (unit - lo) * this.block;
      const numImages = this.imagesIn([unit, unit + 1]);
      this.lossSums[unit] = lossSums[unit - lo]!;
      this.predictions.set(predictions.subarray(begin, begin + numImages), unit * this.block);
      this.done[unit] = 1;
      numNew++;
    }
    return numNew;
  }

  /** Sum of the losses, block after block in float64. */
  lossSum(): number {
    return this.lossSums.reduce((sum, term) => sum + term, 0);
  }

  numCorrect(): number {
    let numCorrect = 0;
    for (const [i, label] of this.labels.entries()) if (label === this.predictions[i]) numCorrect++;
    return numCorrect;
  }

  encode(shares: Shares, withParams: boolean): Uint8Array {
    return encode({
      type: 'evaluate',
      globalStep: this.globalStep,
      set: this.set,
      params: withParams ? bytesOf(this.params) : null,
      first: this.first,
      numImages: this.labels.length,
      shards: shardsOf(shares),
    });
  }
}

function shardsOf(shares: Shares): Record<string, [number, number][]> {
  return Object.fromEntries(
    [...shares].map(([workerId, ranges]) => [
      workerId,
      ranges.map(([lo, hi]): [number, number] => [lo, hi]),
    ]),
  );
}

/**
 * The part of a step or evaluation that a relay was asked for, as work for a round of its own workers: units not requested
 * count as done, and each requested range is answered as soon as it is complete, with the number of units done by then.
 */
import type { VectorOps } from '../model/engine/simd/vector.js';
import { addLoss } from '../model/engine/tree-sum.js';
import type { Range } from '../shared/protocol.js';
import type { Slices } from '../shared/slices.js';
import type { SampleSource } from '../coordinator/samples.js';
import {
  EvaluationWork,
  StepWork,
  type BlockResult,
  type StepPartial,
} from '../coordinator/round/work.js';
import type { Member } from '../coordinator/group/group.js';
import type { EvaluationTask, StepTask } from '../worker/task.js';

/** The requested units, and the ranges of them that have not been answered. */
class Wanted {
  private readonly units: Uint8Array;
  private due: readonly Range[];

  constructor(numUnits: number, ranges: readonly Range[]) {
    this.units = new Uint8Array(numUnits);
    for (const [lo, hi] of ranges) this.units.fill(1, lo, hi);
    this.due = ranges;
  }

  has(unit: number): boolean {
    return this.units[unit] === 1;
  }

  get isAnswered(): boolean {
    return this.due.length === 0;
  }

  /** The ranges completed since the last call. */
  take(isDone: (unit: number) => boolean): readonly Range[] {
    const isWhole = ([lo, hi]: Range) => {
      for (let unit = lo; unit < hi; unit++) if (!isDone(unit)) return false;
      return true;
    };
    const whole = this.due.filter(isWhole);
    if (whole.length > 0) this.due = this.due.filter((range) => !whole.includes(range));
    return whole;
  }
}

export class StepPart extends StepWork {
  private readonly wanted: Wanted;
  private readonly vectors: VectorOps;
  private readonly answer: (range: Range, sum: StepPartial, numDone: number) => void;
  private numDone = 0;

  /** @param ranges disjoint; each is answered with its sum in tree order */
  constructor(
    task: StepTask,
    ranges: readonly Range[],
    slices: Slices,
    vectors: VectorOps,
    answer: StepPart['answer'],
  ) {
    super(task.globalStep, task.epoch, task.indices, task.unitSize, { ...task, slices });
    this.wanted = new Wanted(task.numUnits, ranges);
    this.vectors = vectors;
    this.answer = answer;
  }

  override isDone(unit: number): boolean {
    return !this.wanted.has(unit) || super.isDone(unit);
  }

  override get isComplete(): boolean {
    return this.wanted.isAnswered;
  }

  override credit(member: Member | null, units: readonly number[]): void {
    super.credit(member, units);
    this.numDone += units.length;
    for (const range of this.wanted.take((unit) => super.isDone(unit))) {
      const sum = this.reducer.sumOf(range, (left, right) => {
        this.vectors.add(left.gradient, right.gradient);
        return { ...addLoss(left, right), gradient: left.gradient };
      });
      this.answer(range, sum!, this.numDone);
    }
  }
}

export class EvaluationPart extends EvaluationWork {
  private readonly wanted: Wanted;
  private readonly answer: (
    range: Range,
    lossSums: Float32Array,
    predictions: Uint16Array,
    numDone: number,
  ) => void;
  private numDone = 0;

  /** @param set images (n, C, H, W) and labels (n,) of the whole set; only those in the ranges need to be filled in */
  constructor(
    task: EvaluationTask,
    ranges: readonly Range[],
    slices: Slices,
    source: SampleSource,
    set: { readonly images: Uint8Array; readonly labels: Uint16Array },
    answer: EvaluationPart['answer'],
  ) {
    const { input, numClasses } = source;
    const { first } = task;
    const samples = { input, numClasses, evaluationSet: () => ({ ...set, first }) };
    super(task.globalStep, task.set, samples, task.unitSize, { ...task, slices });
    this.wanted = new Wanted(task.numUnits, ranges);
    this.answer = answer;
  }

  override isDone(unit: number): boolean {
    return !this.wanted.has(unit) || super.isDone(unit);
  }

  override get isComplete(): boolean {
    return this.wanted.isAnswered;
  }

  override take(block: number, result: BlockResult, source: Member | null): boolean {
    const isNew = super.take(block, result, source);
    if (isNew) this.numDone++;
    for (const [lo, hi] of this.wanted.take((unit) => super.isDone(unit))) {
      const blocks = Array.from({ length: hi - lo }, (_, i) => this.resultOf(lo + i));
      const lossSums = Float32Array.from(blocks, ({ lossSum }) => lossSum);
      const from = lo * this.imagesIn([0, 1]);
      const predictions = this.predictions.subarray(from, from + this.imagesIn([lo, hi]));
      this.answer([lo, hi], lossSums, predictions, this.numDone);
    }
    return isNew;
  }
}

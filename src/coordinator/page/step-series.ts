/**
 * The per-step figures of a whole run in bounded memory: as the run grows, neighbouring points are merged.
 *
 * A point covers the steps [k·stride, (k+1)·stride). When there are more than `capacity` points, the stride doubles and
 * points merge in pairs, keeping mean, minimum and maximum. The page keeps the same series and merges by the same rule, so
 * only changes have to be sent. No I/O; uses nothing from Node or the browser.
 */

/** The figures that a point averages over its steps. */
const MEANS = [
  'loss',
  'accuracy',
  'learningRate',
  'numImages',
  'worldSize',
  'planMs',
  'wireMs',
  'computeMs',
  'reduceMs',
  'updateMs',
  'waitMs',
] as const;

/** `wireMs` includes the broadcast, so that the six times add up to the step's total. */
export type StepFigure = (typeof MEANS)[number];
export type StepSample = Readonly<Record<StepFigure, number>> & {
  readonly globalStep: number;
  /** When the step was done, since the start of the run. */
  readonly seconds: number;
};

const COLUMNS = [
  ...MEANS,
  'lossMin',
  'lossMax',
  'accuracyMin',
  'accuracyMax',
  /** Of the point's last step. */
  'seconds',
  /** Number of steps in the point. */
  'count',
] as const;
export type StepColumn = (typeof COLUMNS)[number];

/** Cells of four bytes in one encoded point: the last step as uint32, then the columns as float32. */
const CELLS = COLUMNS.length + 1;

/** Points as sent to a page; see `encode`. */
export interface EncodedPoints {
  readonly stride: number;
  readonly numPoints: number;
  /** (CELLS, numPoints) four-byte cells, little-endian. */
  readonly cells: Uint8Array<ArrayBuffer>;
}

export class StepSeries {
  readonly capacity: number;
  /** Steps per point; a power of two. */
  stride = 1;
  length = 0;
  /** Last step in each point; (capacity,), the first `length` are valid here and in the columns. */
  readonly lastStep: Uint32Array;
  private readonly columns: Readonly<Record<StepColumn, Float32Array>>;

  /** @throws {RangeError} if the capacity is not an even number, at least 2 */
  constructor(capacity = 4000) {
    if (!(capacity >= 2 && capacity % 2 === 0)) {
      throw new RangeError(`Wrong capacity of a series: ${capacity}, expected an even number`);
    }
    this.capacity = capacity;
    this.lastStep = new Uint32Array(capacity);
    this.columns = Object.fromEntries(
      COLUMNS.map((name) => [name, new Float32Array(capacity)]),
    ) as Record<StepColumn, Float32Array>;
  }

  /** The values of one column, point by point; a view, valid until the next change. */
  column(name: StepColumn): Float32Array {
    return this.columns[name].subarray(0, this.length);
  }

  /** Adds the next step, after dropping any existing points from `sample.globalStep` on. */
  add(sample: StepSample): void {
    const { columns } = this;
    this.truncate(sample.globalStep);
    let at = this.length - 1;
    const joins = at >= 0 && this.bucket(this.lastStep[at]) === this.bucket(sample.globalStep);
    if (!joins) {
      if (this.length === this.capacity) {
        this.merge();
        this.add(sample);
        return;
      }
      at = this.length++;
      for (const name of COLUMNS) columns[name][at] = 0;
      columns.lossMin[at] = columns.accuracyMin[at] = Infinity;
      columns.lossMax[at] = columns.accuracyMax[at] = -Infinity;
    }
    const count = ++columns.count[at];
    for (const name of MEANS) columns[name][at] += (sample[name] - columns[name][at]) / count;
    columns.lossMin[at] = Math.min(columns.lossMin[at], sample.loss);
    columns.lossMax[at] = Math.max(columns.lossMax[at], sample.loss);
    columns.accuracyMin[at] = Math.min(columns.accuracyMin[at], sample.accuracy);
    columns.accuracyMax[at] = Math.max(columns.accuracyMax[at], sample.accuracy);
    columns.seconds[at] = sample.seconds;
    this.lastStep[at] = sample.globalStep;
  }

  /** Drops every point that has a step ≥ `globalStep`. */
  truncate(globalStep: number): void {
    while (this.length > 0 && this.lastStep[this.length - 1] >= globalStep) this.length -= 1;
  }

  /** The points that have a step ≥ `globalStep`, or whose range includes it. */
  encode(globalStep: number): EncodedPoints {
    const bucket = this.bucket(globalStep);
    let from = this.length;
    while (from > 0 && this.bucket(this.lastStep[from - 1]) >= bucket) from -= 1;
    const numPoints = this.length - from;
    const cells = new Uint8Array(4 * CELLS * numPoints);
    new Uint32Array(cells.buffer, 0, numPoints).set(this.lastStep.subarray(from, this.length));
    COLUMNS.forEach((name, row) => {
      const values = new Float32Array(cells.buffer, 4 * (row + 1) * numPoints, numPoints);
      values.set(this.columns[name].subarray(from, this.length));
    });
    return { stride: this.stride, numPoints, cells };
  }

  /**
   * Applies what another series encoded: its points replace those of the same steps and all later ones.
   *
   * @throws {RangeError} if the points are not those of a series with this capacity
   */
  apply({ stride, numPoints, cells }: EncodedPoints): void {
    if (cells.length !== 4 * CELLS * numPoints || stride < this.stride) {
      throw new RangeError(
        `Cannot apply ${numPoints} points of stride ${stride}: ${cells.length} bytes, stride here ${this.stride}`,
      );
    }
    while (this.stride < stride) this.merge();
    if (numPoints === 0) return;
    const lastSteps = new Uint32Array(cells.buffer, 0, numPoints);
    const first = this.bucket(lastSteps[0]);
    while (this.length > 0 && this.bucket(this.lastStep[this.length - 1]) >= first)
      this.length -= 1;
    if (this.length + numPoints > this.capacity) {
      throw new RangeError(`Cannot apply ${numPoints} points: more than ${this.capacity} in all`);
    }
    this.lastStep.set(lastSteps, this.length);
    COLUMNS.forEach((name, row) => {
      const values = new Float32Array(cells.buffer, 4 * (row + 1) * numPoints, numPoints);
      this.columns[name].set(values, this.length);
    });
    this.length += numPoints;
  }

  private bucket(globalStep: number): number {
    return Math.floor(globalStep / this.stride);
  }

  /** Doubles the stride: neighbouring points that now share a range become one. */
  private merge(): void {
    const { columns, lastStep } = this;
    this.stride *= 2;
    let to = -1;
    for (let from = 0; from < this.length; from += 1) {
      if (to >= 0 && this.bucket(lastStep[to]) === this.bucket(lastStep[from])) {
        const weight = columns.count[from] / (columns.count[to] + columns.count[from]);
        for (const name of MEANS) {
          columns[name][to] += (columns[name][from] - columns[name][to]) * weight;
        }
        columns.lossMin[to] = Math.min(columns.lossMin[to], columns.lossMin[from]);
        columns.lossMax[to] = Math.max(columns.lossMax[to], columns.lossMax[from]);
        columns.accuracyMin[to] = Math.min(columns.accuracyMin[to], columns.accuracyMin[from]);
        columns.accuracyMax[to] = Math.max(columns.accuracyMax[to], columns.accuracyMax[from]);
        columns.count[to] += columns.count[from];
        columns.seconds[to] = columns.seconds[from];
      } else {
        to += 1;
        for (const name of COLUMNS) columns[name][to] = columns[name][from];
      }
      lastStep[to] = lastStep[from];
    }
    this.length = to + 1;
  }
}

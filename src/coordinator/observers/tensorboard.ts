/**
 * Event files for TensorBoard, one directory per set so that their curves share a chart: scalars for each step and
 * evaluation, histograms of the parameters at each evaluation. docs/monitoring.md lists the tags.
 *
 * The messages are protocol buffers, TensorFlow's event.proto and summary.proto, encoded by hand: only a dozen
 * of about a hundred fields are needed.
 */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { buildModel } from '../../model/lenet.js';
import { createAppendFile, type AppendFile } from '../../shared/node/append-file.js';
import { ProtoWriter } from '../../shared/node/proto-writer.js';
import type { EvaluationDone, Observer, RunStarted, StepDone } from '../events.js';
import { frameRecord } from './tfrecord.js';

export interface TensorBoard {
  readonly observe: Observer;
  /** Flushes and closes the files. Does not reject. */
  close(): Promise<void>;
}

export interface TensorBoardOptions {
  /** Told when the disk does not take the events. */
  readonly warn: (message: string) => void;
}

type Folder = 'train' | 'validation' | 'test';

/** A histogram, as TensorBoard shows it: counts of equally wide buckets from the smallest value to the largest. */
export interface Histogram {
  readonly min: number;
  readonly max: number;
  readonly count: number;
  readonly sum: number;
  readonly sumOfSquares: number;
  /** Upper edges, ascending. */
  readonly limits: readonly number[];
  readonly counts: readonly number[];
}

const NUM_BUCKETS = 50;

/** Writes below the directory, into new files beside those of earlier starts of the run. */
export function createTensorBoard(directory: string, options: TensorBoardOptions): TensorBoard {
  const files = new Map<Folder, AppendFile>();
  let run: RunStarted | null = null;
  let tensors: ReturnType<typeof paramTensors> = [];
  let histogramStep = -1;

  const append = (folder: Folder, event: Uint8Array) => fileOf(folder).append(frameRecord(event));
  const fileOf = (folder: Folder): AppendFile => {
    const known = files.get(folder);
    if (known !== undefined) return known;
    const time = run?.time ?? Date.now();
    const seconds = String(Math.floor(time / 1000)).padStart(10, '0');
    const name = `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.0`;
    const file = createAppendFile(join(directory, folder, name), options);
    files.set(folder, file);
    append(
      folder,
      encodeEvent(time, 0, (event) => event.string(3, 'brain.Event:2')),
    );
    if (run?.isResumed) {
      // A session begins: what has this step or a later one will be made again, and is to be forgotten.
      append(
        folder,
        encodeEvent(time, run.globalStep + 1, (event) =>
          event.message(7, (sessionLog) => sessionLog.integer(1, 1)),
        ),
      );
    }
    return file;
  };

  const stepped = (step: StepDone) => {
    append(
      'train',
      encodeEvent(step.time, step.globalStep + 1, (event) =>
        event.message(5, (summary) => {
          addScalar(summary, 'loss', step.loss);
          addScalar(summary, 'accuracy', step.accuracy);
          addScalar(summary, 'learning_rate', step.learningRate);
          addScalar(summary, 'images_per_second', (1000 * step.numImages) / step.times.totalMs);
        }),
      ),
    );
  };

  const evaluated = (evaluation: EvaluationDone) => {
    const { time, globalStep, params } = evaluation;
    append(
      evaluation.set,
      encodeEvent(time, globalStep, (event) =>
        event.message(5, (summary) => {
          addScalar(summary, 'loss', evaluation.loss);
          addScalar(summary, 'accuracy', evaluation.accuracy);
        }),
      ),
    );
    // Validation and test set are evaluated with the same parameters.
    if (globalStep === histogramStep) return;
    histogramStep = globalStep;
    append(
      'train',
      encodeEvent(time, globalStep, (event) =>
        event.message(5, (summary) => {
          for (const { tag, offset, length } of tensors) {
            addHistogram(summary, tag, histogramOf(params.subarray(offset, offset + length)));
          }
        }),
      ),
    );
  };

  return {
    observe(event) {
      if (event.type === 'started') {
        run = event;
        tensors = paramTensors(event);
      }
      if (event.type === 'step') stepped(event);
      if (event.type === 'evaluation') evaluated(event);
    },
    async close() {
      await Promise.all(Array.from(files.values(), (file) => file.close()));
    },
  };
}

/** Where each parameter tensor stands in θ, `C1/weights` and so on. */
function paramTensors({ config, input, classNames }: RunStarted) {
  const data = { input, numClasses: classNames.length };
  return buildModel(config.hyperparameters, data).layers.flatMap((layer) =>
    layer.kind === 'pool'
      ? []
      : [
          { tag: `${layer.name}/weights`, ...layer.weights },
          { tag: `${layer.name}/biases`, ...layer.biases },
        ],
  );
}

/** @param values (n,), n ≥ 1; those that are not finite are left out */
export function histogramOf(values: Float32Array): Histogram {
  let min = Infinity;
  let max = -Infinity;
  let count = 0;
  let sum = 0;
  let sumOfSquares = 0;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < min) min = value;
    if (value > max) max = value;
    count++;
    sum += value;
    sumOfSquares += value * value;
  }
  if (count === 0) {
    return { min: 0, max: 0, count, sum, sumOfSquares, limits: [0], counts: [0] };
  }
  const width = (max - min) / NUM_BUCKETS;
  if (width === 0) return { min, max, count, sum, sumOfSquares, limits: [max], counts: [count] };
  const counts = new Array<number>(NUM_BUCKETS).fill(0);
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    counts[Math.min(NUM_BUCKETS - 1, Math.floor((value - min) / width))]++;
  }
  const limits = counts.map((_, bucket) =>
    bucket === NUM_BUCKETS - 1 ? max : min + (bucket + 1) * width,
  );
  return { min, max, count, sum, sumOfSquares, limits, counts };
}

function addScalar(summary: ProtoWriter, tag: string, value: number): void {
  summary.message(1, (entry) => {
    entry.string(1, tag);
    entry.float(2, value);
  });
}

function addHistogram(summary: ProtoWriter, tag: string, histogram: Histogram): void {
  summary.message(1, (entry) => {
    entry.string(1, tag);
    entry.message(5, (histo) => {
      histo.double(1, histogram.min);
      histo.double(2, histogram.max);
      histo.double(3, histogram.count);
      histo.double(4, histogram.sum);
      histo.double(5, histogram.sumOfSquares);
      histo.doubles(6, histogram.limits);
      histo.doubles(7, histogram.counts);
    });
  });
}

/** An Event: when, at which step, and what. */
function encodeEvent(timeMs: number, step: number, what: (event: ProtoWriter) => void): Uint8Array {
  writer.clear();
  writer.double(1, timeMs / 1000);
  writer.integer(2, step);
  what(writer);
  return writer.bytes();
}

/** One for all events, as each is copied out before the next begins. */
const writer = new ProtoWriter();

/**
 * A run read from its directory: config.json, metrics.jsonl, result.json and the last checkpoint, replayed as events. The
 * files are untrusted: malformed lines are skipped and counted.
 */
import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { modelOf, readLatestCheckpoint, type Checkpoint } from '../../model/checkpoint.js';
import type { Split } from '../../model/data/dataset.js';
import { loadTestSet } from '../../model/data/load.js';
import { buildModel, DIGITS, imageBytes, MNIST, type InputShape } from '../../model/lenet.js';
import type { SimdEngine } from '../../model/engine/simd/engine.js';
import { createSimdEngine } from '../../model/engine/simd/node.js';
import type { RunConfig } from '../../shared/config.js';
import { UserError, messageOf } from '../../shared/errors.js';
import { linesOf } from '../../shared/node/input-file.js';
import { fileStorage } from '../../shared/node/storage.js';
import type { RunEvent, RunResult } from '../events.js';
import {
  eventOfLine,
  MAX_LINE_BYTES,
  parseLine,
  startOf,
  type MetricsLine,
} from './metrics-line.js';
import { readRunConfig } from './run-directory.js';
import { isOutdated, readResult } from './run-result.js';

const NUM_TRAIN_OF_MNIST = 60_000;
/** About 100,000 steps of one or two workers, 14,000 of 32. */
const MAX_REPLAYED_BYTES = 64 * 1024 * 1024;
const EVALUATION_CHUNK = 1000;

/** The images of a run's dataset. */
interface DataDescription {
  readonly input: InputShape;
  readonly classNames: readonly string[];
}

export interface StoredRun {
  readonly name: string;
  readonly checkpointsPath: string;
  /** Null if there is no valid checkpoint. */
  readonly engine: SimdEngine | null;
  /** Replays the run's events, in order, to an observer. */
  replay(observe: (event: RunEvent) => void): Promise<void>;
}

export interface StoredRunOptions {
  /** Called with a sentence about anything that could not be used. */
  readonly warn: (message: string) => void;
  /** Where the test images are, if the run's dataset is not one that comes with Lockstep. */
  readonly dataset?: string | null;
}

/**
 * @param dir the run's directory
 * @throws {UserError} if there is no run in it
 */
export async function openStoredRun(
  dir: string,
  { warn, dataset = null }: StoredRunOptions,
): Promise<StoredRun> {
  const name = basename(resolve(dir));
  const config = await readConfig(dir);
  const metrics = join(dir, 'metrics.jsonl');
  const stored = await readLatestCheckpoint(fileStorage, join(dir, 'checkpoints'), warn);
  const checkpoint = stored?.checkpoint ?? null;
  const end = await readResult(join(dir, 'result.json'), warn);
  const result = end && isOutdated(end, config, checkpoint?.globalStep ?? null) ? null : end;
  const engine = checkpoint && engineOf(checkpoint);
  return {
    name,
    checkpointsPath: join(dir, 'checkpoints'),
    engine,
    async replay(observe) {
      const shape = await scan(metrics);
      if (shape.numBad > 0) warn(`Skipped ${shape.numBad} malformed lines of ${metrics}`);
      observe(startedEvent(name, config, checkpoint ?? UNKNOWN_DATA, shape, result));
      const seen = new Set<string>();
      for await (const line of readLines(metrics)) {
        if (line) for (const event of eventsOf(line, seen, result)) observe(event);
      }
      const test = checkpoint && (await testSetOf(config, checkpoint, dataset, warn));
      if (checkpoint && engine && test) observe(evaluate(checkpoint, engine, test, shape.endedAt));
      for (const workerId of seen) observe(leftEvent(workerId, shape.endedAt));
      if (result) observe({ type: 'finished', time: shape.endedAt, result });
    },
  };
}

/**
 * Replays the earlier part of a resumed run to an observer: its metrics, not its pictures. Skips a file so large that it
 * would delay the run by more than a few seconds.
 *
 * @returns whether the history was replayed
 */
export async function replayMetrics(
  path: string,
  name: string,
  config: RunConfig,
  data: DataDescription,
  observe: (event: RunEvent) => void,
): Promise<boolean> {
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size > MAX_REPLAYED_BYTES) return false;
  const seen = new Set<string>();
  let endedAt: number | null = null;
  for await (const line of readLines(path)) {
    if (!line) continue;
    if (endedAt === null) {
      // The unknown numbers follow with the `started` event of the resumed run.
      const unknown = { numTrain: 0, numTest: 0, numValidation: 0, stepsPerEpoch: 1, numBad: 0 };
      const startedAt = startOf(line);
      observe(
        startedEvent(name, config, data, { ...unknown, startedAt, endedAt: startedAt }, null),
      );
    }
    endedAt = line.timestamp;
    for (const event of eventsOf(line, seen, null)) observe(event);
  }
  for (const workerId of seen) observe(leftEvent(workerId, endedAt ?? 0));
  return true;
}

async function readConfig(dir: string): Promise<RunConfig> {
  const path = join(dir, 'config.json');
  try {
    return await readRunConfig(path);
  } catch (error) {
    throw new UserError(`Cannot show ${dir}: it contains no run (${path}: ${messageOf(error)})`, {
      cause: error,
    });
  }
}

/** Facts about the whole run, gathered from its lines. */
interface RunShape {
  readonly numTrain: number;
  readonly numTest: number;
  readonly numValidation: number;
  readonly stepsPerEpoch: number;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly numBad: number;
}

async function scan(path: string): Promise<RunShape> {
  let [numTrain, numTest, numValidation, stepsPerEpoch] = [0, 0, 0, 0];
  let [startedAt, endedAt, numBad] = [0, 0, 0];
  for await (const line of readLines(path)) {
    if (!line) {
      numBad += 1;
      continue;
    }
    if (startedAt === 0) startedAt = startOf(line);
    endedAt = line.timestamp;
    if (line.type === 'step' && line.epoch === 0) {
      stepsPerEpoch += 1;
      numTrain += line.numImages;
    } else if (line.type === 'evaluation') {
      if (line.set === 'test') numTest = line.numImages;
      else numValidation = line.numImages;
    }
  }
  stepsPerEpoch = Math.max(1, stepsPerEpoch);
  return { numTrain, numTest, numValidation, stepsPerEpoch, startedAt, endedAt, numBad };
}

/** The lines of the file, null for each malformed one; nothing if there is no file. */
async function* readLines(path: string): AsyncGenerator<MetricsLine | null> {
  try {
    for await (const line of linesOf(path, MAX_LINE_BYTES)) {
      yield line && parseLine(line.toString());
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

function startedEvent(
  name: string,
  config: RunConfig,
  { input, classNames }: DataDescription,
  shape: RunShape,
  result: RunResult | null,
): RunEvent {
  const { numTrain, numTest, numValidation, stepsPerEpoch, startedAt } = shape;
  // An unfinished first epoch does not tell how many steps an epoch has, but for a dataset whose size is known.
  const isWhole = (result?.epochs ?? 0) >= 1;
  const seen = Math.max(stepsPerEpoch, result?.globalStep ?? 0);
  const known = config.dataset === 'mnist' ? stepsPerEpochOfMnist(config) : seen;
  const perEpoch = isWhole ? stepsPerEpoch : known;
  return {
    type: 'started',
    time: startedAt,
    runId: name,
    name,
    config,
    input,
    classNames,
    numParams: numParamsOf(config, { input, classNames }),
    numTrain,
    numValidation,
    numTest,
    stepsPerEpoch: perEpoch,
    totalSteps: perEpoch * config.epochs,
    globalStep: 0,
    isResumed: false,
    secondsBefore: 0,
    params: null,
  };
}

function stepsPerEpochOfMnist({ validationSize, batchSize }: RunConfig): number {
  return Math.ceil((NUM_TRAIN_OF_MNIST - validationSize) / batchSize);
}

/** 0 if there is no such model: then the data are a guess, or the run never began. */
function numParamsOf({ hyperparameters }: RunConfig, data: DataDescription): number {
  try {
    const { input, classNames } = data;
    return buildModel(hyperparameters, { input, numClasses: classNames.length }).numParams;
  } catch (error) {
    if (error instanceof RangeError) return 0;
    throw error;
  }
}

/** A guess for runs without a checkpoint, which have no images to show either. */
const UNKNOWN_DATA: DataDescription = { input: MNIST.input, classNames: DIGITS };

/** The events of a line; a worker joins at the first step that it took part in. */
function* eventsOf(
  line: MetricsLine,
  seen: Set<string>,
  result: RunResult | null,
): Generator<RunEvent> {
  if (line.type === 'step') {
    for (const { workerId, name } of line.workers) {
      if (seen.has(workerId)) continue;
      seen.add(workerId);
      const known = result?.workers.find((worker) => worker.workerId === workerId);
      yield {
        type: 'workerJoined',
        time: startOf(line),
        workerId,
        name,
        host: '',
        engine: known?.engine ?? 'unknown',
        device: known?.device ?? '',
        isExact: known?.isExact ?? true,
        worldSize: line.worldSize,
        isReturn: false,
      };
    }
  }
  yield eventOfLine(line);
}

function leftEvent(workerId: string, endedAt: number): RunEvent {
  return {
    type: 'workerLost',
    time: endedAt,
    workerId,
    name: workerId,
    worldSize: 0,
    isGraceful: true,
    phase: 'waiting',
    lastSeen: endedAt,
    message: '',
  };
}

function engineOf(checkpoint: Checkpoint): SimdEngine {
  const engine = createSimdEngine(modelOf(checkpoint), { numGradients: 0 });
  engine.setParams(checkpoint.params);
  return engine;
}

async function testSetOf(
  config: RunConfig,
  checkpoint: Checkpoint,
  dataset: string | null,
  warn: (message: string) => void,
): Promise<Split | null> {
  try {
    return (await loadTestSet({ ...checkpoint, config }, dataset, {}, { warn })).test;
  } catch (error) {
    warn(`Cannot show the confusion matrix and mistakes: ${messageOf(error)}`);
    return null;
  }
}

/** Evaluates the checkpoint now. */
function evaluate(
  { params, globalStep, epoch }: Checkpoint,
  engine: SimdEngine,
  { images, labels }: Split,
  endedAt: number,
): RunEvent {
  const numImages = labels.length;
  const numBytes = imageBytes(engine.model.input);
  const predictions = new Uint16Array(numImages);
  let [lossSum, numCorrect] = [0, 0];
  for (let from = 0; from < numImages; from += EVALUATION_CHUNK) {
    const to = Math.min(numImages, from + EVALUATION_CHUNK);
    const chunk = images.subarray(numBytes * from, numBytes * to);
    const part = engine.evaluate(chunk, labels.subarray(from, to));
    predictions.set(part.predictions, from);
    lossSum += part.lossSum;
    numCorrect += part.numCorrect;
  }
  return {
    type: 'evaluation',
    time: endedAt,
    set: 'test',
    globalStep,
    epoch,
    loss: lossSum / numImages,
    accuracy: numCorrect / numImages,
    seconds: 0,
    numImages,
    predictions,
    labels,
    images,
    params,
  };
}

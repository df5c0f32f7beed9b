/**
 * metrics.jsonl: one line a step and one an evaluation, flat but for the list of workers, so that pandas and DuckDB
 * read it as it is. The names are stable; docs/monitoring.md documents each.
 */
import { truncate } from 'node:fs/promises';
import * as z from 'zod';
import { parseJson } from '../../shared/json.js';
import { createAppendFile } from '../../shared/node/append-file.js';
import { linesOf } from '../../shared/node/input-file.js';
import type { EvaluationDone, Observer, StepDone } from '../events.js';

/** Of one line: that of a step of a thousand workers has a quarter of a megabyte. */
export const MAX_LINE_BYTES = 2 ** 20;
const NEWLINE = 10;

export interface MetricsFile {
  readonly observe: Observer;
  /** Resolves when all lines so far are with the operating system: before a checkpoint, so that none is missing. */
  flush(): Promise<void>;
  /** Flushes and closes. Does not reject. */
  close(): Promise<void>;
  /** Lines lost to a full disk. */
  readonly numDropped: number;
}

export interface MetricsFileOptions {
  /** Told when the disk does not take the lines, and when it does again. */
  readonly warn: (message: string) => void;
  /**
   * The first step to come of a resumed run: lines of later updates are removed, since those steps will be done
   * again. Without it the file begins anew.
   */
  readonly truncateToStep?: number;
}

/**
 * @throws {Error} of the file system, if an existing file cannot be read or cut
 */
export async function createMetricsFile(
  path: string,
  options: MetricsFileOptions,
): Promise<MetricsFile> {
  const { warn, truncateToStep } = options;
  if (truncateToStep !== undefined) await cutMetrics(path, truncateToStep);
  const file = createAppendFile(path, { warn, truncate: truncateToStep === undefined });
  return {
    observe(event) {
      if (event.type === 'step') file.append(`${JSON.stringify(stepLine(event))}\n`);
      if (event.type === 'evaluation') file.append(`${JSON.stringify(evaluationLine(event))}\n`);
    },
    flush: () => file.flush(),
    close: () => file.close(),
    get numDropped() {
      return file.numDropped;
    },
  };
}

function stepLine(event: StepDone) {
  const { globalStep, epoch, loss, accuracy, learningRate, numImages, worldSize, times } = event;
  return {
    type: 'step',
    timestamp: isoTime(event.time),
    globalStep,
    epoch,
    loss,
    accuracy,
    learningRate,
    numImages,
    imagesPerSecond: rounded((1000 * numImages) / times.totalMs),
    worldSize,
    totalMs: rounded(times.totalMs),
    planMs: rounded(times.planMs),
    broadcastMs: rounded(times.broadcastMs),
    computeMs: rounded(times.computeMs),
    wireMs: rounded(times.wireMs),
    reduceMs: rounded(times.reduceMs),
    updateMs: rounded(times.updateMs),
    waitMs: rounded(times.waitMs),
    workers: event.workers.map((worker) => ({
      workerId: worker.workerId,
      name: worker.name,
      numMicroBatches: worker.numMicroBatches,
      numImages: worker.numImages,
      share: rounded(worker.numImages / numImages),
      computeMs: rounded(worker.computeMs),
      roundTripMs: rounded(worker.roundTripMs),
    })),
  };
}

function evaluationLine(event: EvaluationDone) {
  const { set, globalStep, epoch, loss, accuracy, numImages, seconds } = event;
  return {
    type: 'evaluation',
    timestamp: isoTime(event.time),
    globalStep,
    epoch,
    set,
    loss,
    accuracy,
    numImages,
    seconds: rounded(seconds),
  };
}

function isoTime(time: number): string {
  return new Date(time).toISOString();
}

/** Microseconds are enough for a time in ms, and halve the file. */
function rounded(value: number): number {
  return Math.round(1000 * value) / 1000;
}

const lineSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('step'), globalStep: z.number().int().min(0) }),
  z.object({ type: z.literal('evaluation'), globalStep: z.number().int().min(0) }),
]);

/**
 * Cuts the file before the first line of an update that a run resumed at `globalStep` will make again: lines stand in
 * the order of updates. A line that cannot be read, such as one torn when the coordinator died, is cut off likewise.
 */
async function cutMetrics(path: string, globalStep: number): Promise<void> {
  let keptBytes = 0;
  try {
    for await (const line of linesOf(path, MAX_LINE_BYTES)) {
      const updates = line?.at(-1) === NEWLINE ? updatesBefore(line) : null;
      if (line === null || updates === null || updates > globalStep) break;
      keptBytes += line.length;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  await truncate(path, keptBytes);
}

/** Updates that had been made when the line was written; null if it is no line of ours. */
function updatesBefore(line: Buffer): number | null {
  try {
    const { type, globalStep } = lineSchema.parse(parseJson(line.toString()));
    return type === 'step' ? globalStep + 1 : globalStep;
  } catch {
    return null;
  }
}

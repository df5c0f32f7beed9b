/**
 * A line of metrics.jsonl, for writer and reader: one per step and per evaluation, flat except for the list of workers, so
 * that pandas and DuckDB can read it directly. The names are stable; docs/monitoring.md documents each.
 */
import * as z from 'zod';
import { parseJson } from '../../shared/json.js';
import type { EvaluationDone, StepDone } from '../events.js';

/** Limit per line: a step with a thousand workers takes a quarter of a megabyte. */
export const MAX_LINE_BYTES = 2 ** 20;

export const evaluationSet = z.enum(['validation', 'test']);

const count = z.number().int().min(0);
/** JSON has no NaN; it is written as null. */
const figure = z
  .number()
  .nullable()
  .transform((value) => value ?? NaN);
const timestamp = z.iso.datetime().transform((text) => Date.parse(text));

const stepSchema = z.object({
  type: z.literal('step'),
  timestamp,
  globalStep: count,
  epoch: count,
  loss: figure,
  accuracy: figure,
  learningRate: figure,
  numImages: count,
  imagesPerSecond: figure.optional(),
  worldSize: count,
  totalMs: z.number(),
  planMs: z.number(),
  broadcastMs: z.number(),
  computeMs: z.number(),
  wireMs: z.number(),
  reduceMs: z.number(),
  updateMs: z.number(),
  waitMs: z.number(),
  workers: z
    .array(
      z.object({
        workerId: z.string(),
        name: z.string(),
        numMicroBatches: count,
        numImages: count,
        share: figure.optional(),
        computeMs: z.number(),
        roundTripMs: z.number(),
      }),
    )
    .default([]),
});
const evaluationSchema = z.object({
  type: z.literal('evaluation'),
  timestamp,
  globalStep: count,
  epoch: count,
  set: evaluationSet,
  loss: figure,
  accuracy: figure,
  numImages: count,
  seconds: z.number(),
});
const lineSchema = z.discriminatedUnion('type', [stepSchema, evaluationSchema]);
export type MetricsLine = z.output<typeof lineSchema>;

/** The event's line, with a newline. */
export function textOfLine(event: StepDone | EvaluationDone): string {
  const line: z.input<typeof lineSchema> =
    event.type === 'step' ? stepLine(event) : evaluationLine(event);
  return `${JSON.stringify(line)}\n`;
}

function stepLine(event: StepDone): z.input<typeof stepSchema> {
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

function evaluationLine(event: EvaluationDone): z.input<typeof evaluationSchema> {
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

/** Three decimals are enough, and halve the file. */
function rounded(value: number): number {
  return Math.round(1000 * value) / 1000;
}

/** Null for a malformed line. */
export function parseLine(text: string): MetricsLine | null {
  return parsed(lineSchema, text);
}

const placeSchema = z.discriminatedUnion('type', [
  stepSchema.pick({ type: true, globalStep: true }),
  evaluationSchema.pick({ type: true, globalStep: true }),
]);

/** What the line is about, and the number of updates made when it was written; null for a malformed line. */
export function placeOf(
  text: string,
): { readonly type: 'step' | 'evaluation'; readonly numUpdates: number } | null {
  const place = parsed(placeSchema, text);
  if (place === null) return null;
  const { type, globalStep } = place;
  return { type, numUpdates: type === 'step' ? globalStep + 1 : globalStep };
}

function parsed<T>(schema: z.ZodType<T>, text: string): T | null {
  try {
    return schema.parse(parseJson(text));
  } catch {
    return null;
  }
}

/** When the line's step or evaluation began, ms since 1970. */
export function startOf(line: MetricsLine): number {
  return line.timestamp - (line.type === 'step' ? line.totalMs : 1000 * line.seconds);
}

const NO_PARAMS = new Float32Array();
const NO_BYTES = new Uint8Array();
const NO_CLASSES = new Uint16Array();

/** The event that the line was written for, without what is not in the line: parameters, images, partials. */
export function eventOfLine(line: MetricsLine): StepDone | EvaluationDone {
  if (line.type === 'evaluation') {
    const { timestamp: time, ...evaluation } = line;
    return {
      ...evaluation,
      time,
      predictions: NO_CLASSES,
      labels: NO_CLASSES,
      images: NO_BYTES,
      params: NO_PARAMS,
    };
  }
  const { timestamp: time, ...step } = line;
  const { totalMs, planMs, broadcastMs, computeMs, wireMs, reduceMs, updateMs, waitMs, ...rest } =
    step;
  return {
    ...rest,
    time,
    times: { totalMs, planMs, broadcastMs, computeMs, wireMs, reduceMs, updateMs, waitMs },
    queuedBytes: new Map(),
    startedAt: startOf(line),
    partials: [],
    params: NO_PARAMS,
  };
}

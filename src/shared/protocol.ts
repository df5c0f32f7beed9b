/**
 * The messages between worker and coordinator, and their schemas.
 *
 * A frame is one msgpack map with a string `type`, followed by the bytes of its longest field. Arrays of numbers are sent
 * as little-endian bytes. All checks that need only the message itself are made here: types, fields, ranges and lengths.
 * Lengths that depend on the run (P, what was requested) are checked by the receiver of the message.
 *
 * docs/protocol.md describes the same in prose, with the order of messages.
 *
 * Shapes: P parameters, n images of a batch, V its micro-batches.
 */
import * as z from 'zod';
import {
  hyperparametersSchema,
  inputShapeSchema,
  numClassesSchema,
  regularizationSchema,
} from './config.js';

/** Raised whenever a message changes; both sides must agree. */
export const PROTOCOL_VERSION = 6;

/** Workers that a relay may say it stands for. */
export const MAX_WORKERS_BEHIND = 65_536;
/** Addresses that a welcome may name besides the one it comes from. */
export const MAX_ALTERNATES = 8;

/** Images of a run, for training, validation and testing together. */
export const MAX_SAMPLES = 2_000_000;

/** Bytes of a frame besides the parameters, samples or predictions it carries. */
const FRAME_OVERHEAD_BYTES = 64 * 1024;

/**
 * The longest frame that an honest worker sends, bytes: a gradient, or an evaluation of as many images as there are, which
 * is longer than the list of those that it has.
 */
export function longestFrameBytes(
  numParams: number,
  numSamples: number,
  evaluationBlock: number,
): number {
  const evaluationBytes = 2 * numSamples + 4 * Math.ceil(numSamples / evaluationBlock);
  return Math.max(4 * numParams, evaluationBytes) + FRAME_OVERHEAD_BYTES;
}

const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, {
  error: 'expected bytes',
});
const count = z.number().int().min(0).max(0xffff_ffff);
/** Milliseconds since the Unix epoch, by the sender's clock. */
const time = z.number().min(0).max(1e15);
/** Milliseconds; nothing here takes longer than a day. */
const duration = z.number().min(0).max(86_400_000);
/** NaN and Inf among them: they are judged, not refused. */
const float = z.custom<number>((value) => typeof value === 'number', {
  error: 'expected a number',
});
/** Images over all epochs. */
const imageTotal = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const name = z.string().min(1).max(200);
/** 256 bits, hexadecimal. */
const secret = z.string().regex(/^[0-9a-f]{64}$/);
const workerId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/);
const rangeSchema = z
  .tuple([count, count])
  .refine(([lo, hi]) => lo < hi, { error: 'an empty or reversed range' });
const setSchema = z.enum(['validation', 'test']);

/** The units `[lo, hi)` of a round: micro-batches of a step, blocks of an evaluation. */
export type Range = readonly [lo: number, hi: number];
/** Which images an evaluation is about. */
export type EvaluationSet = z.infer<typeof setSchema>;

const hello = z.strictObject({
  type: z.literal('hello'),
  protocolVersion: count,
  /** From an earlier welcome; null for a worker that is new. */
  workerId: workerId.nullable(),
  /** That came with the id: nobody else may use it. */
  secret: secret.nullable(),
  token: z.string().max(1000).nullable(),
  engine: name,
  name,
  host: name,
  /** Of which data set `cached` speaks; null when nothing is cached. */
  datasetId: name.nullable(),
  /** Bit i (of byte ⌊i/8⌋, from the lowest) is set if sample i is cached. */
  cached: bytes,
  /** Pings are to tell how the run is going, for a worker that has someone to show it to. */
  wantsProgress: z.boolean().optional(),
});

/** After the welcome: the engine is built, and this is what it makes of the known micro-batch. */
const ready = z.strictObject({
  type: z.literal('ready'),
  fingerprint: name,
  device: name,
  /** (P,) float32, gradient of the proof's micro-batch */
  proof: bytes,
});

/** A slice of a partial's gradient; the last one is the partial's own. */
const gradientSlice = z.strictObject({
  type: z.literal('gradientSlice'),
  globalStep: count,
  range: rangeSchema,
  /** Where in the gradient it begins. */
  first: count,
  /** float32 */
  values: bytes,
});

const partial = z.strictObject({
  type: z.literal('partial'),
  globalStep: count,
  range: rangeSchema,
  /** (P,) float32, or the last slice of it */
  gradient: bytes,
  lossSum: float,
  numCorrect: count,
  /** Images that the sum is over. */
  numImages: count,
  /** By the worker's clock, when it began with the range. */
  startedAt: time,
  computeMs: duration,
});

const evaluation = z.strictObject({
  type: z.literal('evaluation'),
  globalStep: count,
  set: setSchema,
  range: rangeSchema,
  /** (hi − lo,) float32, one a block */
  lossSums: bytes,
  /** (images of the range,) uint16 */
  predictions: bytes,
  computeMs: duration,
});

const pong = z.strictObject({
  type: z.literal('pong'),
  /** As the ping had it. */
  sentAt: time,
  /** The worker's clock as it answered. */
  workerTime: time,
  /** Workers behind it, where it is a relay. */
  numWorkers: count.max(MAX_WORKERS_BEHIND).optional(),
  /** Of a worker in a browser: whether its page is out of sight. */
  isHidden: z.boolean().optional(),
});

/** The worker is going; whatever it has not sent yet is for the others. */
const leave = z.strictObject({ type: z.literal('leave') });

/** Images of one micro-batch or one block of an evaluation. */
const unitSize = count.min(1).max(4096);

const welcome = z.strictObject({
  type: z.literal('welcome'),
  workerId,
  /** Makes the id the worker's own; given back with it in the next hello. */
  secret,
  runId: name,
  hyperparameters: hyperparametersSchema,
  /** Of every image of the data set, and of how many classes one is. */
  input: inputShapeSchema,
  numClasses: numClassesSchema,
  regularization: regularizationSchema,
  microBatch: unitSize,
  /** Images of one unit of an evaluation. */
  evaluationBlock: unitSize,
  numParams: count.min(1),
  /** Values of a slice of θ, and of a gradient: `numParams` where they travel as a whole. */
  sliceValues: count.min(1),
  datasetId: name,
  /** Training, validation and test images together. */
  numSamples: count.min(1).max(MAX_SAMPLES),
  /** Seeds the micro-batch of the proof. */
  proofSeed: count,
  /** Silence after which either side takes the other for gone. */
  heartbeatTimeoutMs: duration.min(100),
  /** Join lines, without a token, of others that serve this run: for when the one that sends this is gone. */
  alternates: z.array(z.string().max(1000)).max(MAX_ALTERNATES),
});

/** What a worker has not been sent yet; before the step that needs it. */
const samples = z.strictObject({
  type: z.literal('samples'),
  /** (n,) uint32 */
  indices: bytes,
  /** (n,) uint16 */
  labels: bytes,
  /** (n, C, H, W) of the welcome's `input` */
  pixels: bytes,
});

/** What one worker is asked for, besides what it was asked for in this round before. */
const ranges = z.array(rangeSchema).min(1).max(100_000);

/** A slice of θ; the last one comes with the step, or the evaluation, that all of them are for. */
const paramsSlice = z.strictObject({
  type: z.literal('paramsSlice'),
  /** Of that step, or evaluation. */
  globalStep: count,
  /** Where in θ it begins; 0 begins a new θ. */
  first: count,
  /** float32 */
  values: bytes,
});

const step = z.strictObject({
  type: z.literal('step'),
  globalStep: count,
  /** Which pass over the training set it belongs to: images are changed anew in each. */
  epoch: count,
  /** (P,) float32, or the last slice of it; null where the worker has the parameters of this step already. */
  params: bytes.nullable(),
  /** Of the whole batch. */
  numImages: count.min(1),
  /** Micro-batches. */
  ranges,
  /** uint32 sample indices of these ranges' images, one range after the other. */
  indices: bytes,
});

const evaluate = z.strictObject({
  type: z.literal('evaluate'),
  globalStep: count,
  set: setSchema,
  params: bytes.nullable(),
  /** The images are samples [first, first + numImages), cut into blocks of `evaluationBlock`. */
  first: count,
  numImages: count.min(1),
  ranges,
});

/** How the run is going, for those who asked for it in their hello. */
const progressSchema = z.strictObject({
  /** Updates made, and to be made: epochs that a run may never come to are counted, too. */
  globalStep: count,
  totalSteps: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  /** Of the last evaluation on the test set; null before the first. */
  testAccuracy: z.number().min(0).max(1).nullable(),
  /** Training images that updates have used, of this worker and of all. */
  numImages: imageTotal,
  numImagesOfAll: imageTotal,
});
export type RunProgress = z.infer<typeof progressSchema>;

const ping = z.strictObject({
  type: z.literal('ping'),
  sentAt: time,
  progress: progressSchema.optional(),
});

/** The run is over or suspended; the reason is for people. */
const finished = z.strictObject({
  type: z.literal('finished'),
  /** False where the coordinator means to come back. */
  isFinal: z.boolean(),
  reason: z.string().max(1000),
});

/** The worker is not wanted; it should not come back before `retryAfterMs`, or ever if null. */
const refused = z.strictObject({
  type: z.literal('refused'),
  reason: z.string().max(1000),
  retryAfterMs: duration.nullable(),
});

export const workerMessageSchema = z.discriminatedUnion('type', [
  hello,
  ready,
  gradientSlice,
  partial,
  evaluation,
  pong,
  leave,
]);
export const coordinatorMessageSchema = z.discriminatedUnion('type', [
  welcome,
  samples,
  paramsSlice,
  step,
  evaluate,
  ping,
  finished,
  refused,
]);

/** What a worker may send. */
export type WorkerMessage = z.infer<typeof workerMessageSchema>;
/** What the coordinator may send. */
export type CoordinatorMessage = z.infer<typeof coordinatorMessageSchema>;
export type Message<Type extends (WorkerMessage | CoordinatorMessage)['type']> = Extract<
  WorkerMessage | CoordinatorMessage,
  { type: Type }
>;

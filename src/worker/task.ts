/** A worker's work in one step or evaluation, as given to its computation. */
import { uint32From } from '../shared/codec.js';
import { ProtocolError } from '../shared/errors.js';
import type { EvaluationSet, Message, Range } from '../shared/protocol.js';

/** Work under one θ: micro-batches of a step, or blocks of an evaluation. */
export type Task = StepTask | EvaluationTask;

interface TaskBase {
  readonly globalStep: number;
  /** θ (P,); unchanged until the signal aborts. */
  readonly params: Float32Array;
  readonly numUnits: number;
  /** Images per unit; the last may have fewer. */
  readonly unitSize: number;
  /** Ranges of units not started yet; more may be added while the task runs. */
  readonly ranges: Range[];
  /** Aborts when the task is superseded: the rest of it is no longer needed. */
  readonly signal: AbortSignal;
}

export interface StepTask extends TaskBase {
  readonly kind: 'step';
  readonly epoch: number;
  /** (n,) sample indices of the whole batch, known for the units that were asked for. */
  readonly indices: Uint32Array;
}

export interface EvaluationTask extends TaskBase {
  readonly kind: 'evaluation';
  readonly set: EvaluationSet;
  /** The images are samples [first, first + numImages). */
  readonly first: number;
  readonly numImages: number;
}

/**
 * The task described by the message, without any ranges yet.
 *
 * @param params θ (P,)  @param signal aborts when the task is superseded
 * @throws {ProtocolError} `malformed` if it refers to samples that do not exist
 */
export function taskOf(
  message: Message<'step'> | Message<'evaluate'>,
  { microBatch, evaluationBlock, numSamples }: Message<'welcome'>,
  params: Float32Array,
  signal: AbortSignal,
): Task {
  const base = { globalStep: message.globalStep, params, signal, ranges: [] };
  if (message.type === 'step') {
    const { epoch, numImages } = message;
    if (numImages > numSamples) {
      throw new ProtocolError(
        'malformed',
        `A batch of ${numImages} images, there are ${numSamples}`,
      );
    }
    const numUnits = Math.ceil(numImages / microBatch);
    const indices = new Uint32Array(numImages);
    return { ...base, kind: 'step', epoch, numUnits, unitSize: microBatch, indices };
  }
  const { set, first, numImages } = message;
  if (first + numImages > numSamples) {
    const last = first + numImages;
    throw new ProtocolError('malformed', `Evaluation of samples up to ${last} of ${numSamples}`);
  }
  const numUnits = Math.ceil(numImages / evaluationBlock);
  const unitSize = evaluationBlock;
  return { ...base, kind: 'evaluation', numUnits, unitSize, set, first, numImages };
}

/**
 * Adds the ranges that the message asks for, and a step's samples of them.
 *
 * @throws {ProtocolError} `malformed` if there are no such units, more ranges than units, or not as many samples
 */
export function addRanges(task: Task, message: Message<'step'> | Message<'evaluate'>): void {
  const { numUnits } = task;
  const wrong = message.ranges.find(([, hi]) => hi > numUnits);
  if (wrong) {
    throw new ProtocolError('malformed', `Work on [${wrong.join(', ')}) of ${numUnits}`);
  }
  if (task.ranges.length + message.ranges.length > numUnits) {
    throw new ProtocolError('malformed', `More ranges than the ${numUnits} units`);
  }
  if (task.kind === 'step' && message.type === 'step') {
    const places = message.ranges.map((range) => indicesOf(task, range));
    const numImages = places.reduce((sum, { length }) => sum + length, 0);
    const indices = uint32From(message.indices, 'indices', numImages);
    let from = 0;
    for (const place of places) {
      place.set(indices.subarray(from, from + place.length));
      from += place.length;
    }
  }
  // Not spread: there may be more than a call takes arguments.
  for (const range of message.ranges) task.ranges.push(range);
}

/** The sample indices of a range of units. */
export function indicesOf(task: Task, [lo, hi]: Range): Uint32Array {
  const begin = lo * task.unitSize;
  if (task.kind === 'step') return task.indices.subarray(begin, hi * task.unitSize);
  const length = Math.min(hi * task.unitSize, task.numImages) - begin;
  return Uint32Array.from({ length }, (_, i) => task.first + begin + i);
}

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
  /** (n,) sample indices of the whole batch. */
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
    const indices = uint32From(message.indices, 'indices');
    const numUnits = Math.ceil(indices.length / microBatch);
    const { epoch } = message;
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

/** The sample indices of a range of units. */
export function indicesOf(task: Task, [lo, hi]: Range): Uint32Array {
  const begin = lo * task.unitSize;
  if (task.kind === 'step') return task.indices.subarray(begin, hi * task.unitSize);
  const length = Math.min(hi * task.unitSize, task.numImages) - begin;
  return Uint32Array.from({ length }, (_, i) => task.first + begin + i);
}

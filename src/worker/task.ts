/** What a step or an evaluation asks of a worker, as its computation is told. */
import { uint32From } from '../shared/codec.js';
import { ProtocolError } from '../shared/errors.js';
import type { EvaluationSet, Message, Range } from '../shared/protocol.js';

/** Work under one θ: micro-batches of a step, or blocks of an evaluation. */
export type Task = StepTask | EvaluationTask;

interface TaskBase {
  readonly globalStep: number;
  /** θ (P,); does not change before the signal aborts. */
  readonly params: Float32Array;
  readonly numUnits: number;
  /** Images of one unit; the last may have fewer. */
  readonly unitSize: number;
  /** Ranges of units that are not begun; more may come while the task runs. */
  readonly ranges: Range[];
  /** Aborts once the task is superseded: what is left of it is of no use. */
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
 * What the message asks for, with no range of it yet.
 *
 * @param params θ (P,)  @param signal aborts once the task is superseded
 * @throws {ProtocolError} `malformed` if it asks for samples that there are not
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

/** Sample indices of a range of a task's units. */
export function indicesOf(task: Task, [lo, hi]: Range): Uint32Array {
  const begin = lo * task.unitSize;
  if (task.kind === 'step') return task.indices.subarray(begin, hi * task.unitSize);
  const length = Math.min(hi * task.unitSize, task.numImages) - begin;
  return Uint32Array.from({ length }, (_, i) => task.first + begin + i);
}

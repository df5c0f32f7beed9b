/** Sends a computation's results to the coordinator. */
import { bytesOf } from '../shared/codec.js';
import type { Range, WorkerMessage } from '../shared/protocol.js';
import { sliceOf, type Slices } from '../shared/slices.js';
import type { Answers } from './computation.js';
import type { EvaluationTask, Task } from './task.js';

/** @param send calls `left`, if given, once the message's memory may change */
export function answersTo(
  task: Task,
  slices: Slices,
  send: (message: WorkerMessage, left?: () => void) => void,
): Answers {
  const { globalStep } = task;
  return {
    partial([lo, hi], { gradient, lossSum, numCorrect, numImages }, timing) {
      const base = { globalStep, range: [lo, hi] as [number, number] };
      const part = (slice: Range) => bytesOf(sliceOf(gradient, slice));
      for (const slice of slices.early) {
        send({ type: 'gradientSlice', ...base, first: slice[0], values: part(slice) });
      }
      const values = { gradient: part(slices.last), lossSum, numCorrect, numImages };
      // Messages leave in order, so the last one covers them all.
      return new Promise((left) => send({ type: 'partial', ...base, ...values, ...timing }, left));
    },
    evaluation: ([lo, hi], lossSums, predictions, { computeMs }) =>
      send({
        type: 'evaluation',
        globalStep,
        set: (task as EvaluationTask).set,
        range: [lo, hi],
        lossSums: bytesOf(lossSums),
        predictions: bytesOf(predictions),
        computeMs,
      }),
  };
}

/** What is told of a step that was made: who did what of it, and where its time went. */
import type { StepDone, StepTimes } from './events.js';
import type { RoundTimes } from './round/dispatcher.js';
import type { StepPartial, StepWork } from './round/work.js';

/** What the coordinator knows of a step, beside its work and its round; times in ms on the coordinator's clock. */
export interface StepFigures extends Pick<
  StepDone,
  'time' | 'learningRate' | 'worldSize' | 'queuedBytes' | 'startedAt'
> {
  readonly sum: Pick<StepPartial, 'lossSum' | 'numCorrect'>;
  /** Since when it waited for workers. */
  readonly waitedFrom: number;
  readonly reduceMs: number;
  readonly updateMs: number;
}

export function stepDone(step: StepWork, round: RoundTimes, figures: StepFigures): StepDone {
  const { time, sum, learningRate, worldSize, queuedBytes, startedAt } = figures;
  const { globalStep, epoch, numImages, params } = step;
  return {
    type: 'step',
    time,
    globalStep,
    epoch,
    numImages,
    loss: sum.lossSum / numImages,
    accuracy: sum.numCorrect / numImages,
    learningRate,
    worldSize,
    times: timesOf(round, figures),
    workers: round.answers.map(({ member, computeMs, sentAt, receivedAt }) => ({
      workerId: member.workerId,
      name: member.name,
      numMicroBatches: step.credits.get(member)?.numUnits ?? 0,
      numImages: step.credits.get(member)?.numImages ?? 0,
      computeMs,
      roundTripMs: receivedAt - sentAt,
    })),
    queuedBytes,
    startedAt,
    partials: step.traces,
    params,
  };
}

/** Divides the time of a step among its parts. */
function timesOf(
  { planMs, broadcastMs, computeMs }: RoundTimes,
  { waitedFrom, startedAt, reduceMs, updateMs, time }: StepFigures,
): StepTimes {
  const waitMs = startedAt - waitedFrom;
  const roundMs = time - startedAt - reduceMs - updateMs;
  const wireMs = Math.max(0, roundMs - planMs - broadcastMs - computeMs);
  const totalMs = time - waitedFrom;
  return { totalMs, planMs, broadcastMs, computeMs, wireMs, reduceMs, updateMs, waitMs };
}

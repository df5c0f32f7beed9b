/** The confusion matrix of an evaluation, small enough to send to every page for any number of classes. */
import { confusedPairs } from '../../model/evaluation.js';
import type { EvaluationDone } from '../events.js';
import type { Confusion } from './update.js';

/** Maximum number of rows and columns; beyond that, neighbouring classes share one. */
const MAX_SIDE = 125;
const MAX_PAIRS = 50;

type Evaluated = Pick<EvaluationDone, 'set' | 'globalStep' | 'labels' | 'predictions'>;

export function confusionOf(
  { set, globalStep, labels, predictions }: Evaluated,
  numClasses: number,
): Confusion {
  const classesPerCell = Math.ceil(numClasses / MAX_SIDE);
  const side = Math.ceil(numClasses / classesPerCell);
  const cellOf = (classIndex: number) => Math.floor(classIndex / classesPerCell);
  const counts = new Array<number>(side ** 2).fill(0);
  const numByLabel = new Array<number>(numClasses).fill(0);
  const numRight = new Array<number>(numClasses).fill(0);
  labels.forEach((label, index) => {
    const predicted = predictions[index];
    counts[cellOf(label) * side + cellOf(predicted)] += 1;
    numByLabel[label] += 1;
    if (label === predicted) numRight[label] += 1;
  });
  const pairs = confusedPairs(labels, predictions).slice(0, MAX_PAIRS);
  const numImages = labels.length;
  return { set, globalStep, numImages, classesPerCell, counts, numByLabel, numRight, pairs };
}

/**
 * The quality of predictions, by class.
 */
import type { Split } from './data/dataset.js';
import type { Engine } from './engine/engine.js';
import { imageBytes } from './lenet.js';

/** Images of one call; as in a run, so that the loss has the bits that the run's log shows. */
const BLOCK = 250;

export interface ClassScore {
  readonly name: string;
  /** Images whose label it is. */
  readonly numImages: number;
  /** Of the images predicted as it, the share whose label it is; null if there are none. */
  readonly precision: number | null;
  /** Of the images whose label it is, the share predicted as it; null if there are none. */
  readonly recall: number | null;
  /** Harmonic mean of precision and recall; null if it is neither label nor prediction of any image. */
  readonly f1: number | null;
}

export interface Report {
  readonly numImages: number;
  readonly numCorrect: number;
  /** In [0, 1]. */
  readonly accuracy: number;
  /** confusion[label][prediction], in images; (numClasses, numClasses). */
  readonly confusion: readonly (readonly number[])[];
  readonly classes: readonly ClassScore[];
}

/** Mean loss and predictions of the engine's model, on n ≥ 1 images. */
export async function evaluateSplit(engine: Engine, { images, labels }: Split) {
  const numBytes = imageBytes(engine.model.input);
  const predictions = new Uint16Array(labels.length);
  let lossSum = 0;
  for (let begin = 0; begin < labels.length; begin += BLOCK) {
    const evaluation = await engine.evaluate(
      images.subarray(begin * numBytes, (begin + BLOCK) * numBytes),
      labels.subarray(begin, begin + BLOCK),
    );
    lossSum += evaluation.lossSum;
    predictions.set(evaluation.predictions, begin);
  }
  return { loss: lossSum / labels.length, predictions };
}

/**
 * @param labels (n,) classes; n ≥ 1
 * @param predictions (n,) classes
 * @param classNames (numClasses,)
 * @throws {RangeError} if the lengths differ, are zero, or a value is no class
 */
export function reportOf(
  labels: Uint16Array,
  predictions: Uint16Array,
  classNames: readonly string[],
): Report {
  const numClasses = classNames.length;
  const numImages = labels.length;
  if (numImages === 0 || predictions.length !== numImages) {
    throw new RangeError(
      `Cannot compare ${predictions.length} predictions with ${numImages} labels`,
    );
  }
  const confusion = Array.from({ length: numClasses }, () =>
    Array.from({ length: numClasses }, () => 0),
  );
  labels.forEach((label, index) => {
    const prediction = predictions[index];
    if (label >= numClasses || prediction >= numClasses) {
      throw new RangeError(
        `Cannot compare the prediction ${prediction} with the label ${label}: expected 0 to ${numClasses - 1}`,
      );
    }
    confusion[label][prediction] += 1;
  });

  const classes = confusion.map((row, index): ClassScore => {
    const numRight = row[index];
    const numLabelled = sum(row);
    const numPredicted = sum(confusion.map((other) => other[index]));
    return {
      name: classNames[index],
      numImages: numLabelled,
      precision: share(numRight, numPredicted),
      recall: share(numRight, numLabelled),
      // 2·precision·recall / (precision + recall), without its own division by zero.
      f1: share(2 * numRight, numPredicted + numLabelled),
    };
  });
  const numCorrect = sum(confusion.map((row, index) => row[index]));
  return { numImages, numCorrect, accuracy: numCorrect / numImages, confusion, classes };
}

/** Images of one class that were taken for another. */
export interface ConfusedPair {
  readonly label: number;
  readonly predicted: number;
  readonly count: number;
}

/**
 * Which classes were taken for which others, most often first.
 *
 * @param labels (n,) classes
 * @param predictions (n,) classes
 */
export function confusedPairs(labels: Uint16Array, predictions: Uint16Array): ConfusedPair[] {
  const counts = new Map<number, number>();
  labels.forEach((label, index) => {
    if (label === predictions[index]) return;
    const key = label * 2 ** 16 + predictions[index];
    counts.set(key, (counts.get(key) ?? 0) + 1);
  });
  return [...counts]
    .sort(([a, countA], [b, countB]) => countB - countA || a - b)
    .map(([key, count]) => ({ label: key >>> 16, predicted: key & 0xffff, count }));
}

function share(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

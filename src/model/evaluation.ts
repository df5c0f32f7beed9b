/**
 * What predictions are worth, class by class.
 */
import { NUM_CLASSES } from './lenet.js';

export interface ClassScore {
  /** The class, 0–9. */
  readonly digit: number;
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
  /** confusion[label][prediction], in images; (10, 10). */
  readonly confusion: readonly (readonly number[])[];
  readonly classes: readonly ClassScore[];
}

/**
 * @param labels (n,) 0–9; n ≥ 1
 * @param predictions (n,) 0–9
 * @throws {RangeError} if the lengths differ, are zero, or a value is no class
 */
export function reportOf(labels: Uint8Array, predictions: Uint8Array): Report {
  const numImages = labels.length;
  if (numImages === 0 || predictions.length !== numImages) {
    throw new RangeError(
      `Cannot compare ${predictions.length} predictions with ${numImages} labels`,
    );
  }
  const confusion = Array.from({ length: NUM_CLASSES }, () =>
    Array.from({ length: NUM_CLASSES }, () => 0),
  );
  labels.forEach((label, index) => {
    const prediction = predictions[index];
    if (label >= NUM_CLASSES || prediction >= NUM_CLASSES) {
      throw new RangeError(
        `Cannot compare the prediction ${prediction} with the label ${label}: expected 0 to 9`,
      );
    }
    confusion[label][prediction] += 1;
  });

  const classes = confusion.map((row, digit): ClassScore => {
    const numRight = row[digit];
    const numLabelled = sum(row);
    const numPredicted = sum(confusion.map((other) => other[digit]));
    return {
      digit,
      numImages: numLabelled,
      precision: share(numRight, numPredicted),
      recall: share(numRight, numLabelled),
      // 2·precision·recall / (precision + recall), without its own division by zero.
      f1: share(2 * numRight, numPredicted + numLabelled),
    };
  });
  const numCorrect = sum(confusion.map((row, digit) => row[digit]));
  return { numImages, numCorrect, accuracy: numCorrect / numImages, confusion, classes };
}

function share(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/**
 * All images of a run under one numbering: training, then validation (the end of the training set, held out), then
 * test. Samples travel and are cached by these numbers.
 */
import { createHash } from 'node:crypto';
import { IMAGE_BYTES } from '../model/lenet.js';
import { UserError } from '../shared/errors.js';
import type { EvaluationSet } from '../shared/protocol.js';

/** Images and their labels. */
export interface LabelledImages {
  /** (n, 784) */
  readonly images: Uint8Array;
  /** (n,) */
  readonly labels: Uint8Array;
}

export interface Samples {
  readonly numTrain: number;
  readonly numValidation: number;
  readonly numTest: number;
  /** The same for the same images and labels in the same order. */
  readonly datasetId: string;
  /** (784,) */
  image(index: number): Uint8Array;
  label(index: number): number;
  /** The images of a set, and the number of its first sample. */
  evaluationSet(set: EvaluationSet): LabelledImages & { readonly first: number };
}

/** @throws {UserError} if the validation set would leave nothing to train on */
export function createSamples(
  train: LabelledImages,
  test: LabelledImages,
  validationSize: number,
): Samples {
  const numInFile = train.labels.length;
  const numTrain = numInFile - validationSize;
  if (numTrain < 1) {
    throw new UserError(
      `Cannot hold out ${validationSize} images for validation: the training set has ${numInFile}`,
    );
  }
  const find = (index: number) =>
    index < numInFile ? { set: train, at: index } : { set: test, at: index - numInFile };
  return {
    numTrain,
    numValidation: validationSize,
    numTest: test.labels.length,
    datasetId: datasetIdOf(train, test),
    image(index) {
      const { set, at } = find(index);
      return set.images.subarray(at * IMAGE_BYTES, (at + 1) * IMAGE_BYTES);
    },
    label(index) {
      const { set, at } = find(index);
      return set.labels[at];
    },
    evaluationSet(set) {
      if (set === 'test') return { ...test, first: numInFile };
      return {
        images: train.images.subarray(numTrain * IMAGE_BYTES),
        labels: train.labels.subarray(numTrain),
        first: numTrain,
      };
    },
  };
}

/** Over all labels and every 61st image, which takes a millisecond instead of a tenth of a second. */
function datasetIdOf(train: LabelledImages, test: LabelledImages): string {
  const hash = createHash('sha256');
  for (const { images, labels } of [train, test]) {
    hash.update(labels);
    for (let begin = 0; begin < images.length; begin += 61 * IMAGE_BYTES) {
      hash.update(images.subarray(begin, begin + IMAGE_BYTES));
    }
  }
  return hash.digest('hex').slice(0, 32);
}

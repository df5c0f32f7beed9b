/**
 * All images of a run under one numbering: training, then validation (the end of the training set, held out), then
 * test. Samples are sent and cached by these numbers.
 */
import { createHash } from 'node:crypto';
import { imageBytes, type DataShape, type InputShape } from '../model/lenet.js';
import { bytesOf } from '../shared/codec.js';
import { UserError } from '../shared/errors.js';
import { updateInPieces } from '../shared/node/hash.js';
import { MAX_SAMPLES, type EvaluationSet } from '../shared/protocol.js';

/** Images and their labels. */
export interface LabelledImages {
  /** (n, C, H, W) */
  readonly images: Uint8Array;
  /** (n,) classes */
  readonly labels: Uint16Array;
}

/** Where samples that are sent or computed on come from. */
export interface SampleSource extends DataShape {
  /** (C, H, W) */
  image(index: number): Uint8Array;
  label(index: number): number;
}

export interface Samples extends SampleSource {
  /** (numClasses,) */
  readonly classNames: readonly string[];
  readonly numTrain: number;
  readonly numValidation: number;
  readonly numTest: number;
  /** The same for the same images and labels in the same order. */
  readonly datasetId: string;
  /** The images of a set, and the number of its first sample. */
  evaluationSet(set: EvaluationSet): LabelledImages & { readonly first: number };
}

/** What a run trains on and is tested with. */
interface LabelledDataset {
  readonly input: InputShape;
  readonly classNames: readonly string[];
  readonly train: LabelledImages;
  readonly test: LabelledImages;
}

/**
 * @throws {UserError} if images, labels and classes do not fit, the validation set would leave nothing to train on, or there are
 * too few images or too many
 */
export function createSamples(
  { input, classNames, train, test }: LabelledDataset,
  validationSize: number,
): Samples {
  const numBytes = imageBytes(input);
  for (const [name, { images, labels }] of [
    ['training', train],
    ['test', test],
  ] as const) {
    if (images.length !== labels.length * numBytes) {
      throw new UserError(
        `Cannot train: the ${name} set has ${labels.length} labels, and ${images.length} bytes of images of ${numBytes} bytes`,
      );
    }
    const wrong = labels.find((label) => label >= classNames.length);
    if (wrong !== undefined) {
      throw new UserError(
        `Cannot train: the ${name} set has a label ${wrong}, and there are ${classNames.length} classes`,
      );
    }
  }
  if (test.labels.length === 0) throw new UserError('Cannot train: the test set is empty');
  const numInFile = train.labels.length;
  const numTrain = numInFile - validationSize;
  if (numTrain < 1) {
    throw new UserError(
      `Cannot hold out ${validationSize} images for validation: the training set has ${numInFile}`,
    );
  }
  const numSamples = numInFile + test.labels.length;
  if (numSamples > MAX_SAMPLES) {
    throw new UserError(`Cannot train with ${numSamples} images, expected at most ${MAX_SAMPLES}`);
  }
  const find = (index: number) =>
    index < numInFile ? { set: train, at: index } : { set: test, at: index - numInFile };
  return {
    input,
    classNames,
    numClasses: classNames.length,
    numTrain,
    numValidation: validationSize,
    numTest: test.labels.length,
    datasetId: datasetIdOf({ input, classNames, train, test }),
    image(index) {
      const { set, at } = find(index);
      return set.images.subarray(at * numBytes, (at + 1) * numBytes);
    },
    label(index) {
      const { set, at } = find(index);
      return set.labels[at];
    },
    evaluationSet(set) {
      if (set === 'test') return { ...test, first: numInFile };
      return {
        images: train.images.subarray(numTrain * numBytes),
        labels: train.labels.subarray(numTrain),
        first: numTrain,
      };
    },
  };
}

/** A hash of the shape, all labels and all images: samples cached under an id stay valid forever. */
function datasetIdOf({ input, classNames, train, test }: LabelledDataset): string {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([input.channels, input.height, input.width, classNames.length]));
  for (const { images, labels } of [train, test]) {
    hash.update(bytesOf(labels));
    updateInPieces(hash, images);
  }
  return hash.digest('hex').slice(0, 32);
}

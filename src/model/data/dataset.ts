/** Datasets: images and their classes, and whether a dataset fits a model. */
import { UserError } from '../../shared/errors.js';
import { MAX_SAMPLES } from '../../shared/protocol.js';
import { describeInput, DIGITS, MAX_CLASSES, type InputShape } from '../lenet.js';

/** n images with their labels. */
export interface Split {
  /** (n, C, H, W) bytes, 0 is the background. */
  readonly images: Uint8Array;
  /** (n,) classes */
  readonly labels: Uint16Array;
}

export interface Dataset {
  /** `mnist`, or the name of its folder. */
  readonly name: string;
  /** Of every image. */
  readonly input: InputShape;
  /** (numClasses,) */
  readonly classNames: readonly string[];
  readonly train: Split;
  readonly test: Split;
}

/** Images of one file, or pictures of one folder, at most: more than EMNIST has. */
export const MAX_IMAGES = MAX_SAMPLES / 2;
/** Bytes of the images of one file, or of all pictures of a folder, at most: what Node reads at once. */
export const MAX_IMAGES_BYTES = 2 ** 31;

/** Images with the labels that their file has, which may be any whole numbers. */
interface RawSplit {
  readonly images: Uint8Array;
  readonly labels: Uint16Array | readonly number[];
}

/**
 * The classes of a dataset whose labels are mere numbers. Where all are digits there are ten, since a few images of
 * MNIST may lack one; else the labels that occur, in ascending order, are the classes, and their names.
 *
 * @returns the names, and the class of each label
 * @throws {UserError} if there are too few or too many
 */
export function numberedClasses(sets: readonly Iterable<number>[]): {
  readonly classNames: string[];
  readonly classOf: ReadonlyMap<number, number>;
} {
  const distinct = new Set<number>();
  for (const labels of sets) for (const label of labels) distinct.add(label);
  const found = [...distinct].sort((a, b) => a - b);
  const isDigits = found[0] >= 0 && found[found.length - 1] < DIGITS.length;
  const values = isDigits ? DIGITS.map(Number) : found;
  if (values.length < 2 || values.length > MAX_CLASSES) {
    throw new UserError(
      `Cannot use a dataset of ${values.length} classes, expected 2 to ${MAX_CLASSES}`,
    );
  }
  return {
    classNames: values.map(String),
    classOf: new Map(values.map((value, index) => [value, index])),
  };
}

/** The dataset of images whose labels are mere numbers. */
export function withClasses(
  train: RawSplit,
  test: RawSplit,
): Pick<Dataset, 'classNames' | 'train' | 'test'> {
  const { classNames, classOf } = numberedClasses([train.labels, test.labels]);
  const classify = ({ images, labels }: RawSplit): Split => ({
    images,
    labels: Uint16Array.from(labels, (label) => classOf.get(label)!),
  });
  return { classNames, train: classify(train), test: classify(test) };
}

/**
 * The test set, for a model that may be of another dataset: with the model's class numbers.
 *
 * @throws {UserError} if its images or labels are none that the model knows
 */
export function testSetFor(
  { input, classNames }: Pick<Dataset, 'input' | 'classNames'>,
  dataset: Dataset,
): Split {
  if (describeInput(dataset.input) !== describeInput(input)) {
    throw new UserError(
      `Cannot use the dataset ${dataset.name}: its images are ${describeInput(dataset.input)}, ` +
        `those of the model ${describeInput(input)}`,
    );
  }
  const { images, labels } = dataset.test;
  if (dataset.classNames.every((name, index) => name === classNames[index])) return dataset.test;
  const byName = dataset.classNames.map((name) => classNames.indexOf(name));
  const unknown = labels.find((label) => byName[label] < 0);
  if (unknown === undefined) return { images, labels: labels.map((label) => byName[label]) };
  // Names that are mere numbers say no more than the order.
  const isNumbered = dataset.classNames.every((name) => /^-?\d+$/.test(name));
  if (isNumbered && dataset.classNames.length === classNames.length) return dataset.test;
  throw new UserError(
    `Cannot use the dataset ${dataset.name}: it has the class ${dataset.classNames[unknown]}, ` +
      `which is none of ${shortList(classNames)}`,
  );
}

function shortList(names: readonly string[]): string {
  return names.length <= 12 ? names.join(', ') : `${names.slice(0, 12).join(', ')}, …`;
}

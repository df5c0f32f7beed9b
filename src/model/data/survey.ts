/** Surveys a dataset: counts, pixel statistics, duplicate images. Pure. */
import { createHash } from 'node:crypto';
import { imageBytes, type InputShape } from '../lenet.js';
import type { Dataset, Split } from './dataset.js';

/** Duplicates that are named one by one. */
const MAX_EXAMPLES = 5;

export interface ClassCount {
  readonly name: string;
  readonly train: number;
  readonly test: number;
}

/** The place of an image in a dataset, as it is trained on. */
export interface ImagePlace {
  readonly split: 'train' | 'test';
  readonly index: number;
  readonly class: string;
}

/** Images of the same pixels. */
export interface Duplicates {
  /** Training images that repeat an earlier one. */
  readonly withinTrain: number;
  /** Test images that repeat an earlier one. */
  readonly withinTest: number;
  /** Test images that are training images, too: they are no test. */
  readonly testInTrain: number;
  /** Different images that have more than one label. */
  readonly conflicting: number;
  /** A few of them: labels in conflict first, then those on both sides. */
  readonly examples: readonly (readonly ImagePlace[])[];
}

export interface Survey {
  readonly input: InputShape;
  readonly numTrain: number;
  readonly numTest: number;
  readonly classes: readonly ClassCount[];
  /** (C,) of the training images, pixels in [0, 1]. */
  readonly mean: readonly number[];
  /** (C,) */
  readonly std: readonly number[];
  readonly duplicates: Duplicates;
}

export function surveyOf({ input, classNames, train, test }: Dataset): Survey {
  const counts = (split: Split) => {
    const numbers = new Array<number>(classNames.length).fill(0);
    for (const label of split.labels) numbers[label]++;
    return numbers;
  };
  const [ofTrain, ofTest] = [counts(train), counts(test)];
  return {
    input,
    numTrain: train.labels.length,
    numTest: test.labels.length,
    classes: classNames.map((name, label) => ({
      name,
      train: ofTrain[label],
      test: ofTest[label],
    })),
    ...momentsOf(train, input),
    duplicates: duplicatesOf({ train, test }, classNames, imageBytes(input)),
  };
}

/** Exact: a histogram has whole numbers, whatever their order. */
function momentsOf({ images }: Split, input: InputShape): Pick<Survey, 'mean' | 'std'> {
  const numPixels = input.height * input.width;
  const histograms = Array.from({ length: input.channels }, () => new Float64Array(256));
  for (let at = 0; at < images.length; at += numPixels) {
    const histogram = histograms[(at / numPixels) % input.channels];
    for (let i = at; i < at + numPixels; i++) histogram[images[i]]++;
  }
  const moments = histograms.map((histogram) => {
    let [count, sum, squares] = [0, 0, 0];
    histogram.forEach((times, value) => {
      count += times;
      sum += times * value;
      squares += times * value * value;
    });
    const mean = sum / count;
    return { mean: mean / 255, std: Math.sqrt(Math.max(0, squares / count - mean * mean)) / 255 };
  });
  return { mean: moments.map(({ mean }) => mean), std: moments.map(({ std }) => std) };
}

function duplicatesOf(
  splits: Readonly<Record<'train' | 'test', Split>>,
  classNames: readonly string[],
  numBytes: number,
): Duplicates {
  const numTrain = splits.train.labels.length;
  const placeOf = (at: number) =>
    at < numTrain
      ? ({ split: 'train', index: at } as const)
      : ({ split: 'test', index: at - numTrain } as const);
  const labelAt = (at: number) => {
    const { split, index } = placeOf(at);
    return splits[split].labels[index];
  };
  /** Where each picture occurs, by its hash; one that occurs once is a mere number, as most are. */
  const places = new Map<string, number | number[]>();
  for (let at = 0; at < numTrain + splits.test.labels.length; at++) {
    const { split, index } = placeOf(at);
    const pixels = splits[split].images.subarray(index * numBytes, (index + 1) * numBytes);
    const hash = createHash('sha256').update(pixels).digest('base64');
    const before = places.get(hash);
    if (before === undefined) places.set(hash, at);
    else if (typeof before === 'number') places.set(hash, [before, at]);
    else before.push(at);
  }
  let [withinTrain, withinTest, testInTrain] = [0, 0, 0];
  const conflicts: number[][] = [];
  const leaks: number[][] = [];
  for (const group of places.values()) {
    if (typeof group === 'number') continue;
    const inTrain = group.filter((at) => at < numTrain).length;
    const inTest = group.length - inTrain;
    withinTrain += Math.max(0, inTrain - 1);
    withinTest += Math.max(0, inTest - 1);
    if (inTrain > 0) testInTrain += inTest;
    if (new Set(group.map(labelAt)).size > 1) conflicts.push(group);
    else if (inTrain > 0 && inTest > 0) leaks.push(group);
  }
  return {
    withinTrain,
    withinTest,
    testInTrain,
    conflicting: conflicts.length,
    examples: [...conflicts, ...leaks].slice(0, MAX_EXAMPLES).map((group) =>
      group.slice(0, MAX_EXAMPLES).map((at) => ({
        ...placeOf(at),
        class: classNames[labelAt(at)],
      })),
    ),
  };
}

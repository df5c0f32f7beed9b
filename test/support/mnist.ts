/** MNIST for tests, read once in each test file. */
import type { Dataset, Split } from '../../src/model/data/dataset.js';
import { loadDataset } from '../../src/model/data/load.js';
import { imageBytes, MNIST } from '../../src/model/lenet.js';

/** Of one image of MNIST. */
export const IMAGE_BYTES = imageBytes(MNIST.input);

let loading: Promise<Dataset> | undefined;

export function mnist(): Promise<Dataset> {
  loading ??= loadDataset('mnist');
  return loading;
}

/** Images [from, from + count) of the training set. */
export async function mnistBatch(count: number, from = 0): Promise<Split> {
  const { images, labels } = (await mnist()).train;
  return {
    images: images.slice(from * IMAGE_BYTES, (from + count) * IMAGE_BYTES),
    labels: labels.slice(from, from + count),
  };
}

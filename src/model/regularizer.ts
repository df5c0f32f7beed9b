/**
 * What training does to images that an evaluation leaves alone. All chance is drawn from the run's seed, the epoch and the
 * number of the sample, so that it does not matter who computes what, when, or how often.
 */
import { parseAugmentation } from '../shared/augmentation.js';
import type { Regularization } from '../shared/config.js';
import { createRandom } from '../shared/random.js';
import { Augmenter } from './data/augment.js';
import type { Batch } from './engine/tree-sum.js';
import { imageBytes, type InputShape } from './lenet.js';

/** A run that does nothing of the kind. */
export const NO_REGULARIZATION: Regularization = { seed: 0, augment: [] };

export class Regularizer {
  readonly regularization: Regularization;
  private readonly imageBytes: number;
  /** Null where images stay as they are. */
  private readonly augmenter: Augmenter | null;

  constructor({ input }: { readonly input: InputShape }, regularization: Regularization) {
    this.regularization = regularization;
    this.imageBytes = imageBytes(input);
    const augmentation = parseAugmentation(regularization.augment);
    if (augmentation === null) {
      throw new RangeError(`Cannot augment images by ${regularization.augment.join(', ')}`);
    }
    const isIdle = Object.values(augmentation).every((strength) => strength === 0);
    this.augmenter = isIdle ? null : new Augmenter(input, augmentation);
  }

  /**
   * The batch as the gradient is to see it; its images are changed in place.
   *
   * @param indices (n,) sample indices of the batch's images
   */
  apply(batch: Batch, indices: Uint32Array, epoch: number): Batch {
    const { augmenter } = this;
    if (augmenter === null) return batch;
    indices.forEach((index, i) => {
      const image = batch.images.subarray(i * this.imageBytes, (i + 1) * this.imageBytes);
      augmenter.augment(image, createRandom(this.regularization.seed, 'augment', epoch, index));
    });
    return batch;
  }
}

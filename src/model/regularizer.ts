/**
 * Changes that are made to images in training but not in evaluations. All random numbers are derived from the run's seed, the
 * epoch and the sample's number, so it does not matter which worker computes what, when, or how often.
 */
import { parseAugmentation } from '../shared/augmentation.js';
import type { Regularization } from '../shared/config.js';
import { createRandom } from '../shared/random.js';
import { Augmenter } from './data/augment.js';
import type { Batch } from './engine/tree-sum.js';
import { imageBytes, numHiddenUnits, type Model } from './lenet.js';

/** A run that does nothing of the kind. */
export const NO_REGULARIZATION: Regularization = {
  seed: 0,
  augment: [],
  dropout: 0,
  labelSmoothing: 0,
};

export class Regularizer {
  readonly regularization: Regularization;
  private readonly imageBytes: number;
  /** Null where images stay as they are. */
  private readonly augmenter: Augmenter | null;
  private readonly numHidden: number;
  /** Memory of the masks, used again. */
  private masks = new Float32Array(0);

  constructor(model: Model, regularization: Regularization) {
    const { input } = model;
    this.regularization = regularization;
    this.imageBytes = imageBytes(input);
    this.numHidden = numHiddenUnits(model);
    const augmentation = parseAugmentation(regularization.augment);
    if (augmentation === null) {
      throw new RangeError(`Cannot augment images by ${regularization.augment.join(', ')}`);
    }
    const isIdle = Object.values(augmentation).every((strength) => strength === 0);
    this.augmenter = isIdle ? null : new Augmenter(input, augmentation);
  }

  /**
   * The batch as the gradient is to see it; its images are changed in place. Valid until the next call.
   *
   * @param indices (n,) sample indices of the batch's images
   */
  apply(batch: Batch, indices: Uint32Array, epoch: number): Batch {
    const { augmenter } = this;
    const { seed, dropout, labelSmoothing } = this.regularization;
    if (augmenter !== null) {
      indices.forEach((index, i) => {
        const image = batch.images.subarray(i * this.imageBytes, (i + 1) * this.imageBytes);
        augmenter.augment(image, createRandom(seed, 'augment', epoch, index));
      });
    }
    if (dropout === 0 && labelSmoothing === 0) return batch;
    const masks = dropout === 0 ? null : this.masksOf(indices, epoch);
    return { ...batch, loss: { labelSmoothing, masks } };
  }

  /** (n, numHidden): each unit is dropped with the probability of dropout, and what is left makes up for it. */
  private masksOf(indices: Uint32Array, epoch: number): Float32Array {
    const { numHidden } = this;
    const { seed, dropout } = this.regularization;
    const length = indices.length * numHidden;
    if (this.masks.length < length) this.masks = new Float32Array(length);
    const masks = this.masks.subarray(0, length);
    const threshold = Math.floor(dropout * 2 ** 32);
    const factor = 1 / (1 - dropout);
    indices.forEach((index, i) => {
      const random = createRandom(seed, 'dropout', epoch, index);
      for (let unit = i * numHidden; unit < (i + 1) * numHidden; unit++) {
        masks[unit] = random.uint32() < threshold ? 0 : factor;
      }
    });
    return masks;
  }
}

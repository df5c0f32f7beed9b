/** The checks that every engine makes of its arguments. */
import { imageBytes, numHiddenUnits, type DataShape, type Model } from '../lenet.js';
import type { TrainingLoss } from './engine.js';

/**
 * @throws {RangeError} if the length of the array is not the expected one
 */
export function checkLength(what: string, array: ArrayLike<unknown>, wanted: number): void {
  if (array.length !== wanted) {
    throw new RangeError(`Got ${array.length} ${what}, expected ${wanted}`);
  }
}

/**
 * @returns n of n images
 * @throws {RangeError} if there is none, or a part of one
 */
export function checkImages({ input }: DataShape, images: Uint8Array): number {
  const numBytes = imageBytes(input);
  const numImages = images.length / numBytes;
  if (!Number.isInteger(numImages) || numImages < 1) {
    throw new RangeError(
      `Got ${images.length} bytes of images, expected a positive multiple of ${numBytes}`,
    );
  }
  return numImages;
}

/**
 * @returns n of n images with (n,) labels
 * @throws {RangeError} if they do not belong together, or a label is no class
 */
export function checkBatch(shape: DataShape, images: Uint8Array, labels: Uint16Array): number {
  const numImages = checkImages(shape, images);
  checkLength('labels', labels, numImages);
  for (const label of labels) {
    if (label >= shape.numClasses) {
      throw new RangeError(`Got the label ${label}, expected 0 to ${shape.numClasses - 1}`);
    }
  }
  return numImages;
}

/**
 * @throws {RangeError} if there are masks for another number of images or units
 */
export function checkLoss(model: Model, { masks }: TrainingLoss, numImages: number): void {
  if (masks !== null) checkLength('masks', masks, numImages * numHiddenUnits(model));
}

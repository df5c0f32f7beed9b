/** What every engine asks of its arguments. */
import { IMAGE_BYTES, NUM_CLASSES } from '../lenet.js';

/**
 * @throws {RangeError} if the array has not the wanted length
 */
export function checkLength(what: string, array: ArrayLike<unknown>, wanted: number): void {
  if (array.length !== wanted) {
    throw new RangeError(`Got ${array.length} ${what}, expected ${wanted}`);
  }
}

/**
 * @returns n of (n, 784) images
 * @throws {RangeError} if there is none, or a part of one
 */
export function checkImages(images: Uint8Array): number {
  const numImages = images.length / IMAGE_BYTES;
  if (!Number.isInteger(numImages) || numImages < 1) {
    throw new RangeError(
      `Got ${images.length} bytes of images, expected a positive multiple of ${IMAGE_BYTES}`,
    );
  }
  return numImages;
}

/**
 * @returns n of (n, 784) images with (n,) labels
 * @throws {RangeError} if they do not belong together, or a label is no digit
 */
export function checkBatch(images: Uint8Array, labels: Uint8Array): number {
  const numImages = checkImages(images);
  checkLength('labels', labels, numImages);
  for (const label of labels) {
    if (label >= NUM_CLASSES) {
      throw new RangeError(`Got the label ${label}, expected 0 to ${NUM_CLASSES - 1}`);
    }
  }
  return numImages;
}

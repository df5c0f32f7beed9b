/**
 * Changes training images at random, to the same bytes on every machine: integer arithmetic, and a few float64 operations
 * that IEEE 754 defines exactly. docs/algorithm.md specifies it for other implementations.
 *
 *   shift    moves by up to as many whole pixels, down and right
 *   rotate   rotates about the centre by up to as many degrees, either way
 *   scale    enlarges or shrinks by up to that fraction
 *   flip     mirrors left and right with that probability
 *   noise    adds to each byte a nearly normal value with that standard deviation
 *   cutout   blackens a square of as many pixels a side, at a random place (DeVries and Taylor, 2017)
 *
 * The first four are one mapping, interpolated once; what comes from outside of the image is 0. All channels are
 * treated alike, but for the noise.
 */
import type { Augmentation } from '../../shared/augmentation.js';
import type { Random } from '../../shared/random.js';
import { cosPi } from '../elementary.js';
import type { InputShape } from '../lenet.js';

/** Bits behind the point of a coordinate; one more than those of the mapping, whose numbers are halves. */
const POINT = 17;
const ONE = 2 ** (POINT - 1);

export class Augmenter {
  private readonly input: InputShape;
  private readonly augmentation: Augmentation;
  /** (H + 2, W + 2) one channel as it was, in a frame of zeros. */
  private readonly source: Uint8Array;

  constructor(input: InputShape, augmentation: Augmentation) {
    this.input = input;
    this.augmentation = augmentation;
    this.source = new Uint8Array((input.height + 2) * (input.width + 2));
  }

  /**
   * Changes an image in place.
   *
   * @param image (C, H, W)
   * @param random the image's own numbers
   */
  augment(image: Uint8Array, random: Random): void {
    const { shift, rotate, scale, flip, noise, cutout } = this.augmentation;
    if (shift > 0 || rotate > 0 || scale > 0 || flip > 0) this.warp(image, random);
    if (noise > 0) addNoise(image, noise, random);
    if (cutout > 0) this.cutOut(image, cutout, random);
  }

  private warp(image: Uint8Array, random: Random): void {
    const { channels, height, width } = this.input;
    const { shift, rotate, scale, flip } = this.augmentation;
    const down = shift > 0 ? random.below(2 * shift + 1) - shift : 0;
    const right = shift > 0 ? random.below(2 * shift + 1) - shift : 0;
    const degrees = rotate > 0 ? (2 * random.float() - 1) * rotate : 0;
    const factor = scale > 0 ? 1 + (2 * random.float() - 1) * scale : 1;
    const isMirrored = flip > 0 && random.float() < flip;

    // The source of a pixel: its place from the middle, turned back and divided by the factor.
    const turn = Math.abs(degrees) / 180;
    const sine = cosPi(Math.abs(0.5 - turn));
    const a = Math.floor((ONE * cosPi(turn)) / factor + 0.5);
    const b = Math.floor((ONE * (degrees < 0 ? -sine : sine)) / factor + 0.5);
    const [toX, toY] = isMirrored ? [-a, -b] : [a, b];

    const { source } = this;
    const pitch = width + 2;
    for (let channel = 0; channel < channels; channel++) {
      const plane = channel * height * width;
      for (let y = 0; y < height; y++) {
        const from = plane + y * width;
        const to = (y + 1) * pitch + 1;
        for (let x = 0; x < width; x++) source[to + x] = image[from + x];
      }
      let place = plane;
      for (let y = 0; y < height; y++) {
        // Twice the place from the middle, so that it is whole.
        const v = 2 * y - (height - 1) - 2 * down;
        const u = -(width - 1) - 2 * right;
        let sourceX = toX * u + toY * v + (width - 1) * ONE;
        let sourceY = a * v - b * u + (height - 1) * ONE;
        for (let x = 0; x < width; x++) {
          const column = (sourceX >> POINT) + 1;
          const row = (sourceY >> POINT) + 1;
          let value = 0;
          if (column >= 0 && column <= width && row >= 0 && row <= height) {
            const at = row * pitch + column;
            const p00 = source[at];
            const p01 = source[at + 1];
            const p10 = source[at + pitch];
            const p11 = source[at + pitch + 1];
            const fx = (sourceX >> (POINT - 8)) & 255;
            const fy = (sourceY >> (POINT - 8)) & 255;
            const top = 256 * p00 + fx * (p01 - p00);
            const below = 256 * p10 + fx * (p11 - p10);
            value = (256 * top + fy * (below - top) + 32768) >> 16;
          }
          image[place++] = value;
          sourceX += 2 * toX;
          sourceY -= 2 * b;
        }
      }
    }
  }

  private cutOut(image: Uint8Array, side: number, random: Random): void {
    const { channels, height, width } = this.input;
    const top = random.below(height) - (side >> 1);
    const left = random.below(width) - (side >> 1);
    const [fromX, toX] = [Math.max(0, left), Math.min(width, left + side)];
    for (let channel = 0; channel < channels; channel++) {
      for (let y = Math.max(0, top); y < Math.min(height, top + side); y++) {
        const row = (channel * height + y) * width;
        image.fill(0, row + fromX, row + toX);
      }
    }
  }
}

/** Standard deviation of the sum of four random bytes, whose mean is 510. */
const FOUR_BYTES_DEVIATION = Math.sqrt((4 * (256 ** 2 - 1)) / 12);

function addNoise(image: Uint8Array, deviation: number, random: Random): void {
  const factor = Math.floor((65536 * deviation) / FOUR_BYTES_DEVIATION + 0.5);
  for (let i = 0; i < image.length; i++) {
    const word = random.uint32();
    const sum = (word & 255) + ((word >> 8) & 255) + ((word >> 16) & 255) + (word >>> 24);
    const value = image[i] + (((sum - 510) * factor + 32768) >> 16);
    image[i] = value < 0 ? 0 : value > 255 ? 255 : value;
  }
}

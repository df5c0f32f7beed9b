/**
 * Converts a decoded image to the bytes that a model takes: channels, then an exact resize. Integers throughout, with the same
 * result on any machine, including browsers.
 */
import type { InputShape } from '../lenet.js';

/** (H, W, 3) bytes, row-major; 0 is black. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

/**
 * The picture in the shape of a model's input, its proportions changed if need be.
 *
 * @param input of 1 channel (luma of ITU-R BT.601), 2 (luma, opaque), 3 or 4 (RGB, opaque)
 * @returns (C, H, W)
 */
export function toInput(
  picture: Picture,
  { channels, height, width }: InputShape,
): Uint8Array<ArrayBuffer> {
  const numPixels = picture.width * picture.height;
  const planes = Array.from({ length: channels }, (_, channel) => {
    const isAlpha = channels % 2 === 0 && channel === channels - 1;
    const plane = new Uint8Array(numPixels).fill(255);
    for (let i = 0; i < numPixels && !isAlpha; i++) {
      plane[i] = channels < 3 ? luma(picture.rgb, 3 * i) : picture.rgb[3 * i + channel];
    }
    return resize(plane, picture.width, picture.height, width, height);
  });
  const image = new Uint8Array(channels * height * width);
  planes.forEach((plane, channel) => image.set(plane, channel * height * width));
  return image;
}

function luma(rgb: Uint8Array, at: number): number {
  return divided(299 * rgb[at] + 587 * rgb[at + 1] + 114 * rgb[at + 2], 1000);
}

/**
 * Each pixel is the mean of the area that it covers, to the nearest, exactly: areas are counted in whole parts.
 *
 * @param plane (H, W)
 * @returns (newHeight, newWidth)
 */
export function resize(
  plane: Uint8Array,
  width: number,
  height: number,
  newWidth: number,
  newHeight: number,
): Uint8Array {
  if (width === newWidth && height === newHeight) return plane;
  const [columns, rows] = [overlaps(width, newWidth), overlaps(height, newHeight)];
  // (height, newWidth) sums of up to 255 · width
  const wide = new Float64Array(height * newWidth);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < newWidth; column++) {
      const { first, weights } = columns[column];
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += weights[i] * plane[row * width + first + i];
      wide[row * newWidth + column] = sum;
    }
  }
  const resized = new Uint8Array(newHeight * newWidth);
  for (let row = 0; row < newHeight; row++) {
    const { first, weights } = rows[row];
    for (let column = 0; column < newWidth; column++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) {
        sum += weights[i] * wide[(first + i) * newWidth + column];
      }
      resized[row * newWidth + column] = divided(sum, width * height);
    }
  }
  return resized;
}

/** Which of `size` pixels each of `newSize` covers, and how much of each in `newSize`ths; the weights sum up to `size`. */
function overlaps(size: number, newSize: number): { first: number; weights: number[] }[] {
  return Array.from({ length: newSize }, (_, index) => {
    const [from, to] = [index * size, (index + 1) * size];
    const first = Math.floor(from / newSize);
    const weights: number[] = [];
    for (let i = first; i * newSize < to; i++) {
      weights.push(Math.min(to, (i + 1) * newSize) - Math.max(from, i * newSize));
    }
    return { first, weights };
  });
}

/** The quotient of whole numbers to the nearest whole one, halves up; exact below 2⁵². */
export function divided(dividend: number, divisor: number): number {
  return Math.floor((2 * dividend + divisor) / (2 * divisor));
}

/**
 * Prepares an image of one digit like MNIST's: light on dark, cropped, 20 pixels on its longer side, in 28×28 with the centre
 * of mass in the middle.
 *
 * LeCun et al., http://yann.lecun.com/exdb/mnist: "size normalized to fit in a 20x20 pixel box while preserving their
 * aspect ratio … anti-aliasing … centered in a 28x28 image by computing the center of mass of the pixels".
 */
import { UserError } from '../../shared/errors.js';
import { MNIST } from '../lenet.js';
import { readPictureFile } from './picture.js';
import { decodePng, type GreyImage } from './png.js';

const IMAGE_SIZE = MNIST.input.height;
/** Longer side of the digit, in pixels. */
const DIGIT_SIZE = 20;
/** Difference from the background, of 1, below which there is nothing to see. */
const MIN_CONTRAST = 0.1;
/** Share of the strongest ink below which a pixel is background: paper is not even. */
const MIN_INK = 0.05;
/** Share of the strongest ink that counts when the digit is cropped. */
const EDGE_INK = 0.1;
/** Where MNIST's digits have their centre of mass, in pixels from the left and the top: that of pixel 14. */
const CENTRE = 14.5;

/** Ink (H, W), row-major, 0 none and 1 the strongest. */
interface Ink {
  readonly width: number;
  readonly height: number;
  readonly values: Float32Array;
}

/**
 * The digit in a PNG file.
 *
 * @returns (1, 28, 28) bytes
 * @throws {UserError} if there is no such file, it is no sound PNG, or nothing is to be seen in it
 */
export async function readDigitImage(path: string): Promise<Uint8Array> {
  return digitImage(await readPictureFile(path), path);
}

/**
 * The digit in a PNG: any size, grey or colour, with or without alpha, dark on light or light on dark.
 *
 * @param png bytes of the file
 * @param file its name in messages
 * @returns (1, 28, 28) bytes, row-major, 0 is the background
 * @throws {UserError} if it is no sound PNG or nothing is to be seen in it
 */
export function digitImage(png: Uint8Array, file: string): Uint8Array {
  const ink = inkOf(decodePng(png, file));
  if (!ink) throw new UserError(`Cannot see a digit in ${file}: its pixels are all alike`);
  return centre(scale(crop(ink)));
}

/** What differs from the border's colour, in the direction that differs more; null if nothing does. */
function inkOf({ width, height, luminance, alpha }: GreyImage): Ink | null {
  const border = borderOf(width, height);
  const visible = border.filter((i) => alpha[i] >= 0.5);
  // On a transparent ground, light ink is meant for a dark one and dark ink for a light one.
  const ground =
    2 * visible.length >= border.length
      ? median(visible.map((i) => luminance[i]))
      : meanVisible(luminance, alpha) > 0.5
        ? 0
        : 1;
  const shown = luminance.map((value, i) => alpha[i] * value + (1 - alpha[i]) * ground);
  const darkest = shown.reduce((a, b) => Math.min(a, b));
  const lightest = shown.reduce((a, b) => Math.max(a, b));
  const isDarkOnLight = ground - darkest >= lightest - ground;
  const contrast = isDarkOnLight ? ground - darkest : lightest - ground;
  if (contrast < MIN_CONTRAST) return null;
  const values = shown.map((value) => {
    const ink = (isDarkOnLight ? ground - value : value - ground) / contrast;
    return ink < MIN_INK ? 0 : ink;
  });
  return { width, height, values };
}

/** Places of the outermost pixels. */
function borderOf(width: number, height: number): number[] {
  const places: number[] = [];
  for (let column = 0; column < width; column++) places.push(column, (height - 1) * width + column);
  for (let row = 0; row < height; row++) places.push(row * width, row * width + width - 1);
  return places;
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

function meanVisible(luminance: Float32Array, alpha: Float32Array): number {
  const total = alpha.reduce((sum, a) => sum + a, 0);
  return luminance.reduce((sum, value, i) => sum + alpha[i] * value, 0) / (total || 1);
}

/** The smallest rectangle with all strong ink. */
function crop({ width, height, values }: Ink): Ink {
  let [top, bottom, left, right] = [height, 0, width, 0];
  values.forEach((ink, i) => {
    if (ink < EDGE_INK) return;
    const [row, column] = [Math.floor(i / width), i % width];
    top = Math.min(top, row);
    bottom = Math.max(bottom, row + 1);
    left = Math.min(left, column);
    right = Math.max(right, column + 1);
  });
  const rows = Array.from({ length: bottom - top }, (_, row) =>
    values.subarray((top + row) * width + left, (top + row) * width + right),
  );
  const cropped = new Float32Array((bottom - top) * (right - left));
  rows.forEach((row, index) => cropped.set(row, index * (right - left)));
  return { width: right - left, height: bottom - top, values: cropped };
}

/** To 20 pixels on the longer side, each the mean of the area that it covers; the strongest ink is 1 again. */
function scale(ink: Ink): Ink {
  const factor = DIGIT_SIZE / Math.max(ink.width, ink.height);
  const wide = resampleRows(ink, Math.max(1, Math.round(ink.width * factor)));
  const scaled = transpose(
    resampleRows(transpose(wide), Math.max(1, Math.round(ink.height * factor))),
  );
  const strongest = scaled.values.reduce((a, b) => Math.max(a, b));
  return { ...scaled, values: scaled.values.map((value) => value / strongest) };
}

/** Every row to `newWidth` values; pixels that are covered in part count in part. */
function resampleRows({ width, height, values }: Ink, newWidth: number): Ink {
  const resampled = new Float32Array(height * newWidth);
  const step = width / newWidth;
  for (let column = 0; column < newWidth; column++) {
    const [from, to] = [column * step, (column + 1) * step];
    for (let source = Math.floor(from); source < Math.min(width, to); source++) {
      const share = (Math.min(to, source + 1) - Math.max(from, source)) / step;
      for (let row = 0; row < height; row++) {
        resampled[row * newWidth + column] += share * values[row * width + source];
      }
    }
  }
  return { width: newWidth, height, values: resampled };
}

function transpose({ width, height, values }: Ink): Ink {
  const turned = values.map((_, i) => values[(i % height) * width + Math.floor(i / height)]);
  return { width: height, height: width, values: turned };
}

/** Into 28×28, moved by whole pixels until the centre of mass is nearest to the middle; none of the digit is lost. */
function centre({ width, height, values }: Ink): Uint8Array {
  let [mass, x, y] = [0, 0, 0];
  values.forEach((ink, i) => {
    mass += ink;
    x += ink * ((i % width) + 0.5);
    y += ink * (Math.floor(i / width) + 0.5);
  });
  const left = clamp(Math.round(CENTRE - x / mass), IMAGE_SIZE - width);
  const top = clamp(Math.round(CENTRE - y / mass), IMAGE_SIZE - height);
  const image = new Uint8Array(IMAGE_SIZE * IMAGE_SIZE);
  values.forEach((ink, i) => {
    const row = top + Math.floor(i / width);
    image[row * IMAGE_SIZE + left + (i % width)] = Math.round(255 * ink);
  });
  return image;
}

function clamp(offset: number, max: number): number {
  return Math.max(0, Math.min(max, offset));
}

/**
 * Pictures in files, PNG or JPEG, to the bytes that a model takes. All of it is integer arithmetic or IEEE's basic
 * operations, so that the same file gives the same bytes on any machine.
 */
import { messageOf, UserError } from '../../shared/errors.js';
import type { InputShape } from '../lenet.js';
import { exifOrientation, jpegSize } from './jpeg-header.js';
import { decodePngSamples, MAX_PICTURE_SIDE, MAX_PIXELS, type PngSamples } from './png.js';

/** (H, W, 3) bytes, row-major; 0 is black. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

/** What the JPEG decoder may take for one picture: its coefficients are 32-bit. */
const MAX_JPEG_MEMORY_MB = 1024;

/**
 * The picture in a file, whatever its name says: the first bytes tell what it is. Transparency shows black.
 *
 * @param file its name in messages
 * @throws {UserError} in one sentence, if it is neither PNG nor JPEG, is damaged or is too large
 */
export async function decodePicture(bytes: Uint8Array, file: string): Promise<Picture> {
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return decodeJpeg(bytes, file);
  if (bytes[0] === 0x89) return toRgb(decodePngSamples(bytes, file));
  throw new UserError(`Cannot read ${file}: it is neither a PNG nor a JPEG file`);
}

/**
 * What the header of a picture's file says, without decoding it: upright, as `decodePicture` gives it.
 *
 * @throws {Error} if it is neither PNG nor JPEG, or its header is damaged
 */
export function pictureSize(bytes: Uint8Array): { width: number; height: number } {
  if (bytes[0] === 0xff && bytes[1] === 0xd8) {
    const { width, height } = jpegSize(bytes);
    return exifOrientation(bytes) < 5 ? { width, height } : { width: height, height: width };
  }
  if (bytes[0] !== 0x89 || bytes.length < 24)
    throw new Error('it is neither a PNG nor a JPEG file');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return { width: view.getUint32(16), height: view.getUint32(20) };
}

async function decodeJpeg(bytes: Uint8Array, file: string): Promise<Picture> {
  try {
    const { width, height } = jpegSize(bytes);
    const isBounded =
      Math.max(width, height) <= MAX_PICTURE_SIDE && width * height <= MAX_PIXELS && width > 0;
    if (!isBounded || height < 1) {
      throw new Error(
        `it has ${width}×${height} pixels, expected at most ${MAX_PICTURE_SIDE} a side and ${MAX_PIXELS} in all`,
      );
    }
    const { decode } = (await import('jpeg-js')).default;
    const { data } = decode(bytes, {
      useTArray: true,
      formatAsRGBA: false,
      tolerantDecoding: false,
      maxMemoryUsageInMB: MAX_JPEG_MEMORY_MB,
    });
    return orient({ width, height, rgb: data }, exifOrientation(bytes));
  } catch (error) {
    throw new UserError(`Cannot read ${file}: ${messageOf(error)}`, { cause: error });
  }
}

/** 8 bits a channel, blended with black where it is transparent. */
function toRgb({ width, height, samples, channels, max, key }: PngSamples): Picture {
  const rgb = new Uint8Array(3 * width * height);
  const numColors = channels < 3 ? 1 : 3;
  const hasAlpha = channels % 2 === 0;
  for (let pixel = 0; pixel < width * height; pixel++) {
    const from = pixel * channels;
    const isKey = key?.every((value, channel) => samples[from + channel] === value) ?? false;
    const alpha = hasAlpha ? samples[from + numColors] : isKey ? 0 : max;
    for (let color = 0; color < 3; color++) {
      const value = samples[from + (numColors === 3 ? color : 0)];
      rgb[3 * pixel + color] = divided(255 * value * alpha, max * max);
    }
  }
  return { width, height, rgb };
}

/** Upright, as EXIF's orientation 1 to 8 says. */
function orient(picture: Picture, orientation: number): Picture {
  if (orientation === 1) return picture;
  const { width, height, rgb } = picture;
  const isTurned = orientation >= 5;
  const [newWidth, newHeight] = isTurned ? [height, width] : [width, height];
  const isMirroredX = [2, 3, 7, 8].includes(orientation);
  const isMirroredY = [3, 4, 6, 7].includes(orientation);
  const turned = new Uint8Array(rgb.length);
  for (let row = 0; row < newHeight; row++) {
    for (let column = 0; column < newWidth; column++) {
      const [x, y] = isTurned ? [row, column] : [column, row];
      const from =
        3 * ((isMirroredY ? height - 1 - y : y) * width + (isMirroredX ? width - 1 - x : x));
      turned.set(rgb.subarray(from, from + 3), 3 * (row * newWidth + column));
    }
  }
  return { width: newWidth, height: newHeight, rgb: turned };
}

/**
 * The picture in the shape of a model's input, its proportions changed if need be.
 *
 * @param input of 1 channel (luma of ITU-R BT.601) or 3
 * @returns (C, H, W)
 */
export function toInput(picture: Picture, { channels, height, width }: InputShape): Uint8Array {
  const numPixels = picture.width * picture.height;
  const planes = Array.from({ length: channels }, (_, channel) => {
    const plane = new Uint8Array(numPixels);
    for (let i = 0; i < numPixels; i++) {
      plane[i] = channels === 1 ? luma(picture.rgb, 3 * i) : picture.rgb[3 * i + channel];
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
function divided(dividend: number, divisor: number): number {
  return Math.floor((2 * dividend + divisor) / (2 * divisor));
}

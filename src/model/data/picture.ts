/**
 * Pictures in files, PNG or JPEG. All of it is integer arithmetic or IEEE's basic operations, so that the same file
 * gives the same bytes on any machine.
 */
import { messageOf, UserError } from '../../shared/errors.js';
import { readInput } from '../../shared/node/input-file.js';
import { divided, type Picture } from './input-image.js';
import { exifOrientation, jpegSize } from './jpeg-header.js';
import { decodePngSamples, MAX_PICTURE_SIDE, MAX_PIXELS, type PngSamples } from './png.js';

/**
 * Of a file: as many as the largest picture takes unpacked (16-bit RGBA), and some more for profiles and thumbnails. How
 * large a picture may be, its header says (`MAX_PIXELS`), whatever the file takes.
 */
const MAX_FILE_BYTES = 8 * MAX_PIXELS + 2 ** 24;
/** Pixels that a byte of a JPEG file can stand for: two bits, or one of several scans, for each 8×8 of them. */
const MAX_PIXELS_A_BYTE = 512;
/** What the JPEG decoder may take for one picture: its coefficients are 32-bit. */
const MAX_JPEG_MEMORY_MB = 1024;

/** @throws {UserError} if it cannot be read or is too large */
export async function readPictureFile(path: string): Promise<Uint8Array> {
  try {
    return await readInput(path, MAX_FILE_BYTES);
  } catch (error) {
    throw new UserError(`Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
}

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
    // The decoder takes memory for what the header says before it finds that nothing follows.
    if (width * height > MAX_PIXELS_A_BYTE * bytes.length) throw new Error('it is truncated');
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

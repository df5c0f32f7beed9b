/**
 * Folders of pictures as torchvision's ImageFolder, Keras and Hugging Face's imagefolder lay them out:
 * `train/<class>/….png` and `test/<class>/….png`, or `<class>/….png` of which a fraction becomes the test set.
 */
import { createHash } from 'node:crypto';
import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { messageOf, UserError } from '../../shared/errors.js';
import { MAX_CLASSES } from '../lenet.js';
import { MAX_IMAGES } from './dataset.js';
import { readPictureFile } from './picture.js';
import {
  refuseDataset,
  type PictureList,
  type PictureOptions,
  type PictureSource,
  type PictureSplit,
} from './picture-set.js';

/** What stands in a name for bytes that are no UTF-8; the file is not found by it. */
const NOT_UTF8 = '\uFFFD';
const EXTENSIONS: readonly string[] = ['.png', '.jpg', '.jpeg'];
/** Folders within the folder of a class. */
const MAX_DEPTH = 8;
/** Entries of all folders, pictures or not. */
const MAX_ENTRIES = 2 * MAX_IMAGES;
/** One picture's file. */
interface PictureFile {
  readonly path: string;
  /** Number of its class, by name. */
  readonly label: number;
  readonly split: PictureSplit;
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
 * @throws {UserError} in one sentence, if the folder is not laid out as it should be
 */
export async function openPictureFolder(
  dir: string,
  { testFraction }: PictureOptions,
  signal?: AbortSignal,
): Promise<PictureSource> {
  const { classNames, files, bad } = await listPictures(dir, { testFraction }, signal);
  const list: PictureList = {
    classNames,
    labels: Uint16Array.from(files, ({ label }) => label),
    splits: files.map(({ split }) => split),
    bad,
    nameOf: (index) => files[index].path,
    async *read() {
      for (const { path } of files) {
        yield await readPictureFile(path).catch((error: unknown) => {
          if (error instanceof UserError) return error;
          throw error;
        });
      }
    },
  };
  const hash = createHash('sha256').update(JSON.stringify([classNames, bad]));
  for (const { path, label, split, bytes, mtimeMs } of files) {
    hash.update(JSON.stringify([path, label, split, bytes, mtimeMs]));
  }
  return { path: dir, key: hash.digest('hex'), list: () => Promise.resolve(list) };
}

/** The files, by split, class and name. */
async function listPictures(
  dir: string,
  { testFraction }: PictureOptions,
  signal: AbortSignal | undefined,
): Promise<Listing> {
  const fail = (why: string): never => refuseDataset(dir, why);
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
  const files: PictureFile[] = [];
  const bad: string[] = [];
  let numEntries = 0;
  const walk = async (
    folder: string,
    depth: number,
    file: Pick<PictureFile, 'label' | 'split'>,
  ): Promise<void> => {
    const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) =>
      fail(
        `${folder} cannot be read (${messageOf(error)})` +
          (folder.includes(NOT_UTF8) ? '; give it a name in UTF-8' : ''),
      ),
    );
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
      const isPicture = EXTENSIONS.includes(extname(entry.name).toLowerCase());
      // Links to pictures are followed; those to folders may lead anywhere, and back.
      if (!isPicture && !(await isVisibleFolder(folder, entry))) continue;
      try {
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

/**
 * Image datasets as Hugging Face stores them: `train-….parquet` and `test-….parquet` in a folder, in its folder `data`,
 * or in that of a configuration; the shards of a split in the order of their names. A column has pictures as structs
 * {bytes, path}, another one labels; the metadata "huggingface" names the classes.
 */
import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import * as z from 'zod';
import { messageOf, UserError } from '../../shared/errors.js';
import { parseJson } from '../../shared/json.js';
import { printable } from '../../shared/printable.js';
import { MAX_IMAGES, numberedClasses } from './dataset.js';
import { openParquetFile, type ParquetFile } from './parquet-file.js';
import type { ParquetColumn } from './parquet-page.js';
import {
  refuseDataset,
  type PictureList,
  type PictureOptions,
  type PictureSource,
  type PictureSplit,
} from './picture-set.js';

const MAX_FILES = 10_000;
const FILE_NAME = /^(train|test|validation|val)([-._].*)?\.parquet$/;
/** Of several columns of labels the first of these. */
const LABEL_COLUMNS = ['label', 'labels', 'fine_label'];

interface SourceFile {
  readonly path: string;
  readonly split: PictureSplit;
  readonly bytes: number;
  readonly mtimeMs: number;
}

/** Whether the path is a Parquet file, or a folder of them. */
export async function isParquet(path: string): Promise<boolean> {
  return path.endsWith('.parquet') || (await foldersWithFiles(path)).length > 0;
}

/**
 * @param path of which `isParquet` is true
 * @throws {UserError} in one sentence, if files are missing
 */
export async function openParquet(
  path: string,
  { testFraction }: PictureOptions,
  signal?: AbortSignal,
): Promise<PictureSource> {
  const files = await findFiles(path, testFraction !== undefined);
  const hash = createHash('sha256');
  for (const { path, split, bytes, mtimeMs } of files) {
    hash.update(JSON.stringify([path, split, bytes, mtimeMs]));
  }
  return { path, key: hash.digest('hex'), list: () => list(path, files, signal) };
}

async function list(
  path: string,
  files: readonly SourceFile[],
  signal: AbortSignal | undefined,
): Promise<PictureList> {
  const names: (readonly string[] | null)[] = [];
  /** Of each file, as it has them. */
  const labels: number[][] = [];
  let numRows = 0;
  for (const file of files) {
    signal?.throwIfAborted();
    await using(file.path, async (parquet) => {
      numRows += parquet.numRows;
      if (numRows > MAX_IMAGES) refuseDataset(path, `it has more than ${MAX_IMAGES} pictures`);
      const { labelColumn, classNames } = columnsOf(parquet);
      names.push(classNames);
      labels.push(await labelsOf(parquet, labelColumn));
    });
  }
  const [classNames] = names;
  const other = names.findIndex((one) => JSON.stringify(one) !== JSON.stringify(classNames));
  if (other > 0) {
    refuseDataset(path, `${files[other].path} names other classes than ${files[0].path}`);
  }
  const known =
    classNames === null
      ? numberedClasses(labels)
      : { classNames, classOf: new Map(classNames.map((_, label) => [label, label])) };
  const starts: number[] = [];
  const splits: PictureSplit[] = [];
  const classes = labels.flatMap((ofFile, at) => {
    starts.push(splits.length);
    return ofFile.map((label) => {
      splits.push(files[at].split);
      const found = known.classOf.get(label);
      if (found !== undefined) return found;
      const last = known.classNames.length - 1;
      return refuseDataset(path, `${files[at].path} has the label ${label}, expected 0 to ${last}`);
    });
  });
  const nameOf = (index: number) => {
    const at = starts.findLastIndex((start) => start <= index);
    return `row ${index - starts[at] + 1} of ${files[at].path}`;
  };
  return {
    classNames: known.classNames,
    labels: Uint16Array.from(classes),
    splits,
    bad: [],
    nameOf,
    async *read() {
      let index = 0;
      for (const { path } of files) {
        for await (const bytes of picturesOf(path)) {
          yield bytes ?? new UserError(`Cannot read ${nameOf(index)}: it has no bytes`);
          index++;
        }
      }
    },
  };
}

/** Does something with an open file, and closes it; what is wrong with it is told with its name. */
async function using<T>(path: string, use: (file: ParquetFile) => Promise<T>): Promise<T> {
  try {
    const file = await openParquetFile(path);
    try {
      return await use(file);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw named(path, error);
  }
}

function named(path: string, error: unknown): unknown {
  if (error instanceof UserError) return error;
  return new UserError(`Cannot read ${path}: ${messageOf(error)}`, { cause: error });
}

async function labelsOf(file: ParquetFile, column: ParquetColumn): Promise<number[]> {
  const labels: number[] = [];
  for await (const values of file.read(column)) {
    for (const value of values) {
      if (!Number.isSafeInteger(value))
        throw new Error(`its row ${labels.length + 1} has no label`);
      labels.push(value as number);
    }
  }
  return labels;
}

async function* picturesOf(path: string): AsyncGenerator<Uint8Array | null> {
  try {
    const file = await openParquetFile(path);
    try {
      for await (const values of file.read(columnsOf(file).pictureColumn)) {
        for (const value of values) yield value instanceof Uint8Array ? value : null;
      }
    } finally {
      await file.close();
    }
  } catch (error) {
    throw named(path, error);
  }
}

function columnsOf({ columns, metadata }: ParquetFile): {
  readonly pictureColumn: ParquetColumn;
  readonly labelColumn: ParquetColumn;
  readonly classNames: readonly string[] | null;
} {
  const single = columns.filter(({ isRepeated }) => !isRepeated);
  const listed = printable(
    single
      .map(({ path }) => path.join('.'))
      .join(', ')
      .slice(0, 200),
  );
  const pictures = single.filter(
    ({ path, type }) => path.length === 2 && path[1] === 'bytes' && type === 'bytes',
  );
  if (pictures.length !== 1) {
    throw new Error(
      `it has ${pictures.length} columns of pictures {bytes, path}, expected one; its columns: ${listed}`,
    );
  }
  const text = metadata.get('huggingface');
  const features = new Map(Object.entries(text === undefined ? {} : featuresOf(text)));
  const numbers = single.filter(
    ({ path, type }) => path.length === 1 && (type === 'int32' || type === 'int64'),
  );
  const namesOf = ({ path }: ParquetColumn) => features.get(path[0])?.names ?? null;
  const named = numbers.filter((column) => namesOf(column) !== null);
  const candidates = named.length > 0 ? named : numbers;
  const labelColumn =
    LABEL_COLUMNS.map((name) => candidates.find(({ path }) => path[0] === name)).find(Boolean) ??
    (candidates.length === 1 ? candidates[0] : null);
  if (labelColumn === null) {
    throw new Error(`it has no column "label" of whole numbers; its columns: ${listed}`);
  }
  return { pictureColumn: pictures[0], labelColumn, classNames: namesOf(labelColumn) };
}

/** Features of other columns may be nested. */
const FEATURES_LIMITS = { maxDepth: 64, maxValues: 200_000 };

/** What Hugging Face's `datasets` writes into a file's metadata. */
const featuresSchema = z.object({
  info: z.object({
    features: z.record(z.string(), z.object({ names: z.array(z.string()).nullish().catch(null) })),
  }),
});

function featuresOf(text: string): z.infer<typeof featuresSchema>['info']['features'] {
  try {
    return featuresSchema.parse(parseJson(text, FEATURES_LIMITS)).info.features;
  } catch (error) {
    throw new Error('its metadata "huggingface" is damaged', { cause: error });
  }
}

/** The files of a folder that hold a split, by name. */
async function filesIn(dir: string): Promise<string[]> {
  const names = await readdir(dir).catch(() => []);
  return names.filter((name) => FILE_NAME.test(name)).sort();
}

/** The folder itself, or those in it, as far as they hold files of splits. */
async function foldersWithFiles(dir: string): Promise<string[]> {
  if ((await filesIn(dir)).length > 0) return [dir];
  const found: string[] = [];
  for (const name of (await readdir(dir).catch(() => [])).sort()) {
    if (name.startsWith('.') || found.length > 1) continue;
    if ((await filesIn(join(dir, name))).length > 0) found.push(join(dir, name));
  }
  return found;
}

async function findFiles(path: string, hasFraction: boolean): Promise<SourceFile[]> {
  if (path.endsWith('.parquet')) {
    if (!hasFraction) refuseDataset(path, 'it has no test set; give --test-fraction 0.2');
    return [await fileAt(path, 'either')];
  }
  const folders = await foldersWithFiles(path);
  if (folders.length > 1) {
    const names = folders.map((folder) => basename(folder)).join(' and ');
    refuseDataset(path, `it has several datasets (${names}); name one of these folders`);
  }
  const [folder] = folders;
  const names = await filesIn(folder);
  if (names.length > MAX_FILES) refuseDataset(path, `it has more than ${MAX_FILES} files`);
  const ofSplit = (split: string) => names.filter((name) => FILE_NAME.exec(name)?.[1] === split);
  const train = ofSplit('train');
  const test = ['test', 'validation', 'val'].map(ofSplit).find((found) => found.length > 0) ?? [];
  if (train.length === 0) refuseDataset(path, `${folder} has no train-….parquet`);
  if (test.length > 0 && hasFraction) {
    refuseDataset(path, `it has the file ${test[0]}; leave --test-fraction out`);
  }
  if (test.length === 0 && !hasFraction) {
    refuseDataset(path, `${folder} has no test-….parquet; add it, or give --test-fraction 0.2`);
  }
  for (const names of [train, test]) checkShards(path, names);
  const split = test.length > 0 ? 'train' : 'either';
  return Promise.all([
    ...train.map((name) => fileAt(join(folder, name), split)),
    ...test.map((name) => fileAt(join(folder, name), 'test')),
  ]);
}

/** `train-00001-of-00004.parquet` tells that there are others. */
function checkShards(path: string, names: readonly string[]): void {
  const total = names.map((name) => /-of-(\d{1,6})/.exec(name)?.[1]).find(Boolean);
  if (total === undefined || Number(total) === names.length) return;
  refuseDataset(path, `${names.length} of the ${Number(total)} files of ${names[0]} are there`);
}

async function fileAt(path: string, split: PictureSplit): Promise<SourceFile> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new Error('it is not a regular file');
    return { path, split, bytes: info.size, mtimeMs: info.mtimeMs };
  } catch (error) {
    throw new UserError(`Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** Loads a dataset of any supported kind, detected from its files. */
import { resolve } from 'node:path';
import * as z from 'zod';
import { pictureOptions, runOptions } from '../../shared/config.js';
import { UserError } from '../../shared/errors.js';
import { flagName, shorten } from '../../shared/option.js';
import type { Checkpoint } from '../checkpoint.js';
import { testSetFor, type Dataset, type Split } from './dataset.js';
import { loadIdxFolder, loadMnist } from './idx.js';
import { loadNpz } from './npz.js';
import { isParquet, openParquet } from './parquet.js';
import { isPictureFolder, openPictureFolder } from './picture-folder.js';
import {
  loadPictures,
  pictureOptionsFor,
  type Loading,
  type PictureOptions,
  type PictureSource,
} from './picture-set.js';

export type DatasetFormat = 'mnist' | 'npz' | 'parquet' | 'pictures' | 'idx';

/** How that dataset is kept, by what is found; `idx` for whatever is not told by its name or its files. */
export async function formatOf(source: string): Promise<DatasetFormat> {
  if (source === 'mnist') return 'mnist';
  if (source.endsWith('.npz')) return 'npz';
  if (await isParquet(source)) return 'parquet';
  return (await isPictureFolder(source)) ? 'pictures' : 'idx';
}

/**
 * The pictures of a dataset, not yet read; null for a format whose images need no decoding.
 *
 * @throws {UserError} in one sentence, if files are missing or not laid out as they should be
 */
export async function openPictures(
  source: string,
  format: DatasetFormat,
  options: PictureOptions,
  signal?: AbortSignal,
): Promise<PictureSource | null> {
  if (format === 'parquet') return openParquet(source, options, signal);
  return format === 'pictures' ? openPictureFolder(source, options, signal) : null;
}

/**
 * The dataset of that name, folder or file.
 *
 * @param source `mnist`, a folder of pictures, of Parquet or of IDX files, or an NPZ file
 * @param options for pictures: their size, colours and test set
 * @throws {UserError} in one sentence, if something is missing or is not what it should be
 */
export async function loadDataset(
  source: string,
  options: PictureOptions = {},
  loading: Loading = {},
): Promise<Dataset> {
  const format = await formatOf(source);
  const pictures = await openPictures(source, format, options, loading.signal);
  if (pictures !== null) return loadPictures(pictures, options, loading);
  const { imageSize, color, testFraction, badImages } = options;
  for (const [key, value] of Object.entries({ imageSize, color, testFraction, badImages })) {
    if (value === undefined) continue;
    throw new UserError(
      `Cannot use ${flagName(key)} with the dataset ${source}: it is for pictures`,
    );
  }
  if (format === 'mnist') return loadMnist();
  return format === 'npz' ? loadNpz(source) : loadIdxFolder(source);
}

/** Named by a dataset that comes with Lockstep; any other is a path. */
const BUILT_IN: readonly string[] = ['mnist'];

/**
 * The images to test a checkpoint with, with its class numbers.
 *
 * A checkpoint may come from anywhere, so a path that it names is not opened unless the user gives it too.
 *
 * @param source null for the dataset that it was trained on, where that comes with Lockstep
 * @param options for pictures of another dataset, which are given the shape that the model takes
 * @throws {UserError} if it cannot be read or does not fit, or only the checkpoint says where it is
 */
export async function loadTestSet(
  checkpoint: Pick<Checkpoint, 'input' | 'classNames' | 'config'>,
  source: string | null,
  options: Pick<PictureOptions, 'testFraction' | 'badImages'> = {},
  loading: Loading = {},
): Promise<{ readonly test: Split; readonly source: string }> {
  const { dataset: own, ...ownOptions } = trainedWith(checkpoint.config);
  if (source === null && !BUILT_IN.includes(own)) {
    throw new UserError(
      `Cannot find the test images: the model was trained on ${shorten(own)}, a path that is not opened ` +
        'unless you name it; give --dataset PATH',
    );
  }
  if (source === null || isSame(source, own)) {
    const { testFraction, badImages = ownOptions.badImages } = options;
    if (testFraction !== undefined && testFraction !== ownOptions.testFraction) {
      throw new UserError(
        `Cannot use --test-fraction ${testFraction} with the dataset of the run: images that it trained on would be tested`,
      );
    }
    const loaded = await loadDataset(source ?? own, { ...ownOptions, badImages }, loading);
    return { test: testSetFor(checkpoint, loaded), source: own };
  }
  const isOfPictures = ['parquet', 'pictures'].includes(await formatOf(source));
  const ofPictures = isOfPictures ? pictureOptionsFor(checkpoint.input) : {};
  const loaded = await loadDataset(source, { ...ofPictures, ...options }, loading);
  return { test: testSetFor(checkpoint, loaded), source };
}

function isSame(source: string, own: string): boolean {
  if (BUILT_IN.includes(source) || BUILT_IN.includes(own)) return source === own;
  return resolve(source) === resolve(own);
}

const trainedWithSchema = z.object({ dataset: runOptions.dataset, ...pictureOptions });

/** What a checkpoint's configuration says of its data; the defaults if it is none. */
export function trainedWith(config: unknown): z.infer<typeof trainedWithSchema> {
  return trainedWithSchema.safeParse(config).data ?? trainedWithSchema.parse({});
}

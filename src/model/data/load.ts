/** Datasets of every kind that is read, by what is found. */
import * as z from 'zod';
import { runOptions } from '../../shared/config.js';
import { UserError } from '../../shared/errors.js';
import { flagName } from '../../shared/option.js';
import type { Checkpoint } from '../checkpoint.js';
import { testSetFor, type Dataset, type Split } from './dataset.js';
import { loadIdxFolder, loadMnist } from './idx.js';
import { loadNpz } from './npz.js';
import {
  isPictureFolder,
  loadPictureFolder,
  pictureOptionsFor,
  type Loading,
  type PictureOptions,
} from './picture-folder.js';

/**
 * The dataset of that name, folder or file.
 *
 * @param source `mnist`, a folder of pictures, a folder of IDX files, or an NPZ file
 * @param options for pictures: their size, colours and test set
 * @throws {UserError} in one sentence, if something is missing or is not what it should be
 */
export async function loadDataset(
  source: string,
  options: PictureOptions = {},
  loading: Loading = {},
): Promise<Dataset> {
  if (source !== 'mnist' && (await isPictureFolder(source))) {
    return loadPictureFolder(source, options, loading);
  }
  const { imageSize, color, testFraction, badImages } = options;
  for (const [key, value] of Object.entries({ imageSize, color, testFraction, badImages })) {
    if (value === undefined) continue;
    throw new UserError(
      `Cannot use ${flagName(key)} with the dataset ${source}: it is for folders of pictures`,
    );
  }
  if (source === 'mnist') return loadMnist();
  return source.endsWith('.npz') ? loadNpz(source) : loadIdxFolder(source);
}

/**
 * The images to test a checkpoint with, with its class numbers.
 *
 * @param source null for the dataset that it was trained on
 * @param options for pictures of another dataset, which are given the shape that the model takes
 * @throws {UserError} if it cannot be read or does not fit
 */
export async function loadTestSet(
  checkpoint: Pick<Checkpoint, 'input' | 'classNames' | 'config'>,
  source: string | null,
  options: Pick<PictureOptions, 'testFraction' | 'badImages'> = {},
  loading: Loading = {},
): Promise<{ readonly test: Split; readonly source: string }> {
  const config = trainedWith(checkpoint.config);
  if (source === null || source === config.dataset) {
    const { dataset = 'mnist', ...own } = config;
    const loaded = await loadDataset(dataset, own, loading);
    return { test: testSetFor(checkpoint, loaded), source: dataset };
  }
  const ofPictures =
    source !== 'mnist' && (await isPictureFolder(source))
      ? pictureOptionsFor(checkpoint.input)
      : {};
  const loaded = await loadDataset(source, { ...ofPictures, ...options }, loading);
  return { test: testSetFor(checkpoint, loaded), source };
}

const trainedWithSchema = z.object({
  dataset: runOptions.dataset.unwrap().optional(),
  imageSize: runOptions.imageSize,
  color: runOptions.color,
  testFraction: runOptions.testFraction,
  badImages: runOptions.badImages,
});

/** What a checkpoint's configuration says of its data; nothing if it is none. */
function trainedWith(config: unknown): z.infer<typeof trainedWithSchema> {
  return trainedWithSchema.safeParse(config).data ?? {};
}

/** The first images of MNIST as IDX files. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { imagesFile, labelsFile } from './idx-files.js';
import { mnist } from './mnist.js';

/** @param dir made where it is not there */
export async function writeSmallMnist(
  dir: string,
  numTrain: number,
  numTest: number,
): Promise<void> {
  const { train, test } = await mnist();
  await mkdir(dir, { recursive: true });
  for (const [name, { images, labels }, n] of [
    ['train', train, numTrain],
    ['t10k', test, numTest],
  ] as const) {
    await writeFile(join(dir, `${name}-images-idx3-ubyte`), imagesFile(images.slice(0, n * 784)));
    await writeFile(join(dir, `${name}-labels-idx1-ubyte`), labelsFile(labels.slice(0, n)));
  }
}

import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { testSetFor } from '../../../src/model/data/dataset.js';
import { parseImages, parseLabels } from '../../../src/model/data/idx.js';
import { loadDataset } from '../../../src/model/data/load.js';
import { UserError } from '../../../src/shared/errors.js';
import { idxFile, imagesFile, labelsFile, withFolder } from '../../support/idx-files.js';

const images = Uint8Array.from({ length: 3 * 784 }, (_, i) => i % 251);
const labels = Uint8Array.of(7, 0, 9);
const good = {
  'train-images-idx3-ubyte': imagesFile(images),
  'train-labels-idx1-ubyte': labelsFile(labels),
  't10k-images-idx3-ubyte': imagesFile(images.subarray(784)),
  't10k-labels-idx1-ubyte': labelsFile(labels.subarray(1)),
};

type GoodFile = keyof typeof good;

/** The files but for one. */
function without(missing: GoodFile): Record<string, Uint8Array> {
  return Object.fromEntries(Object.entries(good).filter(([name]) => name !== missing));
}

/** The files under other names. */
function renamed(rename: (name: string) => string): Record<string, Uint8Array> {
  return Object.fromEntries(Object.entries(good).map(([name, bytes]) => [rename(name), bytes]));
}

describe('loadDataset()', () => {
  test('reads MNIST from its package', async () => {
    const { name, train, test: testSet } = await loadDataset('mnist');
    expect(name).toBe('mnist');
    expect([train.images.length, train.labels.length]).toEqual([60_000 * 784, 60_000]);
    expect([testSet.images.length, testSet.labels.length]).toEqual([10_000 * 784, 10_000]);
    expect([...train.labels.subarray(0, 10)]).toEqual([5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    const sha256 = createHash('sha256').update(train.images).digest('hex');
    expect(sha256).toBe('741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757');
  });

  test.each<[string, (name: string) => string]>([
    ['plain', (name) => name],
    ['gzipped', (name) => `${name}.gz`],
    ['dotted', (name) => name.replace('-idx', '.idx')],
    ['prefixed', (name) => `emnist-digits-${name.replace('t10k', 'test')}.gz`],
  ])('reads a folder of %s files', async (_, rename) => {
    await withFolder(renamed(rename), async (dir) => {
      const dataset = await loadDataset(dir);
      expect(dataset.name).toBe(basename(dir));
      expect(Buffer.compare(dataset.train.images, images)).toBe(0);
      expect([...dataset.train.labels]).toEqual([7, 0, 9]);
      expect(Buffer.compare(dataset.test.images, images.subarray(784))).toBe(0);
      expect([...dataset.test.labels]).toEqual([0, 9]);
    });
  });

  test('takes the plain file where the gzipped one is there too', async () => {
    const files = { ...good, 'train-labels-idx1-ubyte.gz': Uint8Array.of(1) };
    await withFolder(files, async (dir) => {
      expect([...(await loadDataset(dir)).train.labels]).toEqual([7, 0, 9]);
    });
  });

  test('refuses a folder of several datasets', async () => {
    const files = { ...renamed((name) => `a-${name}`), ...renamed((name) => `b-${name}`) };
    await withFolder(files, async (dir) => {
      await expect(loadDataset(dir)).rejects.toThrow(
        `Cannot load the dataset ${dir}: it holds several (a-*, b-*); put the four files of one into a folder`,
      );
    });
  });

  test('names the missing file', async () => {
    await withFolder(without('t10k-labels-idx1-ubyte'), async (dir) => {
      await expect(loadDataset(dir)).rejects.toThrow(
        new UserError(
          `Cannot load the dataset ${dir}: t10k-labels-idx1-ubyte is missing, plain or as .gz`,
        ),
      );
    });
    await withFolder({}, async (dir) => {
      await expect(loadDataset(dir)).rejects.toThrow('train-images-idx3-ubyte is missing');
    });
  });

  test('names a folder that is not there', async () => {
    await expect(loadDataset('no/such/folder')).rejects.toThrow(
      'Cannot load the dataset no/such/folder: expected mnist, an .npz file, or a folder of pictures, Parquet or IDX files',
    );
  });

  test('refuses counts that differ', async () => {
    const files = { ...good, 'train-labels-idx1-ubyte': labelsFile(labels.subarray(1)) };
    await withFolder(files, async (dir) => {
      const file = join(dir, 'train-images-idx3-ubyte');
      await expect(loadDataset(dir)).rejects.toThrow(
        `Cannot use ${file}: it has 3 images, but ${join(dir, 'train-labels-idx1-ubyte')} has 2 labels`,
      );
    });
  });

  test('refuses a damaged gzip file', async () => {
    await withFolder(
      renamed((name) => `${name}.gz`),
      async (dir) => {
        const file = join(dir, 'train-images-idx3-ubyte.gz');
        await writeFile(file, Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 99));
        const loading = loadDataset(dir);
        await expect(loading).rejects.toThrow(UserError);
        await expect(loading).rejects.toThrow(`Cannot read ${file}: unexpected end of file`);
      },
    );
  });

  test('stops unpacking a file that never ends', async () => {
    // The other 67 millions are not unpacked.
    const files = {
      ...without('train-labels-idx1-ubyte'),
      'train-labels-idx1-ubyte.gz': idxFile([0x801, 20], new Uint8Array(2 ** 26)),
    };
    await withFolder(files, async (dir) => {
      await expect(loadDataset(dir)).rejects.toThrow(
        'it has more than the 28 bytes that its header promises',
      );
    });
  });

  test('refuses a folder in the place of a file', async () => {
    await withFolder(without('train-images-idx3-ubyte'), async (dir) => {
      await mkdir(join(dir, 'train-images-idx3-ubyte'));
      await expect(loadDataset(dir)).rejects.toThrow('it is not a regular file');
    });
  });
});

describe('parseImages()', () => {
  test.each<[string, Uint8Array, string]>([
    ['an empty file', new Uint8Array(0), 'it is truncated, 0 bytes do not hold the header of 16'],
    [
      'labels',
      labelsFile(new Uint8Array(20)),
      'its magic number is 0x00000801, expected 0x00000803 for images',
    ],
    [
      'images that are too large',
      idxFile([0x803, 1, 1025, 2], new Uint8Array(2050)),
      'its images are 1025×2, expected up to 1024×1024 pixels and 4 channels',
    ],
    [
      'images without a pixel',
      idxFile([0x803, 1, 0, 2], new Uint8Array(0)),
      'its images are 0×2, expected up to 1024×1024 pixels and 4 channels',
    ],
    [
      'too many channels',
      idxFile([0x804, 1, 5, 2, 2], new Uint8Array(20)),
      'its images are 5 channels of 2×2, expected up to 1024×1024 pixels and 4 channels',
    ],
    [
      'a truncated file',
      imagesFile(images).subarray(0, -1),
      'it is truncated, its header promises 2368 bytes and there are 2367',
    ],
    [
      'trailing bytes',
      Buffer.concat([imagesFile(images), Uint8Array.of(1, 2)]),
      '2 bytes follow the 2368 that its header promises',
    ],
    [
      'no images',
      imagesFile(new Uint8Array(0)),
      'its header promises 0 images, expected 1 to 1000000',
    ],
    [
      'absurd counts',
      idxFile([0x803, 0xffffffff, 28, 28], images),
      'its header promises 4294967295 images',
    ],
  ])('refuses %s', (_, bytes, message) => {
    expect(() => parseImages(bytes, 'FILE')).toThrow(UserError);
    expect(() => parseImages(bytes, 'FILE')).toThrow(`Cannot read FILE: ${message}`);
  });
});

describe('images of other shapes', () => {
  const folder = (train: readonly number[], test: readonly number[], labels = [0, 1]) => {
    const file = (shape: readonly number[]) =>
      idxFile(
        [shape.length === 2 ? 0x803 : 0x804, 2, ...shape],
        new Uint8Array(2 * shape.reduce((a, b) => a * b)).map((_, i) => i % 251),
      );
    return {
      'train-images-idx3-ubyte': file(train),
      'train-labels-idx1-ubyte': labelsFile(labels),
      't10k-images-idx3-ubyte': file(test),
      't10k-labels-idx1-ubyte': labelsFile([0, 1]),
    };
  };

  test('loadDataset() takes the shape from the files, and the labels that occur as classes', async () => {
    await withFolder(folder([3, 5, 7], [3, 5, 7], [0, 25]), async (dir) => {
      const { input, classNames, train } = await loadDataset(dir);
      expect(input).toEqual({ channels: 3, height: 5, width: 7 });
      expect(classNames).toEqual(['0', '1', '25']);
      expect([...train.labels]).toEqual([0, 2]);
      expect(train.images.length).toBe(2 * 3 * 5 * 7);
    });
    await withFolder(folder([6, 9], [6, 9]), async (dir) => {
      const { input, classNames } = await loadDataset(dir);
      expect(input).toEqual({ channels: 1, height: 6, width: 9 });
      expect(classNames).toHaveLength(10);
    });
  });

  test('loadDataset() refuses a test set of another shape', async () => {
    await withFolder(folder([3, 5, 7], [5, 7]), async (dir) => {
      await expect(loadDataset(dir)).rejects.toThrow(
        /its images are 5×7, those of .* are 3 channels of 5×7/,
      );
    });
  });

  test('testSetFor() refuses a dataset that the model is not for', async () => {
    await withFolder(folder([5, 7], [5, 7]), async (dir) => {
      const dataset = await loadDataset(dir);
      expect(testSetFor(dataset, dataset)).toBe(dataset.test);
      const { input } = dataset;
      expect(() => testSetFor({ input, classNames: ['a'] }, dataset)).toThrow(
        'it has the class 0, which is none of a',
      );
      const other = { input: { ...input, width: 8 }, classNames: dataset.classNames };
      expect(() => testSetFor(other, dataset)).toThrow('are 5×7, those of the model 5×8');
    });
  });
});

describe('parseLabels()', () => {
  test('refuses images', () => {
    expect(() => parseLabels(imagesFile(images), 'FILE')).toThrow(
      'its magic number is 0x00000803, expected 0x00000801 for labels',
    );
  });
});

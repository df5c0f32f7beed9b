import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createSamples } from '../../../src/coordinator/samples.js';
import { loadDataset } from '../../../src/model/data/load.js';
import type { Loading } from '../../../src/model/data/picture-set.js';
import { UserError } from '../../../src/shared/errors.js';
import { parquet, type ParquetOptions, type ParquetRow } from '../../support/parquet-files.js';
import { coloredFiles, folderOf, jpg, plain } from '../../support/picture-folders.js';

const CLASSES = ['blue', 'green', 'red'];
const FILES = coloredFiles(5, 2);

/** What a folder of pictures has in its training or test set. */
function rowsOf(split: 'train' | 'test'): ParquetRow[] {
  return Object.entries(FILES)
    .filter(([name]) => name.startsWith(`${split}/`))
    .map(([name, bytes]) => ({ bytes, label: CLASSES.indexOf(name.split('/')[1]) }));
}

const TRAIN = rowsOf('train');
const TEST = rowsOf('test');
const NAMED = { classNames: CLASSES };

const good = (options: ParquetOptions = NAMED) => ({
  'data/train-00000-of-00002.parquet': parquet(TRAIN.slice(0, 8), options),
  'data/train-00001-of-00002.parquet': parquet(TRAIN.slice(8), options),
  'data/test-00000-of-00001.parquet': parquet(TEST, options),
});

const load = async (
  files: Readonly<Record<string, Uint8Array>>,
  options = {},
  loading: Loading = {},
) => loadDataset(await folderOf(files), options, loading);

describe('a folder of Parquet files', () => {
  test('is the dataset of the folder that has the same pictures, to the bit', async () => {
    const ofFolder = await load(FILES);
    for (const options of [
      NAMED,
      { ...NAMED, rowsPerGroup: 3, codec: 'UNCOMPRESSED' as const },
      {
        ...NAMED,
        codec: 'GZIP' as const,
        compressors: { GZIP: (bytes: Uint8Array) => gzipSync(bytes) },
      },
    ]) {
      const ofParquet = await load(good(options));
      expect(ofParquet).toEqual(ofFolder);
      expect(createSamples(ofParquet, 0).datasetId).toBe(createSamples(ofFolder, 0).datasetId);
    }
  });

  test('may be of another writer: DuckDB, pages of version 1, {bytes, path} from read_blob()', async () => {
    const ofFolder = await load(FILES);
    const { train, test: testSet, classNames } = await loadDataset('test/golden/parquet');
    expect({ classNames, train, test: testSet }).toEqual({
      ...{ classNames: ofFolder.classNames, train: ofFolder.train, test: ofFolder.test },
    });
  });

  test('is found in the folder, in that of a configuration, and behind links', async () => {
    const files = {
      'train.parquet': parquet(TRAIN, NAMED),
      'validation-00000-of-00001.parquet': parquet(TEST, NAMED),
    };
    const first = await load(files);
    const nested = Object.fromEntries(
      Object.entries(files).map(([name, bytes]) => [`mnist/${name}`, bytes]),
    );
    const dir = await folderOf(nested);
    await symlink(dir, join(dir, 'loop'));
    await symlink('nowhere', join(dir, 'broken'));
    expect(await loadDataset(dir)).toEqual(first);
    expect((await loadDataset(join(dir, 'mnist'))).test).toEqual(first.test);
    await expect(load({ ...nested, 'other/train.parquet': parquet(TRAIN, NAMED) })).rejects.toThrow(
      'it has several datasets (mnist and other); name one of these folders',
    );
  });

  test('may be one file, is split by content, resized, and cached', async () => {
    const dir = await folderOf({ 'set.parquet': parquet([...TRAIN, ...TEST], NAMED) });
    const path = join(dir, 'set.parquet');
    await expect(loadDataset(path)).rejects.toThrow('it has no test set; give --test-fraction 0.2');
    const options = { testFraction: 0.4, imageSize: '5x7', color: 'grey' } as const;
    const first = await loadDataset(path, options);
    expect(first).toMatchObject({ name: 'set', input: { channels: 1, height: 5, width: 7 } });
    expect(first.train.labels.length + first.test.labels.length).toBe(21);
    const messages: string[] = [];
    const report = (message: string) => messages.push(message);
    expect(await loadDataset(path, options, { report })).toEqual(first);
    expect(messages).toEqual([expect.stringMatching(/^Read 21 pictures from /)]);
  });

  test('takes the columns that it finds, and numbers for names', async () => {
    const options = { pictureName: 'img', labelName: 'fine_label' };
    const moved = (rows: readonly ParquetRow[]) =>
      rows.map(({ bytes, label }) => ({ bytes, label: 10 * label! - 3 }));
    const { classNames, train } = await load({
      'train.parquet': parquet(moved(TRAIN), options),
      'test.parquet': parquet(moved(TEST), options),
    });
    expect(classNames).toEqual(['-3', '7', '17']);
    expect(new Set(train.labels)).toEqual(new Set([0, 1, 2]));
  });

  test('fails for a picture that cannot be read, or leaves it out', async () => {
    const rows = [
      ...TRAIN,
      { bytes: null, label: 0 },
      { bytes: Buffer.from('hello'), label: 1 },
      { bytes: jpg(12, 12, () => [9, 9, 9]), label: 2 },
    ];
    const files = { ...good(), 'data/train-00001-of-00002.parquet': parquet(rows, NAMED) };
    await expect(load(files)).rejects.toThrow(
      /^Cannot read row 16 of .*train-00001-of-00002\.parquet: it has no bytes \(and 1 others\); to leave/,
    );
    const warnings: string[] = [];
    const warn = (message: string) => warnings.push(message);
    const { train } = await load(files, { badImages: 'skip' }, { warn });
    expect(train.labels).toHaveLength(8 + 16);
    expect(warnings.at(1)).toMatch(
      /^Cannot read row 17 of .*: it is neither a PNG nor a JPEG file$/,
    );
  });

  test.each<[string, Record<string, Uint8Array>, object, string]>([
    [
      'without a test set',
      { 'data/train-0.parquet': parquet(TRAIN, NAMED) },
      {},
      'has no test-….parquet; add it, or give --test-fraction 0.2',
    ],
    ['with two test sets', good(), { testFraction: 0.5 }, 'leave --test-fraction out'],
    ['without a training set', { 'test.parquet': parquet(TEST, NAMED) }, {}, 'no train-….parquet'],
    [
      'with a shard missing',
      {
        ...good(),
        'data/test-00000-of-00001.parquet': new Uint8Array(),
        'data/test-00001-of-00003.parquet': new Uint8Array(),
      },
      {},
      '2 of the 1 files of test-00000-of-00001.parquet are there',
    ],
    [
      'with other classes in its test set',
      { ...good(), 'data/test-00000-of-00001.parquet': parquet(TEST, { classNames: ['x', 'y'] }) },
      {},
      'names other classes than',
    ],
    [
      'with one class',
      {
        'train.parquet': parquet([{ bytes: plain([1, 1, 1]), label: 0 }], { classNames: ['all'] }),
        'test.parquet': parquet([{ bytes: plain([1, 1, 1]), label: 0 }], { classNames: ['all'] }),
      },
      {},
      'it has 1 classes, expected 2 to 1000',
    ],
    [
      'with a label that is no class, as test sets without labels have',
      {
        ...good(),
        'data/test-00000-of-00001.parquet': parquet(
          [{ bytes: plain([1, 1, 1]), label: -1 }],
          NAMED,
        ),
      },
      {},
      'has the label -1, expected 0 to 2',
    ],
    [
      'with a row without a label',
      {
        ...good(),
        'data/test-00000-of-00001.parquet': parquet([...TEST, { bytes: null, label: null }], NAMED),
      },
      {},
      'its row 7 has no label',
    ],
    [
      'with two classes of one name',
      good({ classNames: ['a', 'b', 'a'] }),
      {},
      'two classes named a',
    ],
    ['with metadata that is no JSON', good({ features: '{' }), {}, '"huggingface" is damaged'],
  ])('is refused %s', async (_, files, options, message) => {
    const loading = load(files, options);
    await expect(loading).rejects.toThrow(UserError);
    await expect(loading).rejects.toThrow(message);
  });
});

describe('a hostile Parquet file', () => {
  const test_ = parquet(TEST, NAMED);
  const withTrain = (bytes: Uint8Array) => ({ 'train.parquet': bytes, 'test.parquet': test_ });

  test('is refused in one sentence wherever it is cut off, and whatever bytes are changed', async () => {
    const whole = parquet(TRAIN, NAMED);
    const damage = fc.oneof(
      fc.nat(whole.length - 1).map((length) => whole.subarray(0, length)),
      fc
        .array(fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 })), {
          minLength: 1,
          maxLength: 8,
        })
        .map((changes) => {
          const bytes = whole.slice();
          for (const [at, change] of changes) bytes[at] ^= change;
          return bytes;
        }),
    );
    await fc.assert(
      fc.asyncProperty(damage, async (bytes) => {
        const loading = load(withTrain(bytes), { badImages: 'skip', imageSize: '4' });
        await loading.catch((error: unknown) => {
          expect(error).toBeInstanceOf(UserError);
          expect((error as Error).message).not.toContain('\n');
        });
      }),
      { numRuns: 300 },
    );
  });

  test('with runs of more values than it has rows is refused', async () => {
    // Numbers of one bit in the dictionary of labels: a run of 2³⁰ in place of those of the rows.
    const bomb = (page: Uint8Array) => {
      const bytes = Buffer.alloc(page.length);
      Buffer.from([1, 0x80, 0x80, 0x80, 0x80, 0x08, 1]).copy(bytes);
      return gzipSync(bytes);
    };
    const rows = Array.from({ length: 60 }, () => TRAIN).flat();
    const bytes = parquet(rows, { ...NAMED, codec: 'GZIP', compressors: { GZIP: bomb } });
    await expect(load(withTrain(bytes))).rejects.toThrow(/^Cannot read .*train\.parquet: /);
  });

  test('whose pages are damaged within is refused', async () => {
    // A literal of −5 bytes would lead back to itself.
    const endless = (page: Uint8Array) =>
      Uint8Array.of(page.length, 0xfc, 0xfa, 0xff, 0xff, 0xff, 0, 0, 0, 0);
    const bytes = parquet(TRAIN, { ...NAMED, compressors: { SNAPPY: endless } });
    await expect(load(withTrain(bytes))).rejects.toThrow('a page cannot be unpacked');
  });

  test.each<[string, Uint8Array, string]>([
    ['empty', new Uint8Array(), 'it is no Parquet file'],
    ['a text', Buffer.from('hello, world'), 'it is no Parquet file'],
    ['cut off', parquet(TRAIN, NAMED).subarray(0, -3), 'it is truncated'],
  ])('is refused if it is %s', async (_, bytes, message) => {
    await expect(load(withTrain(bytes))).rejects.toThrow(message);
  });
});

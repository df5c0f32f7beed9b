import {
  chmod,
  mkdir,
  readdir,
  readFile,
  rename,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createSamples } from '../../../src/coordinator/samples.js';
import { testSetFor } from '../../../src/model/data/dataset.js';
import { loadDataset, loadTestSet } from '../../../src/model/data/load.js';
import { UserError } from '../../../src/shared/errors.js';
import { coloredFiles, folderOf, jpg, plain } from '../../support/picture-folders.js';

const idOf = async (dir: string, options = {}): Promise<string> =>
  createSamples(await loadDataset(dir, options), 0).datasetId;

/** The only file in the cache. */
async function cacheFile(): Promise<string> {
  const folder = join(process.env.XDG_CACHE_HOME!, 'lockstep', 'datasets');
  const names = await readdir(folder);
  expect(names).toHaveLength(1);
  return join(folder, names[0]);
}

describe('a folder of pictures', () => {
  test('has its classes in byte order, its images as channels, and is named after the folder', async () => {
    const dir = await folderOf({
      ...coloredFiles(2, 1),
      'train/Zebra/a.PNG': plain([9, 9, 9]),
      'train/notes.txt': Buffer.from('x'),
      'train/red/notes.txt': Buffer.from('x'),
      'train/red/.hidden.png': Buffer.from('x'),
    });
    const dataset = await loadDataset(dir);
    expect(dataset.name).toBe('pictures');
    expect(dataset.classNames).toEqual(['Zebra', 'blue', 'green', 'red']);
    expect(dataset.input).toEqual({ channels: 3, height: 12, width: 12 });
    expect([...dataset.train.labels].sort()).toEqual([0, 1, 1, 2, 2, 3, 3]);
    expect([...dataset.test.labels].sort()).toEqual([1, 2, 3]);
    dataset.train.labels.forEach((label, index) => {
      const image = dataset.train.images.subarray(432 * index, 432 * (index + 1));
      const color = [0, 1, 2].map((channel) => image[144 * channel + 143]);
      const colors = [
        [9, 9, 9],
        [0, 0, 255],
        [0, 255, 0],
        [255, 0, 0],
      ];
      expect(color).toEqual(colors[label]);
    });
  });

  test('is resized, and made grey', async () => {
    const dir = await folderOf(coloredFiles(1, 1));
    const { input, train } = await loadDataset(dir, { imageSize: '5x7', color: 'grey' });
    expect(input).toEqual({ channels: 1, height: 5, width: 7 });
    expect(
      [...train.labels].map((_, i) => train.images[35 * i + 34]).sort((a, b) => a - b),
    ).toEqual([29, 76, 150]);
  });

  test('is the same under other names, times and in another place', async () => {
    const files = coloredFiles(3, 2);
    const first = await idOf(await folderOf(files));
    const renamed = Object.fromEntries(
      Object.entries(files).map(([name, bytes]) => [
        name.replace(/(\d+)\.png/, 'x-$1.jpeg'),
        bytes,
      ]),
    );
    expect(await idOf(await folderOf(renamed))).toBe(first);
    expect(await idOf(await folderOf({ ...files, 'train/red/0.png': plain([1, 2, 3]) }))).not.toBe(
      first,
    );
  });

  test('is split by content: what is added moves nothing', async () => {
    const files = Object.fromEntries(
      Array.from({ length: 60 }, (_, i) => [
        `${i % 2 ? 'odd' : 'even'}/${i}.png`,
        plain([i % 2, 0, 0], i),
      ]),
    );
    const serials = (images: Uint8Array) =>
      Array.from({ length: images.length / 432 }, (_, i) => images[432 * i]);
    const options = { testFraction: 0.3 };
    const small = await loadDataset(await folderOf(files), options);
    const more = { ...files, 'odd/more.png': plain([7, 0, 0], 200) };
    const large = await loadDataset(await folderOf(more), options);
    expect(small.test.labels.length).toBeGreaterThan(6);
    expect(small.test.labels.length).toBeLessThan(32);
    const isOld = (serial: number) => serial !== 200;
    expect(serials(large.test.images).filter(isOld)).toEqual(serials(small.test.images));
    expect(serials(large.train.images).filter(isOld)).toEqual(serials(small.train.images));
  });

  test.skipIf(process.platform !== 'linux')(
    'names a class folder whose name is not UTF-8, and says what to do',
    async () => {
      const dir = await folderOf(coloredFiles(2, 1));
      await mkdir(Buffer.concat([Buffer.from(join(dir, 'train/caf')), Buffer.of(0xe9)]));
      await expect(loadDataset(dir)).rejects.toThrow(/train\/caf\uFFFD .*give it a name in UTF-8/);
    },
  );

  test('fails for a picture that cannot be read, or leaves it out', async () => {
    const dir = await folderOf({
      ...coloredFiles(2, 1),
      'train/red/bad.png': plain([1, 1, 1]).subarray(0, 60),
      'train/red/text.jpg': Buffer.from('hello'),
      'train/red/really-a-jpeg.png': jpg(12, 12, () => [250, 0, 0]),
    });
    await symlink(dir, join(dir, 'train/red/loop.png'));
    await symlink('self.png', join(dir, 'train/red/self.png'));
    await symlink('.', join(dir, 'train/red/more'));
    await symlink('0.png', join(dir, 'train/red/link.png'));
    const loading = loadDataset(dir);
    await expect(loading).rejects.toThrow(UserError);
    await expect(loading).rejects.toThrow(
      /^Cannot read .*loop\.png: it is not a regular file \(and 4 others\); to leave such pictures out, give --bad-images skip$/,
    );
    for (const source of ['read', 'cached']) {
      const warnings: string[] = [];
      const { train } = await loadDataset(
        dir,
        { badImages: 'skip' },
        { warn: (message) => warnings.push(message) },
      );
      expect([source, train.labels.length]).toEqual([source, 8]);
      expect(warnings).toHaveLength(6);
      expect(warnings.join('\n')).toContain('bad.png: it is a truncated PNG file');
      expect(warnings[5]).toBe('5 pictures cannot be read');
    }
  });

  test.each<[string, Record<string, Uint8Array>, object, string]>([
    [
      'without a test set',
      { 'train/a/1.png': plain([1, 0, 0]), 'train/b/1.png': plain([2, 0, 0]) },
      {},
      'it has no test set; make folders train/<class> and test/<class>, or give --test-fraction 0.2',
    ],
    ['with two test sets', coloredFiles(1, 1), { testFraction: 0.5 }, 'it has a folder test'],
    [
      'with an unknown class in its test set',
      { ...coloredFiles(1, 1), 'test/violet/1.png': plain([1, 0, 0]) },
      {},
      'is no class of',
    ],
    [
      'with one class',
      { 'train/a/1.png': plain([1, 0, 0]), 'test/a/1.png': plain([2, 0, 0]) },
      {},
      'has 1 folders, expected one a class, 2 to 1000',
    ],
    [
      'with pictures of two sizes',
      { ...coloredFiles(1, 1), 'train/red/large.png': plain([1, 0, 0], 0, 13) },
      {},
      'give all one size with --image-size',
    ],
    [
      'with an empty test set',
      { 'a/1.png': plain([1, 0, 0]), 'b/1.png': plain([2, 0, 0]) },
      { testFraction: 1e-9 },
      'its test set has no picture that can be read',
    ],
  ])('is refused %s', async (_, files, options, message) => {
    const loading = loadDataset(await folderOf(files), options);
    await expect(loading).rejects.toThrow(UserError);
    await expect(loading).rejects.toThrow(message);
  });

  test('prints its memory first, and stops when it is told', async () => {
    const dir = await folderOf(coloredFiles(100, 1));
    const stop = new AbortController();
    const messages: string[] = [];
    const loading = loadDataset(
      dir,
      {},
      {
        signal: stop.signal,
        report(message) {
          messages.push(message);
          if (messages.length === 2) stop.abort(new Error('stopped'));
        },
      },
    );
    await expect(loading).rejects.toThrow('stopped');
    expect(messages[0]).toMatch(
      /^Reading 303 pictures of 3 classes as 3 channels of 12×12: .* in memory/,
    );
    expect(messages[1]).toBe('Read 100 of 303 pictures');
  });
});

describe('the cache', () => {
  test('is read the next time, and gives the same', async () => {
    const dir = await folderOf(coloredFiles(3, 2));
    const first = await loadDataset(dir);
    const messages: string[] = [];
    const second = await loadDataset(dir, {}, { report: (message) => messages.push(message) });
    expect(messages).toEqual([`Read 15 pictures from ${await cacheFile()}`]);
    expect(second).toEqual(first);
  });

  test.each<[string, (dir: string) => Promise<void>]>([
    ['a file that is newer', (dir) => utimes(join(dir, 'train/red/0.png'), 1, 1)],
    ['a file more', (dir) => writeFile(join(dir, 'train/red/9.png'), plain([255, 0, 0], 99))],
    ['another name', (dir) => rename(join(dir, 'train/red/0.png'), join(dir, 'train/red/z.png'))],
    [
      'damage',
      async () => {
        const bytes = await readFile(await cacheFile());
        bytes[bytes.length - 1] ^= 1;
        await writeFile(await cacheFile(), bytes);
      },
    ],
    ['truncation', async () => writeFile(await cacheFile(), new Uint8Array(10))],
  ])('is not believed after %s', async (_, change) => {
    const dir = await folderOf(coloredFiles(3, 2));
    await loadDataset(dir);
    await change(dir);
    const messages: string[] = [];
    await loadDataset(dir, {}, { report: (message) => messages.push(message) });
    expect(messages[0]).toMatch(/^Reading /);
  });

  test('does without where it cannot be written', async () => {
    const dir = await folderOf(coloredFiles(3, 2));
    await writeFile(join(process.env.XDG_CACHE_HOME!, 'lockstep'), 'a file in its place');
    const warnings: string[] = [];
    const { train } = await loadDataset(dir, {}, { warn: (message) => warnings.push(message) });
    expect(train.labels.length).toBe(9);
    expect(warnings).toEqual([expect.stringMatching(/^No cache for the next time: cannot write /)]);
  });

  test('leaves a read-only folder as it is', async () => {
    const dir = await folderOf(coloredFiles(3, 2));
    const before = await readdir(dir, { recursive: true });
    await chmod(dir, 0o555);
    await loadDataset(dir);
    await chmod(dir, 0o755);
    expect(await readdir(dir, { recursive: true })).toEqual(before);
  });
});

test('testSetFor() goes by the names of the classes', async () => {
  const files = coloredFiles(1, 1);
  const all = await loadDataset(await folderOf(files));
  const some = await loadDataset(
    await folderOf(
      Object.fromEntries(Object.entries(files).filter(([name]) => !name.includes('blue'))),
    ),
  );
  const { labels } = testSetFor(all, some);
  expect([...labels].sort()).toEqual([1, 2]);
  expect(() => testSetFor(some, all)).toThrow('it has the class blue, which is none of green, red');
});

test('other datasets take no options of pictures', async () => {
  await mkdir(await folderOf({}), { recursive: true });
  await expect(loadDataset('mnist', { color: 'grey' })).rejects.toThrow(
    'Cannot use --color with the dataset mnist: it is for pictures',
  );
});

test("the test set of a run leaves out bad pictures if it is told to, and its split is the run's", async () => {
  const dir = await folderOf({
    ...coloredFiles(1, 2),
    'test/red/bad.png': Buffer.from('x'),
  });
  const { input, classNames } = await loadDataset(dir, { badImages: 'skip' });
  const checkpoint = { input, classNames, config: { dataset: dir } };
  await expect(loadTestSet(checkpoint, dir)).rejects.toThrow('give --bad-images skip');
  for (const path of [dir, `${dir}/`, `${dir}/../pictures`]) {
    const { test: images, source } = await loadTestSet(checkpoint, path, { badImages: 'skip' });
    expect([images.labels.length, source]).toEqual([6, dir]);
  }
  const given = { badImages: 'skip', testFraction: 0.5 } as const;
  await expect(loadTestSet(checkpoint, dir, given)).rejects.toThrow(
    'Cannot use --test-fraction 0.5 with the dataset of the run',
  );
});

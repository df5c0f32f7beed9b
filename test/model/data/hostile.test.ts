/** Datasets with a few bytes changed: they load, or are refused in one sentence. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { loadDataset } from '../../../src/model/data/load.js';
import { zipOf } from '../../../src/model/data/zip.js';
import { UserError } from '../../../src/shared/errors.js';
import { idxFile, imagesFile, labelsFile } from '../../support/idx-files.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

const IMAGES = Uint8Array.from({ length: 6 * 16 }, (_, index) => index);
const IDX: Readonly<Record<string, Uint8Array>> = {
  'train-images-idx3-ubyte': imagesFile(IMAGES, 4),
  'train-labels-idx1-ubyte.gz': gzipSync(labelsFile([0, 1, 2, 3, 4, 5])),
  't10k-images-idx3-ubyte.gz': gzipSync(idxFile([0x804, 6, 1, 4, 4], IMAGES)),
  't10k-labels-idx1-ubyte': labelsFile([0, 1, 2, 3, 4, 5]),
};

function npy(shape: string, body: Uint8Array): Buffer {
  const header =
    `{'descr': '|u1', 'fortran_order': False, 'shape': (${shape}), }`.padEnd(117) + '\n';
  const start = Buffer.from('\x93NUMPY\x01\x00\x76\x00', 'latin1');
  return Buffer.concat([start, Buffer.from(header), body]);
}
const NPZ = zipOf(
  ['train', 'test'].flatMap((split) => [
    { name: `x_${split}.npy`, bytes: npy('6, 4, 4', IMAGES) },
    { name: `y_${split}.npy`, bytes: npy('6,', Uint8Array.of(0, 1, 2, 3, 4, 5)) },
  ]),
);

/** Some bytes changed, and perhaps the end cut off. */
const damage = (bytes: Uint8Array) =>
  fc
    .tuple(
      fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { maxLength: 4 }),
      fc.option(fc.nat(bytes.length), { nil: bytes.length }),
    )
    .map(([changes, length]) => {
      const changed = Uint8Array.from(bytes);
      for (const [at, value] of changes) changed[at] = value;
      return changed.subarray(0, length);
    });

async function expectClean(path: string): Promise<void> {
  const found: unknown = await loadDataset(path).catch((error: unknown) => error);
  if (!(found instanceof Error)) return;
  expect(found).toBeInstanceOf(UserError);
  expect(found.message).toMatch(/^Cannot [^\p{Cc}]{10,600}$/u);
}

test.each(Object.keys(IDX))('%s loads or is refused, whatever its bytes', async (name) => {
  const dir = join(await temporaryDirectory(), 'set');
  await mkdir(dir);
  for (const [file, bytes] of Object.entries(IDX)) await writeFile(join(dir, file), bytes);
  expect((await loadDataset(dir)).train.labels).toHaveLength(6);
  await fc.assert(
    fc.asyncProperty(damage(IDX[name]), async (bytes) => {
      await writeFile(join(dir, name), bytes);
      await expectClean(dir);
    }),
    { numRuns: 100 },
  );
});

test('an NPZ file loads or is refused, whatever its bytes', async () => {
  const path = join(await temporaryDirectory(), 'set.npz');
  await writeFile(path, NPZ);
  expect((await loadDataset(path)).test.labels).toHaveLength(6);
  await fc.assert(
    fc.asyncProperty(damage(NPZ), async (bytes) => {
      await writeFile(path, bytes);
      await expectClean(path);
    }),
    { numRuns: 300 },
  );
});

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { loadDataset } from '../../../src/model/data/load.js';
import { UserError } from '../../../src/shared/errors.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

function npy(descr: string, shape: readonly number[], body: Uint8Array, isFortran = false): Buffer {
  const order = isFortran ? 'True' : 'False';
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  const text = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${tuple}, }`;
  const header = Buffer.from(`${text.padEnd(117)}\n`);
  const start = Buffer.from('\x93NUMPY\x01\x00  ', 'latin1');
  start.writeUInt16LE(header.length, 8);
  return Buffer.concat([start, header, body]);
}

/** An archive as `np.savez_compressed` makes it; `size` in place of the true one. */
function zip(files: Readonly<Record<string, Buffer>>, size?: number): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, bytes] of Object.entries(files)) {
    const packed = deflateRawSync(bytes);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50);
    local.writeUInt16LE(name.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50);
    entry.writeUInt16LE(8, 10);
    entry.writeUInt32LE(crc32(bytes), 16);
    entry.writeUInt32LE(packed.length, 20);
    entry.writeUInt32LE(size ?? bytes.length, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE(offset, 42);
    parts.push(local, Buffer.from(name), packed);
    directory.push(entry, Buffer.from(name));
    offset += 30 + name.length + packed.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(Object.keys(files).length, 10);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, ...directory, end]);
}

const images = Uint8Array.from({ length: 2 * 12 }, (_, i) => i);
const labels = BigInt64Array.of(-3n, 40n);
const good = {
  'x_train.npy': npy('|u1', [2, 2, 2, 3], images),
  'y_train.npy': npy('<i8', [2, 1], new Uint8Array(labels.buffer)),
  'x_test.npy': npy('|u1', [1, 2, 2, 3], images.subarray(12)),
  'y_test.npy': npy('>u2', [1], Uint8Array.of(0, 12)),
};

async function load(bytes: Uint8Array) {
  const path = join(await temporaryDirectory(), 'set.npz');
  await writeFile(path, bytes);
  return loadDataset(path);
}

describe('an NPZ file', () => {
  test('has images of channels, and any whole numbers as labels', async () => {
    const { name, input, classNames, train, test: testSet } = await load(zip(good));
    expect(name).toBe('set');
    expect(input).toEqual({ channels: 3, height: 2, width: 2 });
    expect(classNames).toEqual(['-3', '12', '40']);
    expect([...train.labels, ...testSet.labels]).toEqual([0, 2, 1]);
    expect([...train.images.subarray(0, 12)]).toEqual([0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);
  });

  test('of grey images of digits has ten classes', async () => {
    const { input, classNames } = await load(
      zip({
        ...good,
        'x_train.npy': npy('|u1', [2, 3, 4], images),
        'y_train.npy': npy('|u1', [2], Uint8Array.of(3, 4)),
        'x_test.npy': npy('|u1', [1, 3, 4], images.subarray(12)),
        'y_test.npy': npy('|i1', [1], Uint8Array.of(3)),
      }),
    );
    expect(input).toEqual({ channels: 1, height: 3, width: 4 });
    expect(classNames).toHaveLength(10);
  });

  const noY = { 'x_train.npy': good['x_train.npy'] };
  test.each<[string, Uint8Array, string]>([
    ['a text', Buffer.from('hello, world'), 'it is no ZIP archive, or truncated'],
    ['a truncated archive', zip(good).subarray(0, -1), 'it is no ZIP archive, or truncated'],
    ['a missing array', zip(noY), 'the array y_train is missing'],
    ['a bomb', zip(good, 2 ** 32 - 1), 'has 4294967295 bytes, expected at most 2147483648'],
    ['a wrong size', zip(good, 40), 'Cannot read'],
    [
      'reals',
      zip({ ...good, 'x_train.npy': npy('<f4', [2, 1, 3], images) }),
      'x_train.npy has values of type <f4, expected whole numbers',
    ],
    [
      "Fortran's order",
      zip({ ...good, 'x_train.npy': npy('|u1', [2, 2, 2, 3], images, true) }),
      "in Fortran's order",
    ],
    [
      'a shape that its bytes do not have',
      zip({ ...good, 'x_train.npy': npy('|u1', [9, 2, 2, 3], images) }),
      'x_train.npy has 24 bytes, its header promises 108',
    ],
    [
      'five dimensions',
      zip({ ...good, 'x_train.npy': npy('|u1', [2, 2, 2, 3, 1], images) }),
      'expected (n, H, W) or (n, H, W, C) of uint8',
    ],
    [
      'labels for other images',
      zip({ ...good, 'y_train.npy': npy('|u1', [3], Uint8Array.of(1, 2, 3)) }),
      'y_train is (3), expected (2,)',
    ],
    [
      'test images of another shape',
      zip({ ...good, 'x_test.npy': npy('|u1', [1, 2, 2, 1], images.subarray(0, 4)) }),
      'its test images are 2×2',
    ],
  ])('is refused if it is %s', async (_, bytes, message) => {
    const loading = load(bytes);
    await expect(loading).rejects.toThrow(UserError);
    await expect(loading).rejects.toThrow(/^Cannot read .*set\.npz: /);
    await expect(loading).rejects.toThrow(message);
  });
});

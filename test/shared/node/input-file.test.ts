import { execFileSync } from 'node:child_process';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  linesOf,
  openInput,
  readInput,
  readInputText,
  readShortText,
  withInput,
} from '../../../src/shared/node/input-file.js';
import { checkRatio, gunzipFile } from '../../../src/shared/node/unpack.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

async function fileOf(bytes: Uint8Array | string): Promise<string> {
  const path = join(await temporaryDirectory(), 'file');
  await writeFile(path, bytes);
  return path;
}

describe('openInput()', () => {
  test('gives pieces of a file, and not what is beyond its end', async () => {
    await withInput(await fileOf('0123456789'), async (file) => {
      expect(file.size).toBe(10);
      expect(Buffer.from(await file.read(3, 4)).toString()).toBe('3456');
      await expect(file.read(8, 3)).rejects.toThrow('it is truncated');
      await expect(file.read(0, 2 ** 50)).rejects.toThrow('it is truncated');
    });
  });

  test('notices a file that becomes shorter', async () => {
    const path = await fileOf('0123456789');
    await withInput(path, async (file) => {
      await truncate(path, 5);
      await expect(file.read(0, 10)).rejects.toThrow('it has changed while it was read');
    });
  });

  test('refuses a folder, and a pipe without waiting for it', async () => {
    const dir = await temporaryDirectory();
    await expect(openInput(dir)).rejects.toThrow('it is not a regular file');
    if (process.platform === 'win32') return;
    execFileSync('mkfifo', [join(dir, 'pipe')]);
    await expect(openInput(join(dir, 'pipe'))).rejects.toThrow('it is not a regular file');
  });
});

test('readInput() reads nothing of a file that is too long', async () => {
  const path = await fileOf('Grüße');
  expect(await readInputText(path, 7)).toBe('Grüße');
  await expect(readInput(path, 6)).rejects.toThrow('it has more than 6 bytes');
  await truncate(path, 2 ** 40);
  await expect(readInput(path, 2 ** 30)).rejects.toThrow('it has more than 1073741824 bytes');
});

test('readShortText() leaves out a byte order mark', async () => {
  expect(readShortText(await fileOf('\uFEFF{}'), 100)).toBe('{}');
});

test('readShortText() stops at its bound, and takes a pipe', async () => {
  expect(readShortText(await fileOf('abc'), 3)).toBe('abc');
  const path = await fileOf('abcd');
  expect(() => readShortText(path, 3)).toThrow('it has more than 3 bytes');
});

test('linesOf() gives every line with its end, and null for a longer one', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ maxLength: 30 }).map((line) => line.replace(/\n/g, ''))),
      fc.boolean(),
      async (lines, isEnded) => {
        const text = lines.join('\n') + (isEnded ? '\n' : '');
        const expected = text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
        const found: (string | null)[] = [];
        for await (const line of linesOf(await fileOf(text), 20)) {
          found.push(line?.toString() ?? null);
        }
        expect(found).toEqual(expected.map((line) => (Buffer.byteLength(line) > 20 ? null : line)));
      },
    ),
    { numRuns: 50 },
  );
});

test('linesOf() finds lines across the pieces that it reads', async () => {
  const line = `${'x'.repeat(700_000)}\n`;
  const lengths: unknown[] = [];
  for await (const found of linesOf(await fileOf(`${line}${line}a`), 800_000)) {
    lengths.push(found?.length);
  }
  expect(lengths).toEqual([700_001, 700_001, 1]);
});

describe('gunzipFile()', () => {
  const unpack = async (packed: Uint8Array, promised: number) =>
    withInput(await fileOf(packed), (file) => gunzipFile(file, 4, () => promised));

  test('gives what is promised, however short', async () => {
    for (const content of ['', 'abc', 'abcd', 'x'.repeat(100_000)]) {
      const bytes = await unpack(gzipSync(content), content.length);
      expect(Buffer.from(bytes).toString()).toBe(content);
    }
  });

  test('stops at more than is promised, and gives what there is of less', async () => {
    await expect(unpack(gzipSync(Buffer.alloc(100_000)), 99_999)).rejects.toThrow(
      'it has more than the 99999 bytes that its header promises',
    );
    expect(await unpack(gzipSync(Buffer.alloc(100)), 120)).toHaveLength(100);
  });

  test('says of any bytes what is wrong with them', async () => {
    const good = gzipSync(Buffer.from('0123456789'.repeat(20)));
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.nat(255), async (at, value) => {
        const bytes = Buffer.from(good);
        bytes[at] = value;
        const found = await unpack(bytes, 200).catch((error: unknown) => error);
        expect(found instanceof Error || (found as Uint8Array).length <= 200).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});

test('checkRatio() lets pass what is small, or not out of proportion', () => {
  checkRatio(1, 2 ** 26);
  checkRatio(2 ** 20, 200 * 2 ** 20);
  expect(() => checkRatio(1000, 2 ** 26 + 1)).toThrow(
    'it unpacks 1000 bytes to 67108865, more than 200 times as many',
  );
});

import { execFileSync } from 'node:child_process';
import { lstat, mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { fileStorage } from '../../../src/shared/node/storage.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

describe('fileStorage', () => {
  test('writeDurably() makes the folder and replaces the file, with nothing left beside it', async () => {
    const dir = join(await temporaryDirectory(), 'a', 'b');
    const path = join(dir, 'file');
    await fileStorage.writeDurably(path, Uint8Array.of(1, 2, 3));
    await fileStorage.writeDurably(path, Uint8Array.of(4));
    expect([...(await readFile(path))]).toEqual([4]);
    const file = await fileStorage.open(path);
    expect([file.size, ...(await file.read(0, 1))]).toEqual([1, 4]);
    await file.close();
    expect(await readdir(dir)).toEqual(['file']);
  });

  test('writeDurably() leaves nothing behind when it fails', async () => {
    const dir = await temporaryDirectory();
    await mkdir(join(dir, 'taken'));
    await expect(fileStorage.writeDurably(join(dir, 'taken'), Uint8Array.of(1))).rejects.toThrow();
    expect(await readdir(dir)).toEqual(['taken']);
  });

  test('writeDurably() leaves none of the folders that it made when it fails, and all others', async () => {
    const dir = await temporaryDirectory();
    await mkdir(join(dir, 'there'));
    // A name with room for nothing more: the half-written file cannot be made.
    const name = 'x'.repeat(255);
    for (const folder of ['a/b', 'there', 'there/c']) {
      const path = join(dir, folder, name);
      await expect(fileStorage.writeDurably(path, Uint8Array.of(1))).rejects.toThrow(/TOOLONG/);
    }
    expect(await readdir(dir, { recursive: true })).toEqual(['there']);
  });

  test.skipIf(process.platform === 'win32')(
    'writeDurably() leaves a pipe or a device where it is',
    async () => {
      const dir = await temporaryDirectory();
      const pipe = join(dir, 'pipe');
      execFileSync('mkfifo', [pipe]);
      await expect(fileStorage.writeDurably(pipe, Uint8Array.of(1))).rejects.toThrow(/no file/);
      expect((await lstat(pipe)).isFIFO()).toBe(true);
      expect(await readdir(dir)).toEqual(['pipe']);
    },
  );

  test('list() names the files, and none where there is no folder', async () => {
    const dir = await temporaryDirectory();
    await fileStorage.writeDurably(join(dir, 'one'), Uint8Array.of(1));
    expect(await fileStorage.list(dir)).toEqual(['one']);
    expect(await fileStorage.list(join(dir, 'none'))).toEqual([]);
    expect(await fileStorage.list(join(dir, 'one'))).toEqual([]);
  });

  test('remove() removes a file, and does not mind its absence', async () => {
    const dir = await temporaryDirectory();
    await fileStorage.writeDurably(join(dir, 'one'), Uint8Array.of(1));
    await fileStorage.remove(join(dir, 'one'));
    await fileStorage.remove(join(dir, 'one'));
    expect(await readdir(dir)).toEqual([]);
  });
});

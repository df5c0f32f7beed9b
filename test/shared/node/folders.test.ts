import { readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { isFolder, makeFolders } from '../../../src/shared/node/folders.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

test('makeFolders() makes those above too, and tells the first that was not there', async () => {
  const dir = await temporaryDirectory();
  expect(await makeFolders(join(dir, 'a', 'b', 'c'))).toBe(join(dir, 'a'));
  expect(await isFolder(join(dir, 'a', 'b', 'c'))).toBe(true);
  expect(await makeFolders(join(dir, 'a', 'd'))).toBe(join(dir, 'a', 'd'));
  expect(await makeFolders(join(dir, 'a'))).toBeUndefined();
  expect(await makeFolders('/')).toBeUndefined();
});

test('makeFolders() that fails half-way leaves nothing', async () => {
  const dir = await temporaryDirectory();
  await expect(makeFolders(join(dir, 'a', 'b', 'x'.repeat(256)))).rejects.toThrow(/TOOLONG/);
  expect(await readdir(dir)).toEqual([]);
});

test('makeFolders() of many at once makes one', async () => {
  const path = join(await temporaryDirectory(), 'a', 'b', 'c');
  await Promise.all(Array.from({ length: 20 }, () => makeFolders(path)));
  expect(await isFolder(path)).toBe(true);
});

test('makeFolders() rejects where none can be made, and does not try for ever', async () => {
  const dir = await temporaryDirectory();
  await writeFile(join(dir, 'file'), '');
  await symlink(join(dir, 'nowhere'), join(dir, 'link'));
  await expect(makeFolders(join(dir, 'file'))).rejects.toThrow(/EEXIST/);
  await expect(makeFolders(join(dir, 'file', 'a'))).rejects.toThrow(/ENOTDIR/);
  await expect(makeFolders(join(dir, 'link', 'a'))).rejects.toThrow(/EEXIST/);
  if (process.platform === 'linux') {
    await expect(makeFolders('/proc/x/y')).rejects.toThrow(/ENOENT/);
  }
});

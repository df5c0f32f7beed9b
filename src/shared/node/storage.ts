/**
 * Files that must survive a crash, behind an interface, so that the same code runs in memory under the simulator.
 */
import { lstat, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { makeFolders, removeEmptyFolders } from './folders.js';
import { openInput, type InputFile } from './input-file.js';

export interface Storage {
  /** Names of what is in the folder, in no particular order; none if there is no such folder, or it is a file. */
  list(dir: string): Promise<string[]>;
  /** Opens a file, which may come from anywhere. @throws {Error} if there is none */
  open(path: string): Promise<InputFile>;
  /**
   * Replaces the file, whose folder is made if need be. After a crash at any moment the old bytes or the new ones are
   * there, whole; once the promise has resolved, the new ones.
   *
   * @throws {Error} if it cannot be written, or what is there is no file; nothing is left behind then
   */
  writeDurably(path: string, bytes: Uint8Array): Promise<void>;
  /** Removes the file if it is there. */
  remove(path: string): Promise<void>;
}

/** Files on disk. Half-written ones are named `….partial`. */
export const fileStorage: Storage = {
  async list(dir) {
    try {
      return await readdir(dir);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') return [];
      throw error;
    }
  },

  open: openInput,

  async writeDurably(path, bytes) {
    const partial = `${path}.partial`;
    const firstMade = await makeFolders(dirname(path));
    const there = await lstat(path).catch(() => null);
    // A rename would put the file in place of a device, a pipe, a socket.
    if (there && !there.isFile() && !there.isSymbolicLink()) {
      throw new Error(`${path} is there, and no file`);
    }
    try {
      const file = await open(partial, 'w');
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(partial, path);
    } catch (error) {
      // A full disk is not to be kept full.
      await rm(partial, { force: true }).catch(() => undefined);
      await removeEmptyFolders(dirname(path), firstMade);
      throw error;
    }
    await syncFolder(dirname(path));
  },

  remove: (path) => rm(path, { force: true }),
};

/** Makes a rename in the folder durable. Windows cannot open a folder and does it by itself. */
async function syncFolder(dir: string): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await open(dir, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Puts the value in place of the file, as JSON for people, whole or not at all. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  await fileStorage.writeDurably(path, Buffer.from(`${JSON.stringify(value, null, 2)}\n`));
}

/**
 * Folders on disk. Node's own `mkdir` with `recursive` is not used: on a file system where nothing can be created, such as
 * /proc, it retries forever and keeps a whole processor busy.
 */
import { mkdir, rmdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/**
 * Makes the folder with those above it.
 *
 * @returns the first folder on the way that was not there before
 * @throws {Error} if it cannot be made, or what is there is no folder
 */
export async function makeFolders(path: string): Promise<string | undefined> {
  try {
    return await makeFolder(path);
  } catch (error) {
    const above = dirname(path);
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || above === path) throw error;
    const firstMade = await makeFolders(above);
    try {
      const own = await makeFolder(path);
      return firstMade ?? own;
    } catch (failure) {
      await removeEmptyFolders(above, firstMade);
      throw failure;
    }
  }
}

/**
 * Removes the folder and those above it, down from the one that was made first, as far as they are empty. Does not reject.
 *
 * @param firstMade as `makeFolders` told
 */
export async function removeEmptyFolders(
  path: string,
  firstMade: string | undefined,
): Promise<void> {
  if (firstMade === undefined) return;
  const last = resolve(firstMade);
  for (let folder = resolve(path); folder.startsWith(last); folder = dirname(folder)) {
    const isGone = await rmdir(folder).then(
      () => true,
      () => false,
    );
    if (!isGone) return;
  }
}

/** @returns its path; nothing if it was there, or another process was faster */
async function makeFolder(path: string): Promise<string | undefined> {
  try {
    await mkdir(path);
    return path;
  } catch (error) {
    if (await isFolder(path)) return undefined;
    throw error;
  }
}

export function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

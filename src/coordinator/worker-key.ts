/** The key that the secrets of a run's workers are made of: drawn once, kept in the run directory, read by nobody else. */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { UserError, messageOf } from '../shared/errors.js';

const KEY_BYTES = 32;

/**
 * The key in the file; a new one where there is none, or a file that is none (its writer was killed): then workers
 * that come back are given new ids.
 *
 * @throws {UserError} if the file cannot be read or written
 */
export async function openWorkerKey(path: string): Promise<Uint8Array> {
  try {
    const stored = await readFile(path).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    });
    if (stored?.length === KEY_BYTES) return stored;
    const key = randomBytes(KEY_BYTES);
    await writeFile(path, key, { mode: 0o600 });
    return key;
  } catch (error) {
    throw new UserError(`Cannot keep the key of the workers in ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * The secrets of a run: generated once, and kept in the run directory, readable only by their owner. So a resumed run recognizes
 * its workers, and they recognize it.
 */
import { createPrivateKey, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto';
import { chmod, rename, writeFile } from 'node:fs/promises';
import { UserError, messageOf } from '../shared/errors.js';
import { readInput } from '../shared/node/input-file.js';

const MAX_SECRET_BYTES = 10_000;
const WORKER_KEY_BYTES = 32;
/** 128 bits, as 22 characters. */
const TOKEN_BYTES = 16;
const TOKEN = /^[\w-]{22}$/;

/** The key of the secrets of worker ids: 32 bytes. @throws {UserError} if the file cannot be read or created */
export function openWorkerKey(path: string): Promise<Uint8Array> {
  return openSecret(path, {
    what: 'key of the workers',
    parse: (bytes) => (bytes.length === WORKER_KEY_BYTES ? bytes : null),
    draw: () => randomBytes(WORKER_KEY_BYTES),
  });
}

/** A token that the user did not give. @throws {UserError} if the file cannot be had */
export function openToken(path: string, what = 'token'): Promise<string> {
  return openSecret(path, {
    what,
    parse: (bytes) => (TOKEN.test(bytes.toString()) ? bytes.toString() : null),
    draw: () => Buffer.from(randomBytes(TOKEN_BYTES).toString('base64url')),
  });
}

/** The key that workers know the coordinator by, for P-256. @throws {UserError} if the file cannot be had */
export function openTlsKey(path: string): Promise<KeyObject> {
  return openSecret(path, {
    what: 'key for TLS',
    parse: (bytes) => {
      try {
        const key = createPrivateKey(bytes);
        return key.asymmetricKeyDetails?.namedCurve === 'prime256v1' ? key : null;
      } catch {
        return null;
      }
    },
    draw: () => {
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      return Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' }));
    },
  });
}

/** The secret in the file; a new one where there is none, or a file that is none. */
async function openSecret<Secret>(
  path: string,
  kind: {
    readonly what: string;
    readonly parse: (bytes: Buffer) => Secret | null;
    readonly draw: () => Buffer;
  },
): Promise<Secret> {
  try {
    const bytes = await readInput(path, MAX_SECRET_BYTES).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    });
    const stored = bytes && kind.parse(Buffer.from(bytes));
    if (stored !== null) {
      // A copy of the directory may have lost it.
      await chmod(path, 0o600);
      return stored;
    }
    const drawn = kind.draw();
    await writeSecret(path, drawn);
    return kind.parse(drawn)!;
  } catch (error) {
    throw new UserError(`Cannot keep the ${kind.what} in ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** Replaces the file, in one step, by one that its owner alone reads. */
export async function writeSecret(path: string, bytes: string | Uint8Array): Promise<void> {
  const partial = `${path}.partial`;
  await writeFile(partial, bytes, { mode: 0o600 });
  await chmod(partial, 0o600);
  await rename(partial, path);
}

/** A `Storage` in memory. */
import { dirname, join } from 'node:path';
import type { InputFile } from '../../src/shared/node/input-file.js';
import type { Storage } from '../../src/shared/node/storage.js';

export class MemoryStorage implements Storage {
  /** Path → bytes. */
  readonly files = new Map<string, Uint8Array>();

  list(dir: string): Promise<string[]> {
    const inside = [...this.files.keys()].filter((path) => dirname(path) === join(dir));
    return Promise.resolve(inside.map((path) => path.slice(join(dir).length + 1)));
  }

  open(path: string): Promise<InputFile> {
    const bytes = this.files.get(path);
    if (!bytes) return Promise.reject(new Error(`no such file: ${path}`));
    return Promise.resolve({
      size: bytes.length,
      read: (at, numBytes) => Promise.resolve(new Uint8Array(bytes.subarray(at, at + numBytes))),
      close: () => Promise.resolve(),
    });
  }

  writeDurably(path: string, bytes: Uint8Array): Promise<void> {
    this.files.set(path, Uint8Array.from(bytes));
    return Promise.resolve();
  }

  remove(path: string): Promise<void> {
    this.files.delete(path);
    return Promise.resolve();
  }
}

/** A `Storage` in memory. */
import { dirname, join } from 'node:path';
import type { Storage } from '../../src/shared/node/storage.js';

export class MemoryStorage implements Storage {
  /** Path → bytes. */
  readonly files = new Map<string, Uint8Array>();

  list(dir: string): Promise<string[]> {
    const inside = [...this.files.keys()].filter((path) => dirname(path) === join(dir));
    return Promise.resolve(inside.map((path) => path.slice(join(dir).length + 1)));
  }

  read(path: string): Promise<Uint8Array> {
    const bytes = this.files.get(path);
    return bytes
      ? Promise.resolve(bytes.slice())
      : Promise.reject(new Error(`no such file: ${path}`));
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

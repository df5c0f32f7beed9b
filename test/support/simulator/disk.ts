/**
 * The disk of the coordinator's machine, as `Storage` promises it to be, in virtual time: a file that is replaced has
 * its old bytes or its new ones after a crash, and the new ones for sure only when the promise has resolved. Files may
 * be damaged later.
 */
import type { Storage } from '../../../src/shared/node/storage.js';
import type { Random } from '../../../src/shared/random.js';
import { MemoryStorage } from '../memory-storage.js';
import type { VirtualProcess } from '../virtual-clock.js';

export class SimulatedDisk {
  isFull = false;
  private readonly files = new MemoryStorage();
  private readonly random: Random;
  private readonly longestMs: number;

  /** @param longestMs that a write takes */
  constructor(random: Random, longestMs: number) {
    this.random = random;
    this.longestMs = longestMs;
  }

  /** The disk as one process sees it: what the process began before it was killed may or may not come about. */
  storageFor(process: VirtualProcess): Storage {
    const { files, random, longestMs } = this;
    const after = (delayMs: number) =>
      new Promise<void>((resolve) => void process.after(delayMs, resolve));
    return {
      list: async (dir) => {
        await after(0.01 * longestMs);
        return files.list(dir);
      },
      open: async (path) => {
        await after(0.01 * longestMs);
        return files.open(path);
      },
      writeDurably: async (path, bytes) => {
        await after(0.9 * longestMs * random.float());
        if (this.isFull) throw new Error('ENOSPC: no space left on device');
        await files.writeDurably(path, bytes);
        await after(0.1 * longestMs * random.float());
      },
      remove: async (path) => {
        await after(0.01 * longestMs);
        await files.remove(path);
      },
    };
  }

  has(path: string): boolean {
    return this.files.files.has(path);
  }

  /** Flips a bit of the file that was written last. @returns its name, null if there is none */
  damage(): string | null {
    const path = [...this.files.files.keys()].sort().at(-1);
    if (path === undefined) return null;
    const bytes = this.files.files.get(path)!;
    bytes[this.random.below(bytes.length)] ^= 1 << this.random.below(8);
    return path;
  }
}

/**
 * The disk of the coordinator's machine: a checkpoint is durable when it is written, flushed and renamed; a crash
 * before that leaves nothing of it, or half of it under a name that nobody takes for whole.
 */
import type { Checkpoint } from '../../../src/model/checkpoint.js';
import type { Random } from '../../../src/shared/random.js';
import type { VirtualProcess } from '../virtual-clock.js';

export class SimulatedDisk {
  isFull = false;
  private readonly random: Random;
  private readonly longestMs: number;
  private readonly durable: Checkpoint[] = [];

  constructor(random: Random, longestMs: number) {
    this.random = random;
    this.longestMs = longestMs;
  }

  save(
    process: VirtualProcess,
    checkpoint: Checkpoint,
    isBest: boolean,
  ): Promise<{ path: string; bytes: number }> {
    return new Promise((resolve, reject) => {
      process.after(this.longestMs * this.random.float(), () => {
        if (this.isFull) {
          reject(new Error('ENOSPC: no space left on device'));
          return;
        }
        // Read as late as can be: a snapshot that shares memory with the training shows.
        this.durable.push(structuredClone(checkpoint));
        const path = `step-${checkpoint.globalStep}${isBest ? '-best' : ''}`;
        // The process may die between the rename and hearing of it.
        process.after(this.longestMs * this.random.float() * 0.1, () =>
          resolve({ path, bytes: checkpoint.params.byteLength }),
        );
      });
    });
  }

  /** The last whole checkpoint by step. */
  restore(): Checkpoint | null {
    let last: Checkpoint | null = null;
    for (const checkpoint of this.durable) {
      if (!last || checkpoint.globalStep >= last.globalStep) last = checkpoint;
    }
    return last && structuredClone(last);
  }
}

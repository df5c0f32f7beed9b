/** Counts how often each training image contributed to an update; it must be exactly once per epoch. */
import type { Sampler } from '../sampler.js';

export class Ledger {
  private readonly counts: Uint32Array;
  private readonly stepsPerEpoch: number;

  /** @param globalStep updates made so far; the images of those in the current epoch count as seen */
  constructor(sampler: Sampler, globalStep: number) {
    this.counts = new Uint32Array(sampler.numSamples);
    this.stepsPerEpoch = sampler.stepsPerEpoch;
    const begin = globalStep - (globalStep % sampler.stepsPerEpoch);
    for (let step = begin; step < globalStep; step++) this.add(sampler.batch(step));
  }

  /** Counts the samples whose gradients were used. */
  add(samples: Uint32Array): void {
    for (const sample of samples) this.counts[sample]++;
  }

  /**
   * Starts the next epoch if `globalStep` updates complete one.
   *
   * @throws {Error} if an image was not counted exactly once in the completed epoch
   */
  close(globalStep: number): void {
    if (globalStep % this.stepsPerEpoch !== 0) return;
    const wrong = this.counts.findIndex((count) => count !== 1);
    if (wrong >= 0) {
      throw new Error(
        `Ledger: image ${wrong} counted ${this.counts[wrong]} times in epoch ` +
          `${globalStep / this.stepsPerEpoch - 1}, expected once`,
      );
    }
    this.counts.fill(0);
  }
}

/** Counts how often each training image was used in an update: it must be once per epoch. */
import type { Sampler } from '../sampler.js';

export class Ledger {
  private readonly counts: Uint32Array;
  private readonly stepsPerEpoch: number;

  /** @param globalStep updates made before, in the same epoch, whose images count as seen */
  constructor(sampler: Sampler, globalStep: number) {
    this.counts = new Uint32Array(sampler.numSamples);
    this.stepsPerEpoch = sampler.stepsPerEpoch;
    const begin = globalStep - (globalStep % sampler.stepsPerEpoch);
    for (let step = begin; step < globalStep; step++) this.add(sampler.batch(step));
  }

  /** Notes the samples whose gradient was used. */
  add(samples: Uint32Array): void {
    for (const sample of samples) this.counts[sample]++;
  }

  /**
   * Begins the next epoch when `globalStep` updates close one.
   *
   * @throws {Error} if an image did not count once in the epoch that is closed
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

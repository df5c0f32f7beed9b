/**
 * Which images make up which batch: a pure function of the seed and the step.
 */
import { createRandom } from '../shared/random.js';

export class Sampler {
  readonly numSamples: number;
  readonly batchSize: number;
  readonly stepsPerEpoch: number;
  private readonly seed: number;
  private epochCached = -1;
  private permutation: Uint32Array = new Uint32Array(0);

  /** Of the samples [0, numSamples), each in one batch of every epoch. */
  constructor(seed: number, numSamples: number, batchSize: number) {
    this.seed = seed;
    this.numSamples = numSamples;
    this.batchSize = batchSize;
    this.stepsPerEpoch = Math.ceil(numSamples / batchSize);
  }

  /** Epochs before the step. */
  epochOf(globalStep: number): number {
    return Math.floor(globalStep / this.stepsPerEpoch);
  }

  /** (n ≤ batchSize,) sample indices, in order; the epoch's last batch may be shorter. Not to be changed. */
  batch(globalStep: number): Uint32Array {
    const epoch = this.epochOf(globalStep);
    if (epoch !== this.epochCached) {
      this.permutation = createRandom(this.seed, 'epoch', epoch).permutation(this.numSamples);
      this.epochCached = epoch;
    }
    const begin = (globalStep - epoch * this.stepsPerEpoch) * this.batchSize;
    return this.permutation.subarray(begin, Math.min(begin + this.batchSize, this.numSamples));
  }
}

/** The memory that a run needs on a worker, computed from the welcome before any is allocated. */
import { simdMemoryBytes } from '../model/engine/simd/engine.js';
import { imageBytes, type Model } from '../model/lenet.js';
import { NUM_PROOF_IMAGES } from '../model/engine/proof.js';
import type { Message } from '../shared/protocol.js';
import { maxLeavesOf } from './threads/plan.js';

type Asked = Pick<Message<'welcome'>, 'numSamples' | 'microBatch' | 'evaluationBlock'>;

/**
 * Buffers of the size of θ per thread, besides its engine's own and the leaves that all share: sums of tree levels, received and
 * outgoing messages.
 */
const BUFFERS_OF_PARAMS = 20;
/** The gathered batch, and the augmented one. */
const BUFFERS_OF_BATCH = 2;
/** A sample's label, and its bit in `cached`. */
const SAMPLE_OVERHEAD_BYTES = 3;

/** @returns bytes */
export function memoryNeeded(model: Model, asked: Asked, numThreads: number): number {
  const { ofThread, ofSamples } = partsNeeded(model, asked);
  const ofLeaves =
    numThreads > 1 ? 4 * model.numParams * maxLeavesOf(numThreads, model.numParams) : 0;
  return numThreads * ofThread + ofLeaves + ofSamples;
}

/** As many threads as fit in the memory, at least one and no more than `most`. */
export function fittingThreads(model: Model, asked: Asked, most: number, maxBytes: number): number {
  let numThreads = most;
  while (numThreads > 1 && memoryNeeded(model, asked, numThreads) > maxBytes) numThreads--;
  return numThreads;
}

function partsNeeded(model: Model, { numSamples, microBatch, evaluationBlock }: Asked) {
  const sampleBytes = imageBytes(model.input) + SAMPLE_OVERHEAD_BYTES;
  const batchBytes = Math.max(microBatch, evaluationBlock) * sampleBytes;
  const ofThread =
    simdMemoryBytes(model, 0) +
    BUFFERS_OF_PARAMS * 4 * model.numParams +
    BUFFERS_OF_BATCH * batchBytes;
  return { ofThread, ofSamples: numSamples * sampleBytes };
}

/** Multiply–adds of the longest uninterruptible call: the gradient of a micro-batch, or one evaluation block. */
export function longestCall(model: Model, { microBatch, evaluationBlock }: Asked): number {
  const ofGradient = 3 * Math.max(microBatch, NUM_PROOF_IMAGES);
  return model.numMultiplyAdds * Math.max(ofGradient, evaluationBlock);
}

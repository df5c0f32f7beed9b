/** The memory a run needs from a worker, computed from the welcome before any is allocated. */
import { simdMemoryBytes } from '../model/engine/simd/engine.js';
import { imageBytes, type Model } from '../model/lenet.js';
import { NUM_PROOF_IMAGES } from '../model/engine/proof.js';
import type { Message } from '../shared/protocol.js';

type Asked = Pick<Message<'welcome'>, 'numSamples' | 'microBatch' | 'evaluationBlock'>;

/**
 * Buffers of the size of θ that each thread fills besides its engine's own: the sums of its leaves and of the tree's
 * levels, what came and what goes.
 */
const BUFFERS_OF_PARAMS = 20;
/** A batch as it is gathered and as it is changed by augmentation. */
const BUFFERS_OF_BATCH = 2;
/** Besides its pixels, a sample has a label, and a bit that says it is here. */
const SAMPLE_OVERHEAD_BYTES = 3;

/** Memory, bytes. */
export function memoryNeeded(model: Model, asked: Asked, numThreads: number): number {
  const { numSamples, microBatch, evaluationBlock } = asked;
  const sampleBytes = imageBytes(model.input) + SAMPLE_OVERHEAD_BYTES;
  const batchBytes = Math.max(microBatch, evaluationBlock) * sampleBytes;
  const ofThread =
    simdMemoryBytes(model, 0) +
    BUFFERS_OF_PARAMS * 4 * model.numParams +
    BUFFERS_OF_BATCH * batchBytes;
  return numThreads * ofThread + numSamples * sampleBytes;
}

/** Multiply–adds of a call that nothing interrupts: the gradient of a micro-batch, or an evaluation's block. */
export function longestCall(model: Model, { microBatch, evaluationBlock }: Asked): number {
  const ofGradient = 3 * Math.max(microBatch, NUM_PROOF_IMAGES);
  return model.numMultiplyAdds * Math.max(ofGradient, evaluationBlock);
}

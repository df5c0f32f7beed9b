/**
 * The samples that a worker has received: each at most once, kept across reconnects. Memory for all of them is reserved up
 * front and touched as they arrive; threads share it.
 */
import type { Batch } from '../model/engine/tree-sum.js';
import { uint16From, uint32From } from '../shared/codec.js';
import { ProtocolError } from '../shared/errors.js';
import type { Message } from '../shared/protocol.js';

/** The contents of a cache; a structured clone refers to the same memory if it is shared memory. */
export interface SampleMemory {
  readonly datasetId: string;
  readonly imageBytes: number;
  /** (numSamples, imageBytes) */
  readonly images: Uint8Array;
  /** (numSamples,) */
  readonly labels: Uint16Array;
  /** Bit i (bit i mod 8 of byte ⌊i/8⌋, lowest first) is set if sample i is cached. */
  readonly cached: Uint8Array;
}

export class SampleCache {
  readonly memory: SampleMemory;
  readonly numSamples: number;

  /** An empty cache. */
  static create(datasetId: string, numSamples: number, imageBytes: number): SampleCache {
    return new SampleCache({
      datasetId,
      imageBytes,
      images: new Uint8Array(memoryFor(numSamples * imageBytes)),
      labels: new Uint16Array(memoryFor(2 * numSamples)),
      cached: new Uint8Array(memoryFor(Math.ceil(numSamples / 8))),
    });
  }

  /** Another view of an existing cache, for another thread. */
  constructor(memory: SampleMemory) {
    this.memory = memory;
    this.numSamples = memory.labels.length;
  }

  get datasetId(): string {
    return this.memory.datasetId;
  }

  /** Whether it is a cache for that data set. */
  holds(datasetId: string, numSamples: number, imageBytes: number): boolean {
    return (
      this.datasetId === datasetId &&
      this.numSamples === numSamples &&
      this.memory.imageBytes === imageBytes
    );
  }

  /** A copy of `memory.cached`. */
  get cached(): Uint8Array {
    return this.memory.cached.slice();
  }

  /** Allocates a batch for `gather`. */
  createBatch(numImages: number) {
    return {
      images: new Uint8Array(numImages * this.memory.imageBytes),
      labels: new Uint16Array(numImages),
    };
  }

  /**
   * Stores the samples that are not cached yet.
   *
   * @param numClasses upper bound of the labels; by default they are not checked
   * @throws {ProtocolError} if the message does not fit this data set
   */
  store(message: Message<'samples'>, numClasses = Infinity): void {
    const { imageBytes, images, labels, cached } = this.memory;
    const indices = uint32From(message.indices, 'indices');
    const newLabels = uint16From(message.labels, 'labels', indices.length);
    if (message.pixels.length !== indices.length * imageBytes) {
      throw new ProtocolError('malformed', 'Expected as many images as indices');
    }
    const last = this.numSamples - 1;
    const outside = indices.find((index) => index > last);
    if (outside !== undefined) {
      throw new ProtocolError('malformed', `No sample ${outside}: there are ${this.numSamples}`);
    }
    const wrong = newLabels.find((label) => label >= numClasses);
    if (wrong !== undefined) {
      throw new ProtocolError('malformed', `No class ${wrong}: there are ${numClasses}`);
    }
    indices.forEach((index, i) => {
      if (this.has(index)) return;
      labels[index] = newLabels[i];
      images.set(message.pixels.subarray(i * imageBytes, (i + 1) * imageBytes), index * imageBytes);
      cached[index >> 3] |= 1 << (index & 7);
    });
  }

  /** @throws {ProtocolError} if one of the samples was never sent */
  expect(indices: Uint32Array): void {
    const missing = indices.find((index) => !this.has(index));
    if (missing === undefined) return;
    throw new ProtocolError('unexpected', `Work on sample ${missing}, which was not sent`);
  }

  /** Samples [first, first + numImages), not copied; zeros for samples that were not sent. */
  view(first: number, numImages: number): Batch {
    const { imageBytes, images, labels } = this.memory;
    return {
      images: images.subarray(first * imageBytes, (first + numImages) * imageBytes),
      labels: labels.subarray(first, first + numImages),
    };
  }

  /**
   * Copies the samples with these indices, in order, into the batch `into`.
   *
   * @returns views of `into`, as long as there are indices
   * @throws {ProtocolError} if one of them was never sent
   */
  gather(indices: Uint32Array, into: Batch): Batch {
    const { imageBytes, images, labels } = this.memory;
    this.expect(indices);
    indices.forEach((index, i) => {
      into.images.set(
        images.subarray(index * imageBytes, (index + 1) * imageBytes),
        i * imageBytes,
      );
      into.labels[i] = labels[index];
    });
    return {
      images: into.images.subarray(0, indices.length * imageBytes),
      labels: into.labels.subarray(0, indices.length),
    };
  }

  private has(index: number): boolean {
    return (this.memory.cached[index >> 3] & (1 << (index & 7))) !== 0;
  }
}

/** Zeroed; shared memory unless the browser withholds it. */
function memoryFor(numBytes: number): ArrayBuffer | SharedArrayBuffer {
  return typeof SharedArrayBuffer === 'undefined'
    ? new ArrayBuffer(numBytes)
    : new SharedArrayBuffer(numBytes);
}

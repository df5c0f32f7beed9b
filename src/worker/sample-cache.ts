/**
 * The samples that a worker has received: each at most once, kept across reconnects. Its memory is reserved at once and used as
 * samples arrive; threads share it.
 */
import type { Batch } from '../model/engine/tree-sum.js';
import { uint16From, uint32From } from '../shared/codec.js';
import { ProtocolError } from '../shared/errors.js';
import type { Message } from '../shared/protocol.js';

/** What a cache is made of; a structured clone shares the memory where it is shared memory. */
export interface SampleMemory {
  readonly datasetId: string;
  readonly imageBytes: number;
  /** (numSamples, imageBytes) */
  readonly images: Uint8Array;
  /** (numSamples,) */
  readonly labels: Uint16Array;
  /** Bit i (of byte ⌊i/8⌋, from the lowest) is set if sample i is here. */
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

  /** A second view of a cache, on another thread. */
  constructor(memory: SampleMemory) {
    this.memory = memory;
    this.numSamples = memory.labels.length;
  }

  get datasetId(): string {
    return this.memory.datasetId;
  }

  /** Whether it is a cache of that data set. */
  holds(datasetId: string, numSamples: number, imageBytes: number): boolean {
    return (
      this.datasetId === datasetId &&
      this.numSamples === numSamples &&
      this.memory.imageBytes === imageBytes
    );
  }

  /** Bit i is set if sample i is here. */
  get cached(): Uint8Array {
    return this.memory.cached.slice();
  }

  /** Memory for the samples of as many indices. */
  createBatch(numImages: number) {
    return {
      images: new Uint8Array(numImages * this.memory.imageBytes),
      labels: new Uint16Array(numImages),
    };
  }

  /**
   * @param numClasses labels are below; any is taken of samples that were stored before
   * @throws {ProtocolError} if the message is not about samples of this data set
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

  /** @throws {ProtocolError} if a sample of them was never sent */
  expect(indices: Uint32Array): void {
    const missing = indices.find((index) => !this.has(index));
    if (missing === undefined) return;
    throw new ProtocolError('unexpected', `Work on sample ${missing}, which was not sent`);
  }

  /** Samples [first, first + numImages), not copied; of those that were not sent, zeros. */
  view(first: number, numImages: number): Batch {
    const { imageBytes, images, labels } = this.memory;
    return {
      images: images.subarray(first * imageBytes, (first + numImages) * imageBytes),
      labels: labels.subarray(first, first + numImages),
    };
  }

  /**
   * The samples of the indices, copied one after the other into the batch's memory.
   *
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

/** Zeroed; shared memory where a browser does not withhold it. */
function memoryFor(numBytes: number): ArrayBuffer | SharedArrayBuffer {
  return typeof SharedArrayBuffer === 'undefined'
    ? new ArrayBuffer(numBytes)
    : new SharedArrayBuffer(numBytes);
}

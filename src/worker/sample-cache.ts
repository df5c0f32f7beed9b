/**
 * The samples that a worker has been sent: each at most once, kept over reconnects.
 */
import type { Batch } from '../model/tree-sum.js';
import { IMAGE_BYTES } from '../model/lenet.js';
import { uint32From } from '../shared/codec.js';
import { ProtocolError } from '../shared/errors.js';
import type { Message } from '../shared/protocol.js';

/** Samples that memory is made ready for at a time: 3.2 MB. */
const CHUNK_SAMPLES = 4096;

export class SampleCache {
  readonly datasetId: string;
  readonly numSamples: number;
  /** Bit i is set if sample i is here. */
  readonly cached: Uint8Array;
  private readonly labels: Uint8Array;
  /** Memory for CHUNK_SAMPLES images each, from the first sample of the chunk that came on. */
  private readonly chunks: (Uint8Array | undefined)[] = [];

  constructor(datasetId: string, numSamples: number) {
    this.datasetId = datasetId;
    this.numSamples = numSamples;
    this.cached = new Uint8Array(Math.ceil(numSamples / 8));
    this.labels = new Uint8Array(numSamples);
  }

  /** @throws {ProtocolError} if the message is not about samples of this data set */
  store(message: Message<'samples'>): void {
    const indices = uint32From(message.indices, 'indices');
    if (message.labels.length !== indices.length) {
      throw new ProtocolError('malformed', 'As many labels as indices expected');
    }
    if (message.pixels.length !== indices.length * IMAGE_BYTES) {
      throw new ProtocolError('malformed', 'As many images as indices expected');
    }
    indices.forEach((index, i) => {
      if (index >= this.numSamples) {
        throw new ProtocolError('malformed', `No sample ${index}: there are ${this.numSamples}`);
      }
      const pixels = message.pixels.subarray(i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES);
      this.labels[index] = message.labels[i]!;
      this.imageAt(index).set(pixels);
      this.cached[index >> 3] |= 1 << (index & 7);
    });
  }

  /**
   * The samples of the indices, copied one after the other into the batch's memory.
   *
   * @throws {ProtocolError} if one of them was never sent
   */
  gather(indices: Uint32Array, into: { images: Uint8Array; labels: Uint8Array }): Batch {
    indices.forEach((index, i) => {
      if (!((this.cached[index >> 3] ?? 0) & (1 << (index & 7)))) {
        throw new ProtocolError('unexpected', `Work on sample ${index}, which was not sent`);
      }
      into.images.set(this.imageAt(index), i * IMAGE_BYTES);
      into.labels[i] = this.labels[index]!;
    });
    return {
      images: into.images.subarray(0, indices.length * IMAGE_BYTES),
      labels: into.labels.subarray(0, indices.length),
    };
  }

  private imageAt(index: number): Uint8Array {
    const chunk = Math.floor(index / CHUNK_SAMPLES);
    const begin = chunk * CHUNK_SAMPLES;
    const numSamples = Math.min(CHUNK_SAMPLES, this.numSamples - begin);
    const pixels = (this.chunks[chunk] ??= new Uint8Array(numSamples * IMAGE_BYTES));
    return pixels.subarray((index - begin) * IMAGE_BYTES, (index - begin + 1) * IMAGE_BYTES);
  }
}

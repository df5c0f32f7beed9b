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
  private readonly labels: Uint8Array;
  /**
   * Where the image of each sample lies, counted from 1; 0 if it is not here. Images lie in the order in which they came:
   * those of a message side by side, as a page of memory costs the most when it is touched first.
   */
  private readonly places: Uint32Array;
  private numStored = 0;
  /** Memory for CHUNK_SAMPLES images each. */
  private readonly chunks: Uint8Array[] = [];

  constructor(datasetId: string, numSamples: number) {
    this.datasetId = datasetId;
    this.numSamples = numSamples;
    this.labels = new Uint8Array(numSamples);
    this.places = new Uint32Array(numSamples);
  }

  /** Bit i is set if sample i is here. */
  get cached(): Uint8Array {
    const bits = new Uint8Array(Math.ceil(this.numSamples / 8));
    this.places.forEach((place, index) => {
      if (place > 0) bits[index >> 3] |= 1 << (index & 7);
    });
    return bits;
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
      if (this.places[index] === 0) this.places[index] = this.newPlace();
      this.imageAt(this.places[index]).set(pixels);
    });
  }

  /**
   * The samples of the indices, copied one after the other into the batch's memory.
   *
   * @throws {ProtocolError} if one of them was never sent
   */
  gather(indices: Uint32Array, into: { images: Uint8Array; labels: Uint8Array }): Batch {
    indices.forEach((index, i) => {
      const place = this.places[index] ?? 0;
      if (place === 0) {
        throw new ProtocolError('unexpected', `Work on sample ${index}, which was not sent`);
      }
      into.images.set(this.imageAt(place), i * IMAGE_BYTES);
      into.labels[i] = this.labels[index]!;
    });
    return {
      images: into.images.subarray(0, indices.length * IMAGE_BYTES),
      labels: into.labels.subarray(0, indices.length),
    };
  }

  private newPlace(): number {
    if (this.numStored === this.chunks.length * CHUNK_SAMPLES) {
      const numSamples = Math.min(CHUNK_SAMPLES, this.numSamples - this.numStored);
      this.chunks.push(new Uint8Array(numSamples * IMAGE_BYTES));
    }
    return ++this.numStored;
  }

  private imageAt(place: number): Uint8Array {
    const chunk = this.chunks[Math.floor((place - 1) / CHUNK_SAMPLES)];
    const begin = ((place - 1) % CHUNK_SAMPLES) * IMAGE_BYTES;
    return chunk.subarray(begin, begin + IMAGE_BYTES);
  }
}

/**
 * The samples that a worker has been sent: each at most once, kept over reconnects.
 */
import type { Batch } from '../model/engine/tree-sum.js';
import { IMAGE_BYTES, IMAGE_SIZE } from '../model/lenet.js';
import { uint32From } from '../shared/codec.js';
import { ProtocolError } from '../shared/errors.js';
import type { Message } from '../shared/protocol.js';

/** Memory is made ready in pieces of this size; an image lies within one. */
const CHUNK_BYTES = 1 << 20;
/** Before the pixels of an image stand its top, left, height and width. */
const HEADER_BYTES = 4;
/** Places are 32-bit numbers. */
const MAX_BYTES = 2 ** 32 - 1;

/**
 * Images are kept without their empty margins, which are half of what MNIST is: less memory, and fewer pages of it that
 * are touched for the first time, which is when they cost the most. They lie in the order in which they came.
 */
export class SampleCache {
  readonly datasetId: string;
  readonly numSamples: number;
  private readonly labels: Uint8Array;
  /** Where the image of each sample lies, counted from 1; 0 if it is not here. */
  private readonly places: Uint32Array;
  /** CHUNK_BYTES each. */
  private readonly chunks: Uint8Array[] = [];
  /** Bytes up to the next image. */
  private end = 0;

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
      if (this.places[index] !== 0) return;
      this.labels[index] = message.labels[i]!;
      this.places[index] = this.keep(pixels) + 1;
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
      this.restore(place - 1, into.images, i * IMAGE_BYTES);
      into.labels[i] = this.labels[index]!;
    });
    return {
      images: into.images.subarray(0, indices.length * IMAGE_BYTES),
      labels: into.labels.subarray(0, indices.length),
    };
  }

  /** @returns where the (784,) image lies now */
  private keep(image: Uint8Array): number {
    const { top, left, height, width } = boxOf(image);
    const numBytes = HEADER_BYTES + height * width;
    if (this.end + numBytes > this.chunks.length * CHUNK_BYTES) {
      this.end = this.chunks.length * CHUNK_BYTES;
      this.chunks.push(new Uint8Array(CHUNK_BYTES));
    }
    const place = this.end;
    if (place >= MAX_BYTES)
      throw new RangeError(`Cannot keep more than ${MAX_BYTES} bytes of images`);
    const chunk = this.chunks.at(-1)!;
    let at = place % CHUNK_BYTES;
    for (const value of [top, left, height, width]) chunk[at++] = value;
    for (let y = top; y < top + height; y++) {
      for (let x = left; x < left + width; x++) chunk[at++] = image[y * IMAGE_SIZE + x]!;
    }
    this.end += numBytes;
    return place;
  }

  /** Copies the image at a place, margins and all, to the offset. */
  private restore(place: number, into: Uint8Array, offset: number): void {
    const chunk = this.chunks[Math.floor(place / CHUNK_BYTES)];
    let at = place % CHUNK_BYTES;
    const [top, left, height, width] = [chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]];
    at += HEADER_BYTES;
    into.fill(0, offset, offset + IMAGE_BYTES);
    for (let y = 0; y < height; y++) {
      const row = offset + (top + y) * IMAGE_SIZE + left;
      for (let x = 0; x < width; x++) into[row + x] = chunk[at++]!;
    }
  }
}

/** The smallest box with all that is not 0 in a (784,) image. */
function boxOf(image: Uint8Array) {
  const isInk = (value: number) => value !== 0;
  const top = Math.floor(Math.max(0, image.findIndex(isInk)) / IMAGE_SIZE);
  const bottom = Math.floor(image.findLastIndex(isInk) / IMAGE_SIZE) + 1;
  let left = IMAGE_SIZE;
  let right = 0;
  for (let row = top * IMAGE_SIZE; row < bottom * IMAGE_SIZE; row += IMAGE_SIZE) {
    for (let x = 0; x < left; x++) if (image[row + x] !== 0) left = x;
    for (let x = IMAGE_SIZE - 1; x >= right; x--) if (image[row + x] !== 0) right = x + 1;
  }
  return { top, left, height: bottom - top, width: Math.max(0, right - left) };
}

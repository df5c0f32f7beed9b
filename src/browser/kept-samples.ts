/** Which samples a browser has stored: each once, and no more than there is room for. Pure. */
import { bytesOf, uint16From, uint32From } from '../shared/codec.js';
import type { Message } from '../shared/protocol.js';

/** Of one data set at most; MNIST has 55 MB. */
const MAX_BYTES = 256e6;

/** What is stored of a data set. */
export interface KeptSamples {
  readonly datasetId: string;
  readonly numSamples: number;
  readonly imageBytes: number;
  /** Bit i (bit i mod 8 of byte ⌊i/8⌋, lowest first) is set if sample i is stored. */
  readonly kept: Uint8Array;
  readonly numKept: number;
}

/**
 * @param message of this data set
 * @returns a copy of the samples in the message that are not stored yet, null if that is none; and what is stored with them
 */
export function withoutKept(
  before: KeptSamples,
  message: Message<'samples'>,
): { readonly kept: KeptSamples; readonly message: Message<'samples'> | null } {
  const { imageBytes } = before;
  const kept = before.kept.slice();
  const indices = uint32From(message.indices, 'indices');
  const labels = uint16From(message.labels, 'labels', indices.length);
  const numFree = Math.floor(MAX_BYTES / imageBytes) - before.numKept;
  const places: number[] = [];
  indices.forEach((index, place) => {
    const [byte, bit] = [index >> 3, 1 << (index & 7)];
    if (places.length >= numFree || (kept[byte] & bit) !== 0) return;
    kept[byte] |= bit;
    places.push(place);
  });
  if (places.length === 0) return { kept: before, message: null };
  const pixels = new Uint8Array(places.length * imageBytes);
  places.forEach((place, at) => {
    const image = message.pixels.subarray(place * imageBytes, (place + 1) * imageBytes);
    pixels.set(image, at * imageBytes);
  });
  return {
    kept: { ...before, kept, numKept: before.numKept + places.length },
    message: {
      type: 'samples',
      indices: bytesOf(Uint32Array.from(places, (place) => indices[place])),
      labels: bytesOf(Uint16Array.from(places, (place) => labels[place])),
      pixels,
    },
  };
}

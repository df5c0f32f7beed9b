import { describe, expect, it } from 'vitest';
import { withoutKept, type KeptSamples } from '../../src/browser/kept-samples.js';
import { bytesOf, uint16From, uint32From } from '../../src/shared/codec.js';
import type { Message } from '../../src/shared/protocol.js';

const nothing = (numSamples: number, imageBytes: number): KeptSamples => ({
  ...{ datasetId: 'd', numSamples, imageBytes, numKept: 0 },
  kept: new Uint8Array(Math.ceil(numSamples / 8)),
});

/** Sample i has the label 10 + i, and an image of that byte. */
function message(imageBytes: number, ...indices: number[]): Message<'samples'> {
  return {
    type: 'samples',
    indices: bytesOf(Uint32Array.from(indices)),
    labels: bytesOf(Uint16Array.from(indices, (index) => 10 + index)),
    pixels: Uint8Array.from(
      indices.flatMap((index) => new Array<number>(imageBytes).fill(10 + index)),
    ),
  };
}

function contents(found: Message<'samples'> | null) {
  return (
    found && {
      indices: [...uint32From(found.indices, 'indices')],
      labels: [...uint16From(found.labels, 'labels')],
      pixels: [...found.pixels],
    }
  );
}

describe('withoutKept()', () => {
  it('keeps each sample once, whoever received it', () => {
    const first = withoutKept(nothing(20, 2), message(2, 3, 17));
    expect(contents(first.message)).toEqual({
      indices: [3, 17],
      labels: [13, 27],
      pixels: [13, 13, 27, 27],
    });
    const second = withoutKept(first.kept, message(2, 17, 8, 3, 9));
    expect(contents(second.message)).toEqual({
      indices: [8, 9],
      labels: [18, 19],
      pixels: [18, 18, 19, 19],
    });
    expect(second.kept.numKept).toBe(4);
    expect(withoutKept(second.kept, message(2, 9, 3)).message).toBeNull();
    // What was kept before is not changed.
    expect(withoutKept(nothing(20, 2), message(2, 9)).message).not.toBeNull();
  });

  it('keeps 256 MB at most', () => {
    const imageBytes = 1e6;
    const before = { ...nothing(1_000, imageBytes), numKept: 255 };
    const { kept, message: rest } = withoutKept(before, message(imageBytes, 1, 2, 3));
    expect(rest && [...uint32From(rest.indices, 'indices')]).toEqual([1]);
    expect(withoutKept(kept, message(imageBytes, 2)).message).toBeNull();
  });
});

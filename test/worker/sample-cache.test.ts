import { describe, expect, it } from 'vitest';
import { bytesOf } from '../../src/shared/codec.js';
import { ProtocolError } from '../../src/shared/errors.js';
import { IMAGE_BYTES } from '../support/mnist.js';
import { SampleCache } from '../../src/worker/sample-cache.js';

const NUM_SAMPLES = 5000;

/** Samples with these indices: all pixels of sample i are i mod 251, its label is 7 · i mod 1000. */
function samplesOf(indices: readonly number[]) {
  const pixels = new Uint8Array(indices.length * IMAGE_BYTES);
  indices.forEach((index, i) => pixels.fill(index % 251, i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES));
  const labels = Uint16Array.from(indices, (index) => (index * 7) % 1000);
  return {
    type: 'samples',
    indices: bytesOf(Uint32Array.from(indices)),
    pixels,
    labels: bytesOf(labels),
  } as const;
}

function gathered(cache: SampleCache, indices: readonly number[]) {
  const into = {
    images: new Uint8Array(indices.length * IMAGE_BYTES),
    labels: new Uint16Array(indices.length),
  };
  return cache.gather(Uint32Array.from(indices), into);
}

describe('a sample cache', () => {
  it('returns the samples it received, in any order, even if some were sent twice', () => {
    const cache = SampleCache.create('mnist', NUM_SAMPLES, IMAGE_BYTES);
    const all = Array.from({ length: NUM_SAMPLES }, (_, i) => (i * 1237) % NUM_SAMPLES);
    cache.store(samplesOf(all.slice(0, 100)));
    cache.store(samplesOf(all.slice(50, 4500)));
    cache.store(samplesOf(all.slice(4400)));
    const { images, labels } = gathered(cache, [0, 4999, 1237, 0]);
    const { pixels, labels: expected } = samplesOf([0, 4999, 1237, 0]);
    expect(images).toEqual(pixels);
    expect(bytesOf(labels)).toEqual(expected);
  });

  it("keeps every pixel, even if the batch's memory held something else before", () => {
    const edges = [0, 27, 28, 391, 756, 783];
    const images = [[], ...edges.map((pixel) => [pixel]), edges, [200, 395, 410], [0, 783]];
    const pixels = new Uint8Array(images.length * IMAGE_BYTES);
    images.forEach((lit, i) => lit.forEach((pixel) => (pixels[i * IMAGE_BYTES + pixel] = 1 + i)));
    const cache = SampleCache.create('mnist', images.length, IMAGE_BYTES);
    const indices = images.map((_, i) => i);
    cache.store({ ...samplesOf(indices), pixels });
    expect(gathered(cache, indices).images).toEqual(pixels);
    // Into memory that held something else before.
    const into = { images: pixels.slice().reverse(), labels: new Uint16Array(images.length) };
    expect(cache.gather(Uint32Array.from(indices), into).images).toEqual(pixels);
  });

  it('reports which samples it has', () => {
    const cache = SampleCache.create('mnist', 20, IMAGE_BYTES);
    cache.store(samplesOf([9, 0, 19]));
    expect([...cache.cached]).toEqual([0b0000_0001, 0b0000_0010, 0b0000_1000]);
  });

  it('refuses a sample that was never sent, and one outside the data set', () => {
    const cache = SampleCache.create('mnist', 20, IMAGE_BYTES);
    cache.store(samplesOf([3]));
    expect(() => gathered(cache, [3, 4])).toThrow(ProtocolError);
    expect(() => gathered(cache, [20])).toThrow(ProtocolError);
    expect(() => cache.store(samplesOf([20]))).toThrow(ProtocolError);
  });

  it('refuses a label of a nonexistent class, and stores nothing of the message', () => {
    const cache = SampleCache.create('mnist', 20, IMAGE_BYTES);
    const message = { ...samplesOf([3, 4]), labels: bytesOf(Uint16Array.of(9, 10)) };
    expect(() => cache.store(message, 10)).toThrow('No class 10: there are 10');
    expect(cache.cached.every((byte) => byte === 0)).toBe(true);
  });
});

import { describe, expect, it } from 'vitest';
import { findWorstMistakes } from '../../../src/coordinator/page/worst-mistakes.js';

const NUM_IMAGES = 12;

function find(imageBytes: number) {
  const detail = {
    set: 'test' as const,
    globalStep: 5,
    images: new Uint8Array(NUM_IMAGES * imageBytes),
    labels: new Uint16Array(NUM_IMAGES),
    predictions: new Uint16Array(NUM_IMAGES).fill(2),
  };
  const predict = () => Float32Array.of(0, 0.1, 0.9);
  const rest = () => Promise.resolve();
  return findWorstMistakes(detail, predict, rest, new AbortController().signal);
}

describe('findWorstMistakes()', () => {
  it('includes every picture if they are small', async () => {
    const found = await find(3 * 32 * 32);
    expect(found?.worst).toHaveLength(NUM_IMAGES);
    expect(found?.worst.every(({ image }) => image?.length === 4 * 32 * 32)).toBe(true);
  });

  it('limits the bytes of pictures, but lists all mistakes', async () => {
    const found = await find(256 * 1024);
    expect(found?.worst).toHaveLength(NUM_IMAGES);
    expect(found?.worst.filter(({ image }) => image !== null)).toHaveLength(4);
  });
});

import { describe, expect, it } from 'vitest';
import { rasterize, SIZE, type Stroke } from '../../../../src/coordinator/page/browser/digit.js';

const seven: Stroke[] = [
  [
    [60, 50],
    [200, 50],
    [110, 240],
  ],
];

function extentOf(image: Uint8Array) {
  const inked = [...image.keys()].filter((index) => image[index] > 127);
  const rows = inked.map((index) => Math.floor(index / SIZE));
  const columns = inked.map((index) => index % SIZE);
  return {
    height: Math.max(...rows) - Math.min(...rows) + 1,
    width: Math.max(...columns) - Math.min(...columns) + 1,
  };
}

function centreOf(image: Uint8Array) {
  let [mass, x, y] = [0, 0, 0];
  image.forEach((value, index) => {
    mass += value;
    x += value * ((index % SIZE) + 0.5);
    y += value * (Math.floor(index / SIZE) + 0.5);
  });
  return [x / mass, y / mass];
}

describe('rasterize()', () => {
  it('fills a box of 20 pixels, in proportion', () => {
    expect(extentOf(rasterize(seven, 280))).toEqual({ height: 20, width: 16 });
  });

  it('puts the centre of mass in the middle', () => {
    const [x, y] = centreOf(rasterize(seven, 280));
    // A few hundredths of a pixel are lost where values are rounded to bytes.
    expect(x).toBeCloseTo(14, 1);
    expect(y).toBeCloseTo(14, 1);
  });

  it('does not depend on where and how large the digit was drawn', () => {
    const moved = seven.map((stroke) => stroke.map(([x, y]) => [x / 2 + 90, y / 2 + 30] as const));
    expect(rasterize(moved, 280)).toEqual(rasterize(seven, 280));
  });

  it('leaves a dot small', () => {
    expect(extentOf(rasterize([[[140, 140]]], 280)).height).toBeLessThan(5);
  });

  it('is empty without strokes', () => {
    expect(rasterize([], 280)).toEqual(new Uint8Array(SIZE * SIZE));
  });
});

import { describe, expect, it } from 'vitest';
import {
  rasterizeCentred,
  rasterizeInPlace,
  type Stroke,
} from '../../../../src/coordinator/page/browser/drawing.js';

const SIZE = 28;
const MNIST = { width: SIZE, height: SIZE };
const CANVAS = { width: 280, height: 280 };
const rasterize = (strokes: Stroke[]) => rasterizeCentred(strokes, CANVAS, MNIST);

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

describe('rasterizeCentred()', () => {
  it('takes a drawing of any length', () => {
    const long = Array.from(
      { length: 200_000 },
      (_, i) => [60 + (i % 100), 50 + (i % 150)] as const,
    );
    expect(extentOf(rasterize([long.map(([x, y]) => [x, y])])).height).toBe(20);
  });

  it('fills a box of 20 pixels, keeping the proportions', () => {
    expect(extentOf(rasterize(seven))).toEqual({ height: 20, width: 16 });
  });

  it('puts the centre of mass in the middle', () => {
    const [x, y] = centreOf(rasterize(seven));
    // Rounding to bytes costs a few hundredths of a pixel.
    expect(x).toBeCloseTo(14, 1);
    expect(y).toBeCloseTo(14, 1);
  });

  it('does not depend on where and how large the digit was drawn', () => {
    const moved = seven.map((stroke) => stroke.map(([x, y]) => [x / 2 + 90, y / 2 + 30] as const));
    expect(rasterize(moved)).toEqual(rasterize(seven));
  });

  it('leaves a dot small', () => {
    expect(extentOf(rasterize([[[140, 140]]])).height).toBeLessThan(5);
  });

  it('is empty without strokes', () => {
    expect(rasterize([])).toEqual(new Uint8Array(SIZE * SIZE));
  });

  it('scales with the image, and centres the digit in wide ones', () => {
    const image = rasterizeCentred(seven, { width: 560, height: 280 }, { width: 112, height: 56 });
    const columns = [...image.keys()].filter((index) => image[index] > 127).map((i) => i % 112);
    const rows = [...image.keys()].filter((at) => image[at] > 127).map((i) => Math.floor(i / 112));
    expect(Math.max(...rows) - Math.min(...rows) + 1).toBe(40);
    expect(Math.max(...columns) - Math.min(...columns) + 1).toBeLessThan(40);
    const middle = (Math.max(...columns) + Math.min(...columns)) / 2;
    expect(Math.abs(middle - 56)).toBeLessThan(8);
  });
});

describe('rasterizeInPlace()', () => {
  it('keeps the drawing in place', () => {
    const line: Stroke[] = [
      [
        [20, 100],
        [260, 100],
      ],
    ];
    const image = rasterizeInPlace(line, CANVAS, 20, { width: 14, height: 14 });
    const inked = [...image.keys()].filter((index) => image[index] > 127);
    expect([...new Set(inked.map((index) => Math.floor(index / 14)))]).toEqual([4, 5]);
    expect([...new Set(inked.map((index) => index % 14))]).toEqual(
      [...Array(14).keys()].slice(1, 13),
    );
  });
});

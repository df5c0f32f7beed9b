import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { digitImage, readDigitImage } from '../../../src/model/data/digit-image.js';
import { UserError } from '../../../src/shared/errors.js';
import { mnist } from '../../support/mnist.js';
import { pngOf } from '../../support/png-file.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

const NUM_DIGITS = 100;
let digits: Uint8Array[];
beforeAll(async () => {
  const { images } = (await mnist()).test;
  digits = Array.from({ length: NUM_DIGITS }, (_, k) => images.slice(k * 784, (k + 1) * 784));
});

/** Cosine of the angle between two images: 1 if they are the same but for brightness. */
function likeness(a: Uint8Array, b: Uint8Array): number {
  const dot = (x: Uint8Array, y: Uint8Array): number => x.reduce((s, v, i) => s + v * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

/** Likeness of every digit to what is read of a picture of it: the worst, and that of nine in ten. */
function worstLikeness(picture: (ink: Ink) => Uint8Array): { worst: number; most: number } {
  const all = digits
    .map((digit) => {
      const ink: Ink = (row, column) =>
        row < 0 || row >= 28 || column < 0 || column >= 28 ? 0 : digit[row * 28 + column] / 255;
      return likeness(digitImage(picture(ink), 'FILE'), digit);
    })
    .sort((a, b) => a - b);
  return { worst: all[0], most: all[NUM_DIGITS / 10] };
}
type Ink = (row: number, column: number) => number;

describe('digitImage()', () => {
  test.each<[string, (ink: Ink) => Uint8Array]>([
    ['as MNIST has it', (ink) => pngOf(28, 28, 0, 8, (r, c) => [ink(r, c)])],
    ['dark on light', (ink) => pngOf(28, 28, 0, 8, (r, c) => [1 - ink(r, c)])],
    ['of 16 bits', (ink) => pngOf(28, 28, 0, 16, (r, c) => [ink(r, c)])],
    [
      'blue on yellow',
      (ink) => pngOf(28, 28, 2, 8, (r, c) => [1 - ink(r, c), 1 - ink(r, c), ink(r, c)]),
    ],
    ['pale on grey', (ink) => pngOf(28, 28, 0, 16, (r, c) => [0.5 + 0.2 * ink(r, c)])],
    ['black on transparent', (ink) => pngOf(28, 28, 4, 8, (r, c) => [0, ink(r, c)])],
    ['white on transparent', (ink) => pngOf(28, 28, 6, 8, (r, c) => [1, 1, 1, ink(r, c)])],
    [
      'with transparent corners',
      (ink) =>
        pngOf(28, 28, 4, 8, (r, c) => [1 - ink(r, c), Math.hypot(r - 14, c - 14) < 18.5 ? 1 : 0]),
    ],
    [
      'seven times as large',
      (ink) => pngOf(196, 196, 0, 8, (r, c) => [ink(Math.floor(r / 7), Math.floor(c / 7))]),
    ],
    [
      'in the corner of a large page',
      (ink) => pngOf(200, 120, 0, 8, (r, c) => [1 - ink(r - 90, c - 170)]),
    ],
  ])('reads a digit %s', (_, picture) => {
    const { worst, most } = worstLikeness(picture);
    expect(most).toBeGreaterThan(0.99);
    // Where the faint edge of a digit is not seen, it comes out a pixel larger.
    expect(worst).toBeGreaterThan(0.6);
  });

  test('keeps the aspect ratio and puts the centre of mass in the middle', () => {
    // A bar of 10×60 in a picture of 100×90: 3 pixels wide, 20 high, one of them to the left of the middle.
    const png = pngOf(100, 90, 0, 8, (r, c) => [r >= 20 && r < 80 && c >= 70 && c < 80 ? 0 : 1]);
    const image = digitImage(png, 'FILE');
    for (let row = 0; row < 28; row++) {
      for (let column = 0; column < 28; column++) {
        const isInk = row >= 5 && row < 25 && column >= 13 && column < 16;
        expect(image[row * 28 + column], `${row}, ${column}`).toBe(isInk ? 255 : 0);
      }
    }
  });

  test('is not led astray by paper that is a little uneven', () => {
    const { worst } = worstLikeness((ink) =>
      pngOf(60, 60, 0, 8, (r, c) => [
        0.9 - 0.03 * (((r * 7 + c * 13) % 10) / 10) - 0.8 * ink(r - 15, c - 12),
      ]),
    );
    expect(worst).toBeGreaterThan(0.6);
  });

  test.each([0, 0.5, 1])('sees nothing in an even picture of %s', (value) => {
    const png = pngOf(28, 28, 0, 8, () => [value]);
    expect(() => digitImage(png, 'FILE')).toThrow(UserError);
    expect(() => digitImage(png, 'FILE')).toThrow(
      'Cannot see a digit in FILE: its pixels are all alike',
    );
  });

  test.each([
    [1, 1],
    [1, 28],
    [3, 2],
  ])('does not fail on a picture of %i×%i', (width, height) => {
    const png = pngOf(width, height, 0, 8, (r, c) => [r === 0 && c === 0 ? 0 : 1]);
    if (width * height === 1) expect(() => digitImage(png, 'FILE')).toThrow(UserError);
    else expect(digitImage(png, 'FILE').length).toBe(784);
  });
});

describe('readDigitImage()', () => {
  test('reads a file', async () => {
    const path = join(await temporaryDirectory(), 'digit.png');
    const png = pngOf(28, 28, 0, 8, (r, c) => [digits[0][r * 28 + c] / 255]);
    await writeFile(path, png);
    expect(await readDigitImage(path)).toEqual(digitImage(png, path));
  });

  test('names a file that is not there', async () => {
    await expect(readDigitImage('none.png')).rejects.toThrow('Cannot read none.png: ENOENT');
    await expect(readDigitImage('.')).rejects.toThrow('Cannot read .: it is not a regular file');
  });
});

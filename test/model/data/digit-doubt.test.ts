import { describe, expect, test } from 'vitest';
import { digitDoubt } from '../../../src/model/data/digit-doubt.js';
import { digitImage } from '../../../src/model/data/digit-image.js';
import { mnist } from '../../support/mnist.js';
import { pngOf } from '../../support/png-file.js';

const doubtOf = (width: number, height: number, pixel: (row: number, column: number) => number) =>
  digitDoubt(
    digitImage(
      pngOf(width, height, 0, 8, (row, x) => [pixel(row, x)]),
      'FILE',
    ),
    28,
  );

describe('digitDoubt()', () => {
  test('has none about 99.8 % of MNIST', async () => {
    const { images, labels } = (await mnist()).test;
    const doubted = [...labels.keys()].filter(
      (i) => digitDoubt(images.subarray(784 * i, 784 * (i + 1)), 28) !== null,
    );
    expect(doubted.length / labels.length).toBeLessThan(0.002);
  });

  test('tells two digits side by side', async () => {
    const { images } = (await mnist()).test;
    for (let i = 0; i < 100; i++) {
      const doubt = doubtOf(56, 28, (row, column) => {
        const digit = 2 * i + Math.floor(column / 28);
        return images[784 * digit + 28 * row + (column % 28)] / 255;
      });
      expect(doubt, `digits ${2 * i} and ${2 * i + 1}`).toBe('it shows several things');
    }
  });

  test.each<[string, (row: number, column: number) => number]>([
    [
      'it shows an area',
      (row, column) => (row > 8 && row < 40 && column > 8 && column < 40 ? 1 : 0),
    ],
    [
      'it is wider than a digit',
      (row, column) => (row > 20 && row < 28 && column > 2 && column < 46 ? 1 : 0),
    ],
    ['it shows several things', (row, column) => (row % 8 < 4 && column % 8 < 4 ? 1 : 0)],
  ])('says “%s” of what is no digit', (doubt, pixel) => {
    expect(doubtOf(48, 48, pixel)).toBe(doubt);
  });

  test('says that nothing is there', () => {
    expect(digitDoubt(new Uint8Array(784), 28)).toBe('it shows nothing');
  });
});

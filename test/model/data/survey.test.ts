import { describe, expect, test } from 'vitest';
import { contactSheet, terminalSheet } from '../../../src/model/data/contact-sheet.js';
import type { Dataset } from '../../../src/model/data/dataset.js';
import { surveyOf } from '../../../src/model/data/survey.js';
import { DIGITS } from '../../../src/model/lenet.js';
import { createScreen } from '../../support/screen.js';
import { mnist } from '../../support/mnist.js';

/** Images of one pixel of RGB, by their red. */
function tiny(train: readonly [number, number][], testSet: readonly [number, number][]): Dataset {
  const split = (rows: readonly [number, number][]) => ({
    images: Uint8Array.from(rows.flatMap(([red]) => [red, 0, 255])),
    labels: Uint16Array.from(rows, ([, label]) => label),
  });
  return {
    name: 'tiny',
    input: { channels: 3, height: 1, width: 1 },
    classNames: ['a', 'b', 'c'],
    train: split(train),
    test: split(testSet),
  };
}

describe('surveyOf()', () => {
  test("gives MNIST's known figures", async () => {
    const { mean, std, classes, duplicates } = surveyOf(await mnist());
    expect(mean[0]).toBeCloseTo(0.1307, 4);
    expect(std[0]).toBeCloseTo(0.3081, 4);
    expect(classes[1]).toEqual({ name: '1', train: 6742, test: 1135 });
    expect(duplicates.examples).toEqual([]);
  });

  test('counts what occurs twice, on both sides, and with two labels', () => {
    const { mean, std, classes, duplicates } = surveyOf(
      tiny(
        [
          [1, 0],
          [1, 0],
          [2, 1],
          [3, 0],
        ],
        [
          [1, 0],
          [3, 1],
          [9, 1],
          [9, 1],
        ],
      ),
    );
    expect(classes.at(2)).toEqual({ name: 'c', train: 0, test: 0 });
    expect([mean[1], mean[2], std[2]]).toEqual([0, 1, 0]);
    expect(duplicates).toMatchObject({
      withinTrain: 1,
      withinTest: 1,
      testInTrain: 2,
      conflicting: 1,
    });
    expect(duplicates.examples).toEqual([
      [
        { split: 'train', index: 3, class: 'a' },
        { split: 'test', index: 1, class: 'b' },
      ],
      [
        { split: 'train', index: 0, class: 'a' },
        { split: 'train', index: 1, class: 'a' },
        { split: 'test', index: 0, class: 'a' },
      ],
    ]);
  });
});

describe('contactSheet()', () => {
  test('has a class without images, and its images where they belong', () => {
    const { width, height, rgb } = contactSheet(
      tiny(
        [
          [200, 0],
          [100, 1],
        ],
        [[1, 0]],
      ),
    );
    // Two classes of ten cells beside one another, 32 pixels each, two between them.
    expect([width, height]).toEqual([20 * 34 + 2, 2 * 34 + 2]);
    const at = (x: number, y: number) => [...rgb.subarray(3 * (y * width + x)).subarray(0, 3)];
    expect(at(2, 2)).toEqual([200, 0, 255]);
    expect(at(33, 33)).toEqual([200, 0, 255]);
    expect(at(34, 2)).toEqual([48, 48, 48]);
    expect(at(2 + 340, 2)).toEqual([100, 0, 255]);
    expect(at(2, 36)).toEqual([48, 48, 48]);
  });

  test('stays small with 1,000 classes of large images', () => {
    const classNames = Array.from({ length: 1000 }, (_, label) => String(label));
    const input = { channels: 1, height: 1024, width: 512 };
    const split = {
      images: new Uint8Array(2 * 512 * 1024).fill(7),
      labels: Uint16Array.of(0, 999),
    };
    const sheet = contactSheet({ name: 'x', input, classNames, train: split, test: split });
    expect(sheet.width * sheet.height).toBeLessThan(6e6);
    expect(sheet.rgb.at(-3 * (2 * sheet.width + 3))).toBe(7);
  });
});

test('terminalSheet() fits into its columns, whatever the classes are called', async () => {
  const dataset = { ...(await mnist()), classNames: DIGITS.map((digit) => `数字-${digit}`) };
  for (const isTrueColor of [true, false]) {
    const screen = createScreen(60, 50);
    for (const line of terminalSheet(dataset, 60, isTrueColor)) screen.write(`${line}\n`);
    const lines = await screen.lines();
    expect(lines.filter((line) => line.includes('数字'))).toHaveLength(4);
    expect(lines).toHaveLength(4 * 9);
  }
});

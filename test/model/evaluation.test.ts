import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { confusedPairs, reportOf as reportFor } from '../../src/model/evaluation.js';
import { DIGITS } from '../../src/model/lenet.js';

const reportOf = (labels: Uint16Array, predictions: Uint16Array) =>
  reportFor(labels, predictions, DIGITS);

describe('reportOf()', () => {
  test('counts labels against predictions', () => {
    const report = reportOf(Uint16Array.of(0, 0, 0, 1, 1, 7), Uint16Array.of(0, 0, 1, 1, 7, 7));
    expect(report).toMatchObject({ numImages: 6, numCorrect: 4, accuracy: 4 / 6 });
    expect(report.confusion[0]).toEqual([2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect(report.confusion[1]).toEqual([0, 1, 0, 0, 0, 0, 0, 1, 0, 0]);
    expect(report.classes[0]).toEqual({
      name: '0',
      numImages: 3,
      precision: 1,
      recall: 2 / 3,
      f1: 0.8,
    });
    expect(report.classes[1]).toMatchObject({ precision: 0.5, recall: 0.5, f1: 0.5 });
    expect(report.classes[7]).toMatchObject({ precision: 0.5, recall: 1, f1: 2 / 3 });
  });

  test('gives no score where there is nothing to score', () => {
    const { classes } = reportOf(Uint16Array.of(1, 2), Uint16Array.of(1, 3));
    expect(classes[0]).toEqual({
      name: '0',
      numImages: 0,
      precision: null,
      recall: null,
      f1: null,
    });
    expect(classes[2]).toMatchObject({ precision: null, recall: 0, f1: 0 });
    expect(classes[3]).toMatchObject({ precision: 0, recall: null, f1: 0 });
  });

  test('accounts for every image once', () => {
    const pairs = fc.array(fc.tuple(fc.nat(9), fc.nat(9)), { minLength: 1 });
    fc.assert(
      fc.property(pairs, (images) => {
        const labels = Uint16Array.from(images, ([label]) => label);
        const predictions = Uint16Array.from(images, ([, prediction]) => prediction);
        const { confusion, classes, numCorrect } = reportOf(labels, predictions);
        expect(confusion.flat().reduce((a, b) => a + b)).toBe(images.length);
        expect(classes.reduce((total, { numImages }) => total + numImages, 0)).toBe(images.length);
        expect(numCorrect).toBe(images.filter(([a, b]) => a === b).length);
      }),
    );
  });

  test('refuses what does not fit', () => {
    expect(() => reportOf(Uint16Array.of(1), Uint16Array.of(1, 2))).toThrow(
      'Cannot compare 2 predictions with 1 labels',
    );
    expect(() => reportOf(new Uint16Array(0), new Uint16Array(0))).toThrow(RangeError);
    expect(() => reportOf(Uint16Array.of(1), Uint16Array.of(10))).toThrow(
      'Cannot compare the prediction 10 with the label 1: expected 0 to 9',
    );
  });
});

describe('confusedPairs()', () => {
  test('lists what was taken for something else, most often first, ties by class', () => {
    const labels = Uint16Array.of(3, 999, 999, 3, 5);
    const predictions = Uint16Array.of(3, 0, 0, 999, 3);
    expect(confusedPairs(labels, predictions)).toEqual([
      { label: 999, predicted: 0, count: 2 },
      { label: 3, predicted: 999, count: 1 },
      { label: 5, predicted: 3, count: 1 },
    ]);
  });
});

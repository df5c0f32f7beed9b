import { expect, it } from 'vitest';
import { bestOf } from '../../../../src/coordinator/page/browser/best.js';
import type { EvaluationRow } from '../../../../src/coordinator/page/update.js';

const row = (set: EvaluationRow['set'], globalStep: number, accuracy: number): EvaluationRow => ({
  ...{ set, globalStep, accuracy, epoch: globalStep, loss: 1, seconds: globalStep },
});

it('is the first with the best test accuracy where there is no validation set', () => {
  const rows = [row('test', 1, 0.8), row('test', 2, 0.9), row('test', 3, 0.9)];
  expect(bestOf(rows)).toBe(rows[1]);
  expect(bestOf([])).toBeUndefined();
});

it('is the test evaluation of the state with the best validation accuracy, which need not be the best of its set', () => {
  const rows = [
    ...[row('validation', 1, 0.9), row('test', 1, 0.95)],
    ...[row('validation', 2, 0.92), row('test', 2, 0.94)],
  ];
  expect(bestOf(rows)).toBe(rows[3]);
  // A state of which the test set is still being evaluated does not count yet.
  expect(bestOf(rows.slice(0, 3))).toBe(rows[1]);
  expect(bestOf(rows.slice(0, 1))).toBe(rows[0]);
});

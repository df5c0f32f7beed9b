import { describe, expect, test } from 'vitest';
import { Ledger } from '../../../src/coordinator/round/ledger.js';
import { Sampler } from '../../../src/coordinator/sampler.js';

const sampler = new Sampler(1, 10, 4);

describe('Sampler', () => {
  test('puts each sample into one batch per epoch, in a different order', () => {
    const epochs = [0, 3].map((first) => [0, 1, 2].flatMap((i) => [...sampler.batch(first + i)]));
    for (const epoch of epochs) {
      expect(epoch.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
    expect(epochs[0]).not.toEqual(epochs[1]);
  });
});

describe('Ledger', () => {
  test('accepts each image once per epoch, even starting in mid-epoch', () => {
    const ledger = new Ledger(sampler, 2);
    for (let step = 2; step < 6; step++) {
      ledger.add(sampler.batch(step));
      ledger.close(step + 1);
    }
  });

  test('names an image that was counted twice or left out', () => {
    const ledger = new Ledger(sampler, 0);
    for (const step of [0, 1, 1]) ledger.add(sampler.batch(step));
    expect(() => ledger.close(3)).toThrow(/^Ledger: image \d counted [02] times in epoch 0/);
  });
});

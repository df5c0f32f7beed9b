import { expect, it } from 'vitest';
import { LENET5, buildModel } from '../../src/model/lenet.js';
import { fittingThreads, memoryNeeded } from '../../src/worker/needs.js';

const asked = { numSamples: 2_000, microBatch: 8, evaluationBlock: 250 };
const photographs = buildModel(LENET5, {
  input: { channels: 3, height: 224, width: 224 },
  numClasses: 10,
});

it('fits as many threads as the memory takes, and no more than there are', () => {
  const threads = fittingThreads(photographs, asked, 64, 4e9);
  expect(threads).toBeGreaterThan(1);
  expect(threads).toBeLessThan(64);
  expect(memoryNeeded(photographs, asked, threads)).toBeLessThanOrEqual(4e9);
  expect(memoryNeeded(photographs, asked, threads + 1)).toBeGreaterThan(4e9);
  expect(fittingThreads(buildModel(LENET5), asked, 8, 4e9)).toBe(8);
  // One is tried, and refused with a sentence.
  expect(fittingThreads(photographs, asked, 8, 1e6)).toBe(1);
});

import { expect, it } from 'vitest';
import { prospectsOf } from '../../src/shared/link-check.js';

const prospect = {
  numParams: 250_000,
  batchSize: 128,
  microBatch: 8,
  numWorkers: 1,
  imagesPerSecond: 16_000,
  roundTripMs: 2,
  downBytesPerSecond: 1e9,
  upBytesPerSecond: 1e9,
};

it('prospectsOf() takes an even share, the parameters down and one sum up', () => {
  // 64 images in 4 ms; 2 ms of round trip and a megabyte each way in 1 ms.
  const { imagesPerSecond, wireShare } = prospectsOf(prospect);
  expect(imagesPerSecond).toBeCloseTo(64 / 0.008, 6);
  expect(wireShare).toBeCloseTo(0.5, 9);
});

it('prospectsOf() gives no less than a micro-batch and no more than a batch', () => {
  const { imagesPerSecond } = prospectsOf({ ...prospect, numWorkers: 1000 });
  expect(imagesPerSecond).toBeCloseTo(8 / (8 / 16_000 + 0.004), 6);
  const alone = prospectsOf({ ...prospect, batchSize: 4, numWorkers: 0 });
  expect(alone.imagesPerSecond).toBeCloseTo(4 / (4 / 16_000 + 0.004), 6);
});

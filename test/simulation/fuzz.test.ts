/** Changed frames in one process; `npm run attack -- --frames N` tries as many as one has time for. */
import { expect, test } from 'vitest';
import { createRandom } from '../../src/shared/random.js';
import { MAX_BLOCKED_MS } from '../support/attack/figures.js';
import { fuzzCoordinator, fuzzWorker } from '../support/attack/fuzz.js';

test('the coordinator trains on among changed frames, in every state', async () => {
  const report = await fuzzCoordinator({ numFrames: 10_000, random: createRandom(1, 'test') });
  expect(report.violations).toEqual([]);
  expect(report.numUndisturbed).toBeGreaterThan(0);
  expect(report.longestMs).toBeLessThan(MAX_BLOCKED_MS);
  expect(Object.keys(report.byState)).toEqual(
    expect.arrayContaining(['before hello', 'welcomed', 'ready', 'in step', 'in evaluate']),
  );
});

test('a worker proves itself as before after changed frames, in every state', async () => {
  const report = await fuzzWorker({ numFrames: 4_000, random: createRandom(1, 'test') });
  expect(report.violations).toEqual([]);
  expect(report.numUndisturbed).toBeGreaterThan(0);
  expect(report.longestMs).toBeLessThan(MAX_BLOCKED_MS);
  expect(Object.keys(report.byState).sort()).toEqual([
    'before the welcome',
    'computing',
    'welcomed',
  ]);
});

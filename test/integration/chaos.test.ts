/** Real processes, killed, stopped, slowed and restarted; `npm run chaos` does it for longer. */
import { expect, test } from 'vitest';
import { runChaos } from '../support/chaos/chaos.js';
import { chaosSchedule } from '../support/chaos/schedule.js';
import { smallMnist } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const DURATION_MS = 10_000;

test('the weights do not show what was done to the processes', async () => {
  // A seed whose faults are of several kinds, the coordinator's death among them.
  const seed = 21;
  const kinds = new Set(chaosSchedule(seed, DURATION_MS, 3).map(({ kind }) => kind));
  expect(kinds.size).toBeGreaterThan(3);
  expect(kinds).toContain('kill coordinator');
  const { faults, weights, violations } = await runChaos({
    seed,
    durationMs: DURATION_MS,
    numWorkers: 3,
    flags: ['--dataset', await smallMnist(6000, 300), '--epochs', '16'],
    folder: await temporaryDirectory(),
    log: () => undefined,
  });
  expect(violations).toEqual([]);
  expect(weights[1]).toBe(weights[0]);
  expect(faults.some(({ kind }) => kind === 'kill coordinator')).toBe(true);
});

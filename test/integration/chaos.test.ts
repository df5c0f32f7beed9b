/** Real processes, killed, stopped, slowed and restarted; `npm run chaos` does it for longer. */
import { expect, test } from 'vitest';
import { growthOf, runChaos } from '../support/chaos/chaos.js';
import { chaosSchedule, type Fault } from '../support/chaos/schedule.js';
import { killStarts } from '../support/chaos/start-kills.js';
import { runTree } from '../support/chaos/tree.js';
import { effort } from '../support/effort.js';
import { smallMnist } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const DURATION_MS = 10_000;

const killsCoordinator = ({ action, worker }: Fault) => action === 'kill' && worker === null;

test('the weights do not show what was done to the processes', async () => {
  // A seed whose faults are of several kinds, the coordinator's death among them.
  const seed = 15;
  const schedule = chaosSchedule(seed, DURATION_MS, 3);
  expect(new Set(schedule.map(({ action }) => action)).size).toBeGreaterThan(2);
  expect(schedule.some(killsCoordinator)).toBe(true);
  const { faults, weights, violations } = await runChaos({
    seed,
    durationMs: DURATION_MS,
    numWorkers: 3,
    config: { dataset: await smallMnist(6000, 300), epochs: 1000 },
    folder: await temporaryDirectory(),
    // The machine may be busy with something else.
    mostRepeatedMs: 10_000,
    log: () => undefined,
  });
  expect(violations).toEqual([]);
  expect(weights[1]).toBe(weights[0]);
  expect(faults.some(killsCoordinator)).toBe(true);
});

test('a run that is killed while it starts leaves nothing behind, and comes to the same weights', async () => {
  const { numWithWorkers, violations } = await killStarts({
    seed: 1,
    numKills: effort(10, 3),
    flags: ['--dataset', await smallMnist(), '--epochs', '20'],
    folder: await temporaryDirectory(),
    log: () => undefined,
  });
  expect(violations).toEqual([]);
  expect(numWithWorkers).toBeGreaterThan(0);
});

test('a tree of relays comes to the weights of one worker while a worker and a relay are killed', async () => {
  const { weights, violations } = await runTree({
    ...{ numRelays: 2, numWorkers: 4, numKilled: 1 },
    flags: ['--dataset', await smallMnist(), '--epochs', '20', '--batch-size', '64'],
    folder: await temporaryDirectory(),
    log: () => undefined,
  });
  expect(violations).toEqual([]);
  expect(weights[1]).toBe(weights[0]);
});

test('growthOf() is that of the second half, where the process did run', () => {
  const started = Array.from({ length: 100 }, (_, second) => second);
  const flat = new Array<number>(100).fill(100);
  const growing = flat.map((mb, second) => mb + second / 10);
  expect(growthOf([...started, ...flat])).toBe(0);
  expect(growthOf([...started, ...growing])).toBeCloseTo(0.075, 2);
  expect(growthOf([...started, ...growing.map((mb, i) => (i % 3 === 0 ? null : mb))])).toBeCloseTo(
    0.075,
    2,
  );
});

/**
 * The coordinator's, the relays' and the workers' own code through seeded schedules of faults; `npm run simulate` runs more of them,
 * and tells one step by step.
 */
import { describe, expect, it } from 'vitest';
import { effort } from '../support/effort.js';
import { MUTANTS } from '../support/simulator/mutants.js';
import { scheduleOf, undisturbed } from '../support/simulator/schedule.js';
import { simulate } from '../support/simulator/simulation.js';
import { allTrainings } from '../support/simulator/training.js';

const SEEDS_PER_TEST = 25;
const NUM_TESTS = effort(25, 8);
/** Seeds that a mutant is given to be noticed. */
const MUTANT_SEEDS = 200;

const trainings = allTrainings();

/** What is broken by a schedule, with how to see it again. */
async function brokenBy(seed: number): Promise<string[]> {
  const { violations } = await simulate(scheduleOf(seed, trainings.length));
  return violations.map((violation) => `${violation} (npm run simulate -- --seed ${seed})`);
}

async function traceOf(seed: number): Promise<string[]> {
  const lines: string[] = [];
  await simulate(scheduleOf(seed, trainings.length), (line) => lines.push(line));
  return lines;
}

describe('an undisturbed run', () => {
  const cases = trainings.flatMap(({ name }, index) =>
    [
      { numWorkers: 1, numRelays: 0 },
      { numWorkers: 2, numRelays: 0 },
      { numWorkers: 5, numRelays: 0 },
      { numWorkers: 1, numRelays: 1 },
      { numWorkers: 5, numRelays: 3 },
    ].map((shape) => ({ name, index, ...shape })),
  );
  it.each(cases)(
    'gives the contract’s bits: training $name, $numWorkers workers, $numRelays relays',
    async ({ index, numWorkers, numRelays }) => {
      const { violations } = await simulate(undisturbed(index, numWorkers, numRelays));
      expect(violations).toEqual([]);
    },
  );

  it('counts each training image once an epoch, as θ itself says', () => {
    const { countsOf, params, config } = trainings.find((training) => training.countsOf)!;
    const counts = countsOf!(params.at(-1)!);
    expect(new Set(counts)).toEqual(new Set([config.epochs]));
  });
});

describe('a schedule of faults', () => {
  const blocks = Array.from({ length: NUM_TESTS }, (_, block) => 1 + block * SEEDS_PER_TEST);
  it.each(blocks)(`breaks no promise: ${SEEDS_PER_TEST} seeds from %i on`, async (first) => {
    const broken: string[] = [];
    for (let seed = first; seed < first + SEEDS_PER_TEST; seed++) {
      broken.push(...(await brokenBy(seed)));
    }
    expect(broken).toEqual([]);
  });

  it('has relays in a share of the seeds, and ends them for good now and then', () => {
    const schedules = Array.from({ length: 600 }, (_, i) => scheduleOf(1 + i, trainings.length));
    const trees = schedules.filter(({ workers }) => workers.some(({ relay }) => relay !== null));
    expect(trees.length).toBeGreaterThan(150);
    const losses = trees.filter(({ workers, faults }) =>
      faults.some(
        (fault) =>
          fault.kind === 'kill worker' &&
          fault.restartMs === Infinity &&
          workers[fault.worker].relay !== null,
      ),
    );
    expect(losses.length).toBeGreaterThan(30);
  });

  // The second has relays.
  it.each([7, 14])('is the same each time: seed %i', async (seed) => {
    expect(await traceOf(seed)).toEqual(await traceOf(seed));
  });
});

describe('the simulator', () => {
  const names = [
    'no-duplicate-check',
    'no-replan',
    'clock-read-twice',
    'no-backpressure',
    'unsent-samples',
    'params-once',
    'stale-partial',
    'no-finite-check',
    'no-audit',
    'resume-step-late',
    'no-heartbeat',
    'timer-left',
    'lost-checkpoint',
    'silent-loss',
    'relay-order-of-arrival',
    'relay-says-twice',
    'relay-takes-all',
    'relay-keeps-work',
    'relay-names-nobody',
    'relay-says-nothing',
  ];
  it.each(names)('catches the mutant %s', async (name) => {
    const mend = MUTANTS[name].apply();
    try {
      let isCaught = false;
      for (let seed = 1; seed <= MUTANT_SEEDS && !isCaught; seed++) {
        isCaught = (await brokenBy(seed)).length > 0;
      }
      expect(isCaught).toBe(true);
    } finally {
      mend();
    }
  });
});

/**
 * The coordinator's and the workers' own code through seeded schedules of faults; `npm run simulate` runs more of them,
 * and tells one step by step.
 */
import { describe, expect, it } from 'vitest';
import { MUTANTS } from '../support/simulator/mutants.js';
import { scheduleOf, undisturbed } from '../support/simulator/schedule.js';
import { simulate } from '../support/simulator/simulation.js';
import { allTrainings } from '../support/simulator/training.js';

const SEEDS_PER_TEST = 200;
const NUM_TESTS = 5;
/** Seeds that a mutant is given to be noticed. */
const MUTANT_SEEDS = 150;

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
    [1, 2, 5].map((numWorkers) => ({ name, index, numWorkers })),
  );
  it.each(cases)(
    'gives the contract’s bits: training $name, $numWorkers workers',
    async ({ index, numWorkers }) => {
      const { violations } = await simulate(undisturbed(index, numWorkers));
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

  it('is the same each time', async () => {
    expect(await traceOf(7)).toEqual(await traceOf(7));
  });
});

describe('the simulator', () => {
  const names = [
    'no-duplicate-check',
    'no-replan',
    'clock-read-twice',
    'no-backpressure',
    'params-once',
    'stale-partial',
    'no-finite-check',
    'no-audit',
    'resume-step-late',
    'no-heartbeat',
    'timer-left',
    'lost-checkpoint',
    'silent-loss',
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

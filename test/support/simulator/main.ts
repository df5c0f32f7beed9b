/**
 * `npm run simulate`: schedules by the thousand, or one of them told step by step.
 *
 *   npm run simulate -- --runs 10000          seeds 1 to 10,000
 *   npm run simulate -- --seed 4711           that one, with all that happens
 *   npm run simulate -- --mutate no-replan    with the protocol broken on purpose; `--mutate all` tries each mutant
 */
import { parseArgs } from 'node:util';
import { MUTANTS } from './mutants.js';
import { scheduleOf } from './schedule.js';
import { simulate } from './simulation.js';
import { allTrainings } from './training.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    from: { type: 'string', default: '1' },
    runs: { type: 'string', default: '1000' },
    mutate: { type: 'string' },
    quiet: { type: 'boolean', default: false },
  },
});

const numTrainings = allTrainings().length;
if (values.mutate === 'all') {
  for (const [name, { what, apply }] of Object.entries(MUTANTS)) {
    const mend = apply();
    let caught: string | null = null;
    for (let seed = 1; seed <= Number(values.runs) && caught === null; seed++) {
      const { violations } = await simulate(scheduleOf(seed, numTrainings));
      if (violations.length > 0) caught = `seed ${seed}: ${violations[0].split('\n')[0]}`;
    }
    mend();
    console.log(`${name.padEnd(26)} ${what}\n${' '.repeat(27)}${caught ?? 'NOT CAUGHT'}`);
    if (caught === null) process.exitCode = 1;
  }
  process.exit();
}
if (values.mutate !== undefined) MUTANTS[values.mutate].apply();
if (values.seed !== undefined) {
  const print = values.quiet ? undefined : (line: string) => console.log(line);
  const { violations } = await simulate(scheduleOf(Number(values.seed), numTrainings), print);
  for (const violation of violations) console.log(`Violation: ${violation}`);
  process.exitCode = violations.length > 0 ? 1 : 0;
} else {
  const startedAt = performance.now();
  const first = Number(values.from);
  const failed: number[] = [];
  const totals = { numFaults: 0, numEvents: 0, virtualMs: 0, numRepeated: 0 };
  for (let seed = first; seed < first + Number(values.runs); seed++) {
    const { violations, stats } = await simulate(scheduleOf(seed, numTrainings));
    for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += stats[key];
    if (violations.length === 0) continue;
    failed.push(seed);
    console.log(`Seed ${seed}: ${violations[0]}`);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  console.log(
    `${values.runs} schedules, ${totals.numFaults} faults, ${(totals.virtualMs / 3_600_000).toFixed(1)} hours of ` +
      `virtual time in ${seconds.toFixed(1)} s: ${failed.length} broke a promise`,
  );
  if (failed.length > 0) console.log(`Replay one with: npm run simulate -- --seed ${failed[0]}`);
  process.exitCode = failed.length > 0 ? 1 : 0;
}

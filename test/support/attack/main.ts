/**
 * `npm run attack`: hostile frames by the thousand in one process, then strangers, floods, workers that break the
 * protocol and a network that changes what passes, against real processes. A run must not show it.
 *
 *   npm run attack -- [--seed N] [--frames N] [--to coordinator|worker] [--seconds S] [--only NAME]
 *
 * `--frames` are those in one process, 0 for none, and `--to` whom all of them go, if not to both; `--seconds` is how long the processes are attacked, 0 for not at all;
 * `--only` leaves out the attacks on processes that have not NAME in their name.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createRandom } from '../../../src/shared/random.js';
import { writeSmallMnist } from '../small-mnist.js';
import { runAttack } from './attack.js';
import { MAX_BLOCKED_MS, MAX_GROWTH } from './figures.js';
import { fuzzCoordinator, fuzzWorker, type FuzzReport } from './fuzz.js';

/** Of the frames in one process, those to a worker: each costs it twice as much as one costs a coordinator. */
const SHARE_TO_WORKER = 0.15;

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    frames: { type: 'string', default: '100000' },
    to: { type: 'string', default: '' },
    seconds: { type: 'string', default: '60' },
    only: { type: 'string', default: '' },
  },
});
const [seed, numFrames] = [Number(values.seed), Number(values.frames)];
const violations: string[] = [];
/** Asked to stop, it tells what it has found by then of the frames in one process. */
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
// An error is made for each of the frames.
Error.stackTraceLimit = 3;

if (numFrames > 0) {
  for (const [to, fuzz, share] of [
    ['worker', fuzzWorker, SHARE_TO_WORKER],
    ['coordinator', fuzzCoordinator, 1 - SHARE_TO_WORKER],
  ] as const) {
    if (values.to !== '' && values.to !== to) continue;
    const report = await fuzz({
      numFrames: Math.ceil((values.to === '' ? share : 1) * numFrames),
      random: createRandom(seed, 'fuzz', to),
      signal: stop.signal,
      onProgress: (done) => console.log(`To a ${to}: ${done} frames`),
    });
    violations.push(...judge(to, report));
  }
}
if (Number(values.seconds) > 0 && !stop.signal.aborted) {
  // The processes end with this one.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-attack-'));
  try {
    const dataset = join(folder, 'mnist');
    await writeSmallMnist(dataset, 2_000, 300);
    const durationMs = 1000 * Number(values.seconds);
    const log = (line: string) => console.log(line);
    const report = await runAttack({ seed, durationMs, dataset, folder, only: values.only, log });
    console.log(`\nChanged: ${report.types.join(', ')}`);
    for (const { globalStep, weights } of report.runs) {
      console.log(`After ${globalStep} steps: undisturbed ${weights[0]}\n  attacked ${weights[1]}`);
    }
    violations.push(...report.violations);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
violations.forEach((violation) => console.log(`Violation: ${violation}`));
console.log(violations.length === 0 ? '\nEvery promise was kept' : '\nNot kept');
process.exit(violations.length === 0 ? 0 : 1);

function judge(to: string, report: FuzzReport): string[] {
  const { numConnections, longestMs, longest, aliveMb, seconds } = report;
  const states = Object.entries(report.byState).map(([state, count]) => `${count} ${state}`);
  console.log(`
To a ${to}: ${report.numFrames} frames over ${numConnections} connections in ${seconds.toFixed(0)} s
  ${states.join(', ')}
  blocked for ${longestMs.toFixed(1)} ms at most; ${aliveMb.join(' → ')} MB alive
  undisturbed beside: ${report.numUndisturbed}`);
  const found = report.violations.map((violation) => `To a ${to}: ${violation}`);
  if (longestMs > MAX_BLOCKED_MS)
    found.push(`To a ${to}: a frame took ${longestMs.toFixed(0)} ms: ${longest}`);
  const [before, after] = aliveMb;
  if (after > (1 + MAX_GROWTH) * before) found.push(`To a ${to}: ${before} → ${after} MB`);
  return found;
}

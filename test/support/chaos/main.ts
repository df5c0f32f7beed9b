/**
 * `npm run chaos`: real processes, killed, stopped, slowed and restarted; the weights must not show it.
 *
 *   npm run chaos -- --seed 7                        a minute of faults, MNIST, 4 workers
 *   npm run chaos -- --seconds 3600                  an hour of them, with a judgement of the memory at the end
 *   npm run chaos -- --starts 100                    kills `lockstep train` at random moments of its start
 *   npm run chaos -- --relays 4 --workers 64         kills workers behind relays, and a relay
 *
 * When the faults are over the run is stopped, and as many steps are trained once more in one process that nobody disturbs.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runChaos } from './chaos.js';
import { killStarts } from './start-kills.js';
import { runTree } from './tree.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '60' },
    workers: { type: 'string', default: '4' },
    epochs: { type: 'string' },
    starts: { type: 'string' },
    relays: { type: 'string' },
  },
});
/** More than any machine trains meanwhile. */
const MANY_EPOCHS = 100_000;
const durationS = Number(values.seconds);
const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
const folder = mkdtempSync(join(tmpdir(), 'lockstep-chaos-'));
try {
  const violations = await (values.starts !== undefined
    ? start(Number(values.starts))
    : values.relays !== undefined
      ? disturbTree(Number(values.relays))
      : disturb());
  violations.forEach((violation) => console.log(`Violation: ${violation}`));
  console.log(violations.length === 0 ? '\nEvery promise was kept' : '\nNot kept');
  process.exitCode = violations.length === 0 ? 0 : 1;
} catch (error) {
  console.log(stop.signal.aborted ? 'Stopped' : String(error));
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function disturb(): Promise<readonly string[]> {
  const report = await runChaos({
    seed: Number(values.seed),
    durationMs: 1000 * durationS,
    numWorkers: Number(values.workers),
    config: { epochs: Number(values.epochs ?? MANY_EPOCHS) },
    folder,
    mostRepeatedMs: 3_000,
    log: (line) => console.log(line),
    signal: stop.signal,
  });
  console.log(
    `\n${report.faults.length} faults in ${report.seconds.toFixed(0)} s; the coordinator was started ` +
      `${report.numCoordinatorStarts} times`,
  );
  const { repeated } = report;
  if (repeated.length > 0) {
    const ms = repeated.map((work) => work.ms).toSorted((a, b) => a - b);
    console.log(
      `Done again after ${ms.length} kills of it: ${seconds(ms[ms.length >> 1])} of work in the median, ` +
        `${seconds(ms[ms.length - 1])} at most`,
    );
  }
  console.log(
    `Weights undisturbed  ${report.weights[0]}\n        disturbed    ${report.weights[1]}`,
  );
  return report.violations;
}

async function start(numKills: number): Promise<readonly string[]> {
  const report = await killStarts({
    seed: Number(values.seed),
    numKills,
    flags: ['--epochs', String(values.epochs ?? 5)],
    folder,
    log: (line) => console.log(line),
  });
  console.log(
    `${report.numOrphans} orphans over ${numKills} kills at random moments of a start, up to ` +
      `${seconds(1.33 * report.startMs)}; workers were there at ${report.numWithWorkers} of them`,
  );
  return report.violations;
}

async function disturbTree(numRelays: number): Promise<readonly string[]> {
  const report = await runTree({
    numRelays,
    numWorkers: Number(values.workers),
    numKilled: 5,
    // Two micro-batches a worker and step.
    flags: ['--epochs', values.epochs ?? '1', '--batch-size', '2048', '--micro-batch', '16'],
    folder,
    log: (line) => console.log(line),
    signal: stop.signal,
  });
  console.log(
    `${report.numMoved} workers went on without their relay; over after ${report.seconds.toFixed(0)} s`,
  );
  console.log(
    `Weights of one worker  ${report.weights[0]}\n        of the tree    ${report.weights[1]}`,
  );
  return report.violations;
}

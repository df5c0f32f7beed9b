/** A run that is killed again and again while it starts, as its users' patience or the kernel's memory may do it. */
import { randomUUID } from 'node:crypto';
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunResult } from '../../../src/coordinator/events.js';
import { createRandom } from '../../../src/shared/random.js';
import { MARK, marked } from '../descendants.js';
import { MAIN } from '../program.js';

export interface StartKillsOptions {
  readonly seed: number;
  readonly numKills: number;
  /** Flags of the run, such as `--epochs 3`. */
  readonly flags: readonly string[];
  /** An empty folder of its own. */
  readonly folder: string;
  readonly log: (line: string) => void;
}

export interface StartKillsReport {
  /** From the start of a run that is left alone to its first step, ms: kills come until a third later. */
  readonly startMs: number;
  /** Processes that were there when a killed run had been gone for ORPHAN_AFTER_MS. */
  readonly numOrphans: number;
  /** Of the kills, those after which processes of the run were there for a moment. */
  readonly numWithWorkers: number;
  readonly violations: readonly string[];
}

/** A process that is still there so long after its parent's end does not mean to go. */
const ORPHAN_AFTER_MS = 10_000;
const WORKERS = ['--workers', '2', '--port', '0'];

/** Kills `lockstep train --out DIR --resume` at random moments of its start, then lets it come to its end. */
export async function killStarts(options: StartKillsOptions): Promise<StartKillsReport> {
  const { seed, numKills, flags, folder, log } = options;
  const random = createRandom(seed, 'start kills');
  const violations: string[] = [];
  const undisturbed = join(folder, 'undisturbed');
  const disturbed = join(folder, 'disturbed');
  const mark = randomUUID();

  const whole = startRun(['--out', undisturbed, ...flags], mark);
  const startMs = await firstStepAfterMs(undisturbed);
  if ((await ended(whole)) !== 0) violations.push('The undisturbed run failed');

  let numOrphans = 0;
  let numWithWorkers = 0;
  for (let kill = 0; kill < numKills; kill++) {
    const run = startRun(['--out', disturbed, '--resume', ...flags], mark);
    const afterMs = random.float() * startMs * 1.33;
    await sleep(afterMs);
    run.kill('SIGKILL');
    await ended(run);
    if (marked(mark).length > 0) numWithWorkers++;
    const since = performance.now();
    while (marked(mark).length > 0 && performance.now() - since < ORPHAN_AFTER_MS) await sleep(20);
    const orphans = marked(mark);
    orphans.forEach((pid) => process.kill(pid, 'SIGKILL'));
    numOrphans += orphans.length;
    if (orphans.length > 0)
      log(`${orphans.length} orphans of a run killed after ${afterMs.toFixed(0)} ms`);
  }
  if (numOrphans > 0) violations.push(`${numOrphans} orphans`);

  const last = startRun(['--out', disturbed, '--resume', ...flags], mark);
  if ((await ended(last)) !== 0) violations.push('The run did not come to its end');
  const [expected, actual] = [undisturbed, disturbed].map(weightsOf);
  if (expected !== actual) violations.push(`The weights are ${actual}, undisturbed ${expected}`);
  return { startMs, numOrphans, numWithWorkers, violations };
}

function startRun(args: readonly string[], mark: string): ChildProcess {
  return spawn(process.execPath, [MAIN, 'train', ...WORKERS, '--quiet', ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, [MARK]: mark },
  });
}

function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve) => child.once('exit', (code) => resolve(code)));
}

async function firstStepAfterMs(run: string): Promise<number> {
  const since = performance.now();
  const metrics = join(run, 'metrics.jsonl');
  while (!existsSync(metrics) || readFileSync(metrics).length === 0) await sleep(5);
  return performance.now() - since;
}

function weightsOf(run: string): string {
  const path = join(run, 'result.json');
  if (!existsSync(path)) return 'none';
  return (JSON.parse(readFileSync(path, 'utf8')) as RunResult).weightsSha256;
}

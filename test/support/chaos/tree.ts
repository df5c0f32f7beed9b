/**
 * A run of real processes behind relays, some of which are killed for good, compared with one worker alone.
 */
import { join } from 'node:path';
import { freePort } from '../free-port.js';
import { resultOf } from './chaos.js';
import { startProgram, type Program } from '../program.js';

/** For all of it to be there, to compute, and to end. */
const PATIENCE_MS = 1_800_000;
/** Many processes share few cores. */
const HEARTBEAT_S = '30';

export interface TreeOptions {
  readonly numRelays: number;
  /** Shared out evenly among the relays. */
  readonly numWorkers: number;
  /** Workers that are killed; none of the first relay, which is killed itself. */
  readonly numKilled: number;
  /** Flags of the run, such as `--epochs 3`. */
  readonly flags: readonly string[];
  /** An empty folder of its own. */
  readonly folder: string;
  readonly log: (line: string) => void;
  readonly signal?: AbortSignal;
}

export interface TreeReport {
  /** Of one worker alone, and of the tree. */
  readonly weights: readonly [string, string];
  /** What went wrong, one sentence each; empty if every promise was kept. */
  readonly violations: readonly string[];
  /** Workers of the relay that was killed that went on without it. */
  readonly numMoved: number;
  readonly seconds: number;
}

export async function runTree(options: TreeOptions): Promise<TreeReport> {
  const { numRelays, numWorkers, numKilled, flags, folder, log, signal } = options;
  const violations: string[] = [];
  const alone = join(folder, 'alone');
  const one = startProgram('train', '--workers', '1', '--port', '0', '--out', alone, ...flags);
  const started: Program[] = [one];
  const giveUp = () => started.forEach(({ process }) => process.kill('SIGKILL'));
  const patience = setTimeout(() => {
    violations.push('The run did not come to its end');
    giveUp();
  }, PATIENCE_MS);
  signal?.addEventListener('abort', giveUp);
  const start = (...args: string[]) => {
    const program = startProgram(...args);
    started.push(program);
    return program;
  };
  try {
    await one.end();
    const startedAt = performance.now();
    const out = join(folder, 'tree');
    const ports = await Promise.all(Array.from({ length: 1 + numRelays }, freePort));
    const where = (to: number) => ['--port', String(ports[to])];
    const url = (to: number) => `ws://127.0.0.1:${ports[to]}`;
    const coordinator = start(
      ...['coordinator', '--out', out, ...where(0), '--min-workers', String(numRelays)],
      ...['--verify-ledger', '--log-every', '1', '--heartbeat-timeout', HEARTBEAT_S, ...flags],
    );
    const behind = Array.from({ length: numRelays }, () => [] as Program[]);
    for (let i = 0; i < numWorkers; i++) {
      const k = i % numRelays;
      const how = ['--name', `worker-${i}`, '--engine', 'simd', '--threads', '1', '--quiet'];
      behind[k].push(start('worker', url(1 + k), ...how));
    }
    const relays = behind.map((workers, k) =>
      start(
        ...['relay', url(0), ...where(1 + k), '--name', `relay-${k}`],
        ...['--min-workers', String(workers.length)],
      ),
    );

    const steps = (count: number) =>
      coordinator.says(new RegExp(`(step +[^\\n]*images/s[^]*?){${count}}`));
    await steps(2);
    log(`${numWorkers} workers behind ${numRelays} relays are at work`);
    const victims = behind.slice(1).flat().slice(0, numKilled);
    for (const { process } of victims) process.kill('SIGKILL');
    log(`${victims.length} workers are killed`);
    await steps(5);
    relays[0].process.kill('SIGKILL');
    log('a relay is killed');
    await coordinator.end();
    const seconds = (performance.now() - startedAt) / 1000;
    const [wanted, result] = [resultOf(alone), resultOf(out)];
    if (result?.outcome !== 'finished') {
      violations.push(`The run did not finish: ${coordinator.output().slice(-2000)}`);
    } else if (result.weightsSha256 !== wanted?.weightsSha256) {
      violations.push('The weights differ from those of one worker');
    }
    const orphans = new Set(behind[0].map((_, i) => `worker-${i * numRelays}`));
    const numMoved = result?.workers.filter(({ name }) => orphans.has(name)).length ?? 0;
    if (numMoved === 0) violations.push('No worker went on without its relay');
    const weights = [wanted, result].map((of) => of?.weightsSha256 ?? 'none');
    return { weights: [weights[0], weights[1]], violations, numMoved, seconds };
  } finally {
    clearTimeout(patience);
    signal?.removeEventListener('abort', giveUp);
    giveUp();
    await Promise.all(started.map((program) => program.end()));
  }
}

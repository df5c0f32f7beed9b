/**
 * A run of real processes that are killed, stopped, slowed and restarted, compared with one that was left alone.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { RunResult } from '../../../src/coordinator/events.js';
import { train, type TrainOptions } from '../../../src/library/train.js';
import { freePort } from '../free-port.js';
import { SHORTEST_JUDGED_MS, chaosSchedule, type Fault } from './schedule.js';
import { Supervised } from './supervised.js';

export interface ChaosOptions {
  readonly seed: number;
  /** For how long things are done to the run, ms. */
  readonly durationMs: number;
  readonly numWorkers: number;
  /** What is trained; it is stopped when the faults are over, if it has not come to its end. */
  readonly config: NonNullable<TrainOptions['config']> & { readonly epochs: number };
  /** An empty folder of its own. */
  readonly folder: string;
  /** Work that may be done again after a kill of the coordinator, ms: the time between checkpoints, and a write's. */
  readonly mostRepeatedMs: number;
  readonly log: (line: string) => void;
  /** Ends everything, with a violation. */
  readonly signal?: AbortSignal;
}

export interface ChaosReport {
  /** What was done; not what found its victim down already. */
  readonly faults: readonly Fault[];
  /** Of the undisturbed run, and of the other. */
  readonly weights: readonly [string, string];
  /** What went wrong, one sentence each; empty if every promise was kept. */
  readonly violations: readonly string[];
  /** Resident memory over the run, MB: samples a second, null where a process did not run. */
  readonly memory: readonly { readonly name: string; readonly residentMb: (number | null)[] }[];
  readonly numCoordinatorStarts: number;
  /** For each kill of the coordinator: steps that its successor had to do again, and the time that they had taken. */
  readonly repeated: readonly Repeated[];
  readonly seconds: number;
}

export interface Repeated {
  readonly numSteps: number;
  readonly ms: number;
}

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { seed, durationMs, numWorkers, config, folder, log, signal } = options;
  const disturbed = join(folder, 'disturbed');
  const configFile = join(folder, 'config.json');
  writeFileSync(configFile, JSON.stringify(config));

  const port = await freePort();
  const isFinished = () => resultOf(disturbed)?.outcome === 'finished';
  const startedAt = performance.now();
  const coordinator = new Supervised(
    'coordinator',
    ['coordinator', '--port', String(port), '--out', disturbed, '--resume', '--quiet'].concat(
      ['--verify-ledger'],
      ['--config', configFile],
    ),
    isFinished,
  );
  const workers = Array.from(
    { length: numWorkers },
    (_, i) =>
      new Supervised(
        `worker ${i}`,
        [
          'worker',
          `ws://127.0.0.1:${port}`,
          '--name',
          `worker-${i}`,
          '--engine',
          'simd',
          '--threads',
          '1',
          '--quiet',
        ],
        isFinished,
      ),
  );
  const processes = [coordinator, ...workers];

  const faults: Fault[] = [];
  const timers = chaosSchedule(seed, durationMs, numWorkers).map((fault) =>
    setTimeout(() => {
      const victim = fault.worker === null ? coordinator : workers[fault.worker];
      if (!victim.isRunning) return;
      faults.push(fault);
      log(describeFault(fault));
      inflict(fault, victim);
    }, fault.at),
  );
  const repeated: Repeated[] = [];
  const violations: string[] = [];
  coordinator.onExit = (code, signal) => {
    if (signal === 'SIGKILL' && !isFinished()) repeated.push(...repeatedWork(disturbed));
    if (code !== 143) return;
    for (const { numSteps } of repeatedWork(disturbed)) {
      if (numSteps > 0) violations.push(`A clean stop lost ${numSteps} steps`);
    }
    if (existsSync(join(disturbed, 'lock.json'))) violations.push('A clean stop left its lock');
  };
  const memory = ['coordinator', ...workers.map((_, i) => `worker-${i}`)].map((name) => ({
    name,
    residentMb: [] as (number | null)[],
  }));
  const sampling = setInterval(() => {
    memory.forEach(({ residentMb }, i) => residentMb.push(processes[i].residentMb()));
  }, SAMPLE_MS);
  // Stopped once the faults are over and the run has got somewhere.
  const finishing = setInterval(() => {
    if (performance.now() - startedAt < durationMs || savedSteps(disturbed).length === 0) return;
    clearInterval(finishing);
    coordinator.finish();
  }, 100);
  // A run that does not come to its end breaks a promise too.
  const giveUp = () => void coordinator.close();
  const patience = setTimeout(giveUp, durationMs + PATIENCE_MS);
  signal?.addEventListener('abort', giveUp);
  await coordinator.ended;
  const seconds = (performance.now() - startedAt) / 1000;
  [...timers, patience].forEach(clearTimeout);
  [sampling, finishing].forEach(clearInterval);
  signal?.removeEventListener('abort', giveUp);
  await Promise.all(processes.map((supervised) => supervised.close()));

  violations.push(...processes.flatMap(({ failures }) => failures));
  const actual = resultOf(disturbed);
  signal?.throwIfAborted();
  if (!actual) violations.push('The run did not come to its end');
  // The steps left alone may take as long again.
  sayMemory(memory, durationMs, log);
  if (actual) log(`\nThe same ${actual.globalStep} steps, left alone`);
  const expected = actual && (await trainAlone(config, actual.globalStep, signal));
  if (actual && actual.weightsSha256 !== expected?.weightsSha256)
    violations.push('The weights differ from those of the undisturbed run');
  if (durationMs >= SHORTEST_JUDGED_MS) {
    if (actual?.outcome === 'finished')
      violations.push('The run ended before the faults: give it more --epochs');
    for (const name of KEPT) {
      const { residentMb } = memory.find((process) => process.name === name)!;
      const growth = growthOf(residentMb.slice(0, durationMs / SAMPLE_MS));
      if (growth > MOST_GROWTH) violations.push(`${name} grew by ${(100 * growth).toFixed(1)} %`);
    }
  }
  for (const { numSteps, ms } of repeated) {
    if (ms > options.mostRepeatedMs)
      violations.push(`${numSteps} steps of ${ms} ms were done again`);
  }
  return {
    faults,
    weights: [expected?.weightsSha256 ?? 'none', actual?.weightsSha256 ?? 'none'],
    violations,
    memory,
    numCoordinatorStarts: coordinator.numStarts,
    repeated,
    seconds,
  };
}

/** Within it a run has to have stopped after the faults. */
const PATIENCE_MS = 60_000;
/** Between two readings of the memory. */
const SAMPLE_MS = 1000;
/** These keep their processes after a quarter of the time (schedule.ts). */
const KEPT = ['coordinator', 'worker-0'];
/** Of memory, over the second half of the run. */
const MOST_GROWTH = 0.03;

/**
 * How much a process grew over the second half of the run: the median of the last quarter of it against that of the
 * first.
 *
 * @param residentMb samples at equal distances
 */
export function growthOf(residentMb: readonly (number | null)[]): number {
  const half = residentMb.slice(residentMb.length >> 1);
  const quarter = Math.ceil(half.length / 4);
  const median = (part: readonly (number | null)[]) => {
    const sorted = part.filter((mb) => mb !== null).toSorted((a, b) => a - b);
    return sorted.at(sorted.length >> 1) ?? 0;
  };
  const before = median(half.slice(0, quarter));
  return before === 0 ? 0 : median(half.slice(-quarter)) / before - 1;
}

/** As many steps of the run, in one process that nobody disturbs. */
function sayMemory(memory: ChaosReport['memory'], durationMs: number, log: (line: string) => void) {
  log('\nResident memory, MB, the most in each tenth of the run');
  for (const { name, residentMb } of memory) {
    const tenths = Array.from({ length: 10 }, (_, i) => {
      const part = residentMb.slice(
        Math.floor((i * residentMb.length) / 10),
        Math.floor(((i + 1) * residentMb.length) / 10),
      );
      return Math.round(Math.max(0, ...part.map((mb) => mb ?? 0)));
    });
    log(`${name.padEnd(12)} ${tenths.map((mb) => String(mb).padStart(4)).join(' ')}`);
  }
  for (const { name, residentMb } of memory.filter(({ name }) => KEPT.includes(name))) {
    const growth = growthOf(residentMb.slice(0, durationMs / SAMPLE_MS));
    log(
      `${name} over the second half of the faults: ${(100 * growth).toFixed(1)} %` +
        (durationMs >= SHORTEST_JUDGED_MS
          ? `, ${100 * MOST_GROWTH} at most`
          : ', not judged in so short a time'),
    );
  }
}

async function trainAlone(
  config: ChaosOptions['config'],
  numSteps: number,
  signal: AbortSignal | undefined,
): Promise<RunResult> {
  const done = new AbortController();
  const { result } = await train({
    config,
    threads: availableParallelism(),
    onEvent: (event) => {
      if (event.type === 'step' && event.globalStep + 1 === numSteps) done.abort();
    },
    signal: signal ? AbortSignal.any([done.signal, signal]) : done.signal,
  });
  signal?.throwIfAborted();
  return result;
}

/** Longer pauses between two steps are none of work: the coordinator was stopped, or waited for workers. */
const LONGEST_STEP_MS = 250;

/** Updates made until each checkpoint that there is. */
function savedSteps(run: string): number[] {
  const checkpoints = join(run, 'checkpoints');
  if (!existsSync(checkpoints)) return [];
  return readdirSync(checkpoints).flatMap((file) => {
    const match = /^step-(\d+)\.safetensors$/.exec(file);
    return match ? [Number(match[1])] : [];
  });
}

/** Of metrics: many more steps than are between two checkpoints. A run of an hour has more than fits in a string. */
const TAIL_BYTES = 16 * 1024 * 1024;

/** The end of a file, after a line break if it has fewer bytes. */
function tailOf(path: string, maxBytes: number): string {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    const bytes = Buffer.alloc(Math.min(size, maxBytes));
    readSync(file, bytes, 0, bytes.length, size - bytes.length);
    return size > maxBytes ? bytes.toString() : `\n${bytes.toString()}`;
  } finally {
    closeSync(file);
  }
}

/** What has been done since the last checkpoint, by the metrics; nothing if there is no checkpoint yet. */
function repeatedWork(run: string): Repeated[] {
  const metrics = join(run, 'metrics.jsonl');
  const saved = savedSteps(run);
  if (!existsSync(metrics) || saved.length === 0) return [];
  const since = Math.max(...saved);
  // The first line and the last may be cut off.
  const times = tailOf(metrics, TAIL_BYTES)
    .split('\n')
    .slice(1, -1)
    .map((line) => JSON.parse(line) as { type: string; globalStep: number; timestamp: string })
    .filter(({ type, globalStep }) => type === 'step' && globalStep >= since)
    .map(({ timestamp }) => Date.parse(timestamp));
  const gaps = times.slice(1).map((time, i) => Math.min(time - times[i], LONGEST_STEP_MS));
  return [{ numSteps: times.length, ms: gaps.reduce((sum, gap) => sum + gap, 0) }];
}

const LABELS = { kill: 'kill -9', leave: 'SIGTERM', stop: 'stop', slow: 'slow' };

function describeFault({ at, action, worker, durationMs }: Fault): string {
  const victim = worker === null ? 'the coordinator' : `worker ${worker}`;
  return `${(at / 1000).toFixed(1).padStart(6)} s  ${LABELS[action]} ${victim}, for ${(durationMs / 1000).toFixed(1)} s`;
}

function inflict({ action, durationMs }: Fault, victim: Supervised): void {
  switch (action) {
    case 'kill':
      victim.end('SIGKILL', durationMs);
      break;
    case 'leave':
      victim.end('SIGTERM', durationMs);
      break;
    case 'stop':
      victim.stop(durationMs);
      break;
    case 'slow':
      victim.slow(durationMs);
      break;
  }
}

/** What a run left; null if it left nothing. */
export function resultOf(run: string): RunResult | null {
  const path = join(run, 'result.json');
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as RunResult) : null;
}

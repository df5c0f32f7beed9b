/**
 * `lockstep bench coordinator`: what each worker of a step costs the coordinator. A real coordinator, over real sockets,
 * with workers that answer at once with a stored gradient (replaying-workers.ts); its processor time and memory are read
 * from its own /metrics.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { UserError } from '../shared/errors.js';
import { environment, measureRun, type MeasuredRun } from './measured-run.js';

const REPLAYING_WORKERS = fileURLToPath(new URL('./replaying-workers.js', import.meta.url));
const NUMS_OF_WORKERS = [1, 4, 16, 64, 256];
const UNITS_PER_WORKER = 2;
/** Steps that warm up, and half of the measured time on top. */
const WARM_UP_STEPS = 100;
const ANSWERS_WITHIN_MS = 30_000;

export interface CoordinatorBench {
  readonly workers: number;
  readonly numSteps: number;
  readonly stepsPerSecond: number;
  /** The coordinator's processor time, user and system, of all its threads, ms. */
  readonly cpuMsPerStep: number;
  readonly cpuMsPerWorkerAndStep: number;
  /** Resident, at the end. */
  readonly memoryBytes: number;
}

/** @param most workers */
export async function benchCoordinator(
  most: number,
  seconds: number,
  stop: AbortSignal,
): Promise<CoordinatorBench[]> {
  const results: CoordinatorBench[] = [];
  for (const workers of NUMS_OF_WORKERS.filter((each) => each <= most)) {
    const flags = {
      ...{ port: 0, 'min-workers': workers, 'max-workers': workers + 1 },
      // What an image costs is the workers' business; so an epoch is long, and its evaluation rare.
      ...{ 'micro-batch': 1, 'batch-size': UNITS_PER_WORKER * workers },
      'log-every': WARM_UP_STEPS,
    };
    const { measured } = await measureRun('coordinator', flags, stop, (run) =>
      measure(run, workers, seconds),
    );
    results.push(measured);
  }
  return results;
}

async function measure(
  run: MeasuredRun,
  workers: number,
  seconds: number,
): Promise<CoordinatorBench> {
  const [, port] = await run.said(/ws:\/\/127\.0\.0\.1:(\d+)/);
  const child = fork(REPLAYING_WORKERS, [`ws://127.0.0.1:${port}`, String(workers)], {
    env: environment(),
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const gone = once(child, 'exit');
  let isDone = false;
  child.once('exit', (code) => {
    if (!isDone) run.fail(`The replaying workers ended with code ${String(code)}`);
  });
  try {
    await run.said(/images\/s/);
    await run.wait(500 * seconds);
    const [before, startedAt] = [await readMetrics(port), performance.now()];
    await run.wait(1000 * seconds);
    const [after, endedAt] = [await readMetrics(port), performance.now()];
    const numSteps = after.steps - before.steps;
    if (numSteps === 0) {
      throw new UserError(`No step finished in ${seconds} s: raise --seconds`);
    }
    const cpuMsPerStep = (1000 * (after.cpuSeconds - before.cpuSeconds)) / numSteps;
    return {
      workers,
      numSteps,
      stepsPerSecond: (1000 * numSteps) / (endedAt - startedAt),
      cpuMsPerStep,
      cpuMsPerWorkerAndStep: cpuMsPerStep / workers,
      memoryBytes: after.memoryBytes,
    };
  } finally {
    isDone = true;
    child.kill('SIGKILL');
    await gone;
  }
}

/** What the coordinator says of itself. */
async function readMetrics(port: string) {
  const answer = get({ host: '127.0.0.1', port, path: '/metrics' });
  const overdue = setTimeout(() => answer.destroy(), ANSWERS_WITHIN_MS);
  const [response] = (await once(answer, 'response')) as [IncomingMessage];
  const metrics = await text(response);
  clearTimeout(overdue);
  const valueOf = (name: string) =>
    Number(new RegExp(`^lockstep_${name} (\\S+)$`, 'm').exec(metrics)![1]);
  return {
    steps: valueOf('steps_total'),
    cpuSeconds: valueOf('process_cpu_seconds_total'),
    memoryBytes: valueOf('process_resident_memory_bytes'),
  };
}

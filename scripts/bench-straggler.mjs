/**
 * What a straggler costs: the p99 of the step time of one run with four workers, in windows with one of them slowed ten
 * times and without in turn, and the median of the ratios of neighbouring windows.
 *
 *   npm run build && node scripts/bench-straggler.mjs [--workers 4] [--rounds 6] [--seconds 8]
 *
 * A slowed worker is stopped for 45 of every 50 ms (SIGSTOP, SIGCONT), so that it is silent most of the time, which is
 * worse than being slow.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { atExit } from './at-exit.mjs';
import { helpIfAsked } from './usage.mjs';

helpIfAsked(import.meta.url);

const { values } = parseArgs({
  options: {
    workers: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '6' },
    seconds: { type: 'string', default: '8' },
  },
});
const [numWorkers, numRounds, seconds] = [values.workers, values.rounds, values.seconds].map(
  Number,
);
const RUN_MS = 5;
const STOP_MS = 45;
/** Steps before the first window: the programs are being compiled. */
const NUM_WARM_UP = 600;
const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'lockstep-bench-'));
const run = join(folder, 'run');

/** The whole benchmark must be over by then. */
const deadline = Date.now() + 1000 * (60 + 2 * numRounds * (seconds + 5));
const children = [];

function cleanUp() {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}
atExit(cleanUp);

function start(...args) {
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  return child;
}

/** Starts a run and its workers. @returns the workers */
async function startRun() {
  // No end and no checkpoint while it is measured; an evaluation is no part of a step.
  const coordinator = start(
    ...['coordinator', '--port', '0', '--out', run, '--min-workers', values.workers],
    ...['--epochs', '1000', '--checkpoint-every', '3600s'],
  );
  const url = await new Promise((resolve, reject) => {
    let output = '';
    coordinator.stdout.on('data', (chunk) => {
      output += chunk;
      const match = /ws:\/\/\S+:\d+/.exec(output);
      if (match) resolve(match[0]);
    });
    coordinator.once('exit', () => reject(new Error(`The coordinator ended early:\n${output}`)));
  });
  return Array.from({ length: numWorkers }, (_, i) =>
    start('worker', url, '--engine', 'simd', '--threads', '1', '--name', `worker-${i}`, '--quiet'),
  );
}

/** Lines of steps so far. */
function steps() {
  const file = join(run, 'metrics.jsonl');
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))
    .filter(({ type }) => type === 'step');
}

/** Slows a process until the signal. */
async function slow(child, signal) {
  while (!signal.aborted) {
    child.kill('SIGSTOP');
    await delay(STOP_MS);
    child.kill('SIGCONT');
    await delay(RUN_MS);
  }
}

/** Waits, unless something has gone wrong. */
async function wait(ms) {
  await delay(ms);
  if (Date.now() > deadline) throw new Error('The benchmark takes too long');
  if (children.some(({ exitCode, signalCode }) => exitCode !== null || signalCode !== null)) {
    throw new Error('A process ended early');
  }
}

const quantile = (numbers, share) =>
  numbers.toSorted((a, b) => a - b)[Math.floor(share * (numbers.length - 1))];

/** Step times over a window, ms. */
async function measure(workers, isSlowed) {
  const from = steps().length;
  const stop = new AbortController();
  const slowing = isSlowed ? slow(workers[numWorkers - 1], stop.signal) : null;
  await wait(1000 * seconds);
  stop.abort();
  await slowing;
  const times = steps()
    .slice(from)
    .map(({ totalMs }) => totalMs);
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), numSteps: times.length };
}

try {
  const workers = await startRun();
  while (steps().length < NUM_WARM_UP) await wait(200);
  const ratios = [];
  for (let round = 0; round < numRounds; round += 1) {
    const found = {};
    // Each order as often as the other.
    for (const isSlowed of round % 2 === 0 ? [false, true] : [true, false]) {
      found[isSlowed ? 'slowed' : 'even'] = await measure(workers, isSlowed);
    }
    const { even, slowed } = found;
    ratios.push(slowed.p99 / even.p99);
    const describe = ({ p50, p99, numSteps }) =>
      `p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms of ${numSteps} steps`;
    console.log(`round ${round + 1}: ${describe(even)}; one slowed: ${describe(slowed)}`);
  }
  const sorted = ratios.toSorted((a, b) => a - b);
  const median = (sorted[(ratios.length - 1) >> 1] + sorted[ratios.length >> 1]) / 2;
  console.log(
    `With one of ${numWorkers} workers slowed ten times, the p99 step time is ${median.toFixed(2)}× ` +
      `that without (median of ${numRounds} ratios, ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`,
  );
} finally {
  cleanUp();
}

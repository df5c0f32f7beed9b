/**
 * `lockstep bench`: this machine's figures. `engine` is one core computing; `step` and `scaling` are runs of
 * `lockstep train` on MNIST with worker processes and WebSockets, in a folder that is removed afterwards.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Argument } from 'commander';
import type { StepTimes } from '../coordinator/events.js';
import { benchEngine, type EngineBench } from '../model/engine/bench.js';
import { initParams } from '../model/init.js';
import { LENET5, buildModel } from '../model/lenet.js';
import { createSimdEngine } from '../model/engine/simd/node.js';
import { UserError } from '../shared/errors.js';
import { formatCount, formatNoun, formatPercent } from '../shared/format.js';
import { optionCommand } from './command.js';
import { rightAligned } from './evaluate.js';
import { stopSignal } from './signals.js';
import { defaultNumWorkers } from './train.js';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const KINDS = ['engine', 'step', 'scaling'] as const;
type Kind = (typeof KINDS)[number];
/** Exit code of a run that SIGTERM has stopped. */
const STOPPED_CODE = 143;
/** Steps that warm up: samples travel, V8 compiles. Half of a run at most. */
const WARM_UP_STEPS = 600;
/** Gradient and evaluation for six sizes, layers, parameters. */
const ENGINE_FIGURES = 14;

export function benchCommand() {
  return optionCommand(
    'bench',
    "measure this machine: the engine, a step's parts, scaling",
    'step --seconds 20',
    async ({ values }, args) => {
      const kind = args.at(0) as Kind | undefined;
      const options = { ...values, workers: values.workers ?? defaultNumWorkers() };
      const stop = stopSignal();
      const results: Partial<Record<Kind, unknown>> = {};
      for (const each of kind === undefined ? KINDS : [kind]) {
        const { data, lines } = await BENCHES[each](options, stop);
        results[each] = data;
        if (!options.json) console.log([...lines, ''].join('\n'));
      }
      if (options.json) console.log(JSON.stringify(results, null, 2));
    },
  ).addArgument(new Argument('[kind]', 'one of them only').choices(KINDS));
}

interface BenchOptions {
  readonly workers: number;
  readonly batchSize: number;
  readonly seconds: number;
}

interface Bench {
  readonly data: unknown;
  readonly lines: readonly string[];
}

const BENCHES: Record<Kind, (options: BenchOptions, stop: AbortSignal) => Promise<Bench>> = {
  async engine({ seconds }) {
    const model = buildModel(LENET5);
    const msPerFigure = (1000 * seconds) / ENGINE_FIGURES;
    const data = await benchEngine(createSimdEngine(model), initParams(model, 1), { msPerFigure });
    return { data, lines: engineLines(data) };
  },

  async step({ workers, batchSize, seconds }, stop) {
    const data = await benchTraining(workers, batchSize, seconds, stop);
    const { parts } = data;
    const columns = rightAligned(
      STEP_PARTS.map(([name, key]) => [
        name,
        `${parts[key].toFixed(3)} ms`,
        formatPercent(parts[key] / parts.totalMs, 0),
        `${data.slowestTenth[key].toFixed(3)} ms`,
      ]),
    );
    const lines = [
      `One step: ${formatNoun(workers, 'local worker')}, batch ${batchSize}, ` +
        `${formatCount(data.imagesPerSecond)} images/s; medians of ${formatNoun(data.numSteps, 'step')}, and from where the slowest tenth begins`,
      ...columns.map((column, index) => `${column}  ${STEP_PARTS[index][2]}`),
    ];
    return { data, lines };
  },

  async scaling({ workers, batchSize, seconds }, stop) {
    const data: { workers: number; imagesPerSecond: number; efficiency: number }[] = [];
    for (let numWorkers = 1; numWorkers <= workers; numWorkers++) {
      const { imagesPerSecond } = await benchTraining(numWorkers, batchSize, seconds, stop);
      const alone = data.at(0)?.imagesPerSecond ?? imagesPerSecond;
      const efficiency = imagesPerSecond / (numWorkers * alone);
      data.push({ workers: numWorkers, imagesPerSecond, efficiency });
    }
    const lines = [
      `Scaling on ${formatNoun(availableParallelism(), 'core')}, batch ${batchSize}; ` +
        'efficiency: share of as many times one worker',
      ...rightAligned([
        ['workers', 'images/s', 'efficiency'],
        ...data.map((row) => [
          String(row.workers),
          formatCount(row.imagesPerSecond),
          formatPercent(row.efficiency, 0),
        ]),
      ]),
    ];
    return { data, lines };
  },
};

function engineLines({ sizes, layers, setParamsMs }: EngineBench): string[] {
  const microseconds = (ms: number) => ((1000 * ms) / 16).toFixed(2);
  return [
    'Engine simd on one core, images/s: the best repetition (median)',
    ...rightAligned([
      ['micro-batch', 'gradient', '', 'evaluation', ''],
      ...sizes.map(({ numImages, gradient, evaluation }) => [
        String(numImages),
        formatCount(gradient.best),
        `(${formatCount(gradient.median)})`,
        formatCount(evaluation.best),
        `(${formatCount(evaluation.median)})`,
      ]),
    ]),
    '',
    'Time of each layer, µs an image at micro-batch 16',
    ...rightAligned([
      ['layer', 'forward', 'backward'],
      ...layers.map(({ layer, forwardMs, backwardMs }) => [
        layer,
        microseconds(forwardMs),
        microseconds(backwardMs),
      ]),
    ]),
    `Taking over new parameters: ${(1000 * setParamsMs).toFixed(0)} µs a step`,
  ];
}

const STEP_PARTS: readonly (readonly [string, keyof StepTimes, string])[] = [
  ['plan', 'planMs', 'sharing out and encoding'],
  ['broadcast', 'broadcastMs', 'handing the frames to the sockets'],
  ['compute', 'computeMs', 'gradients, of the worker that answered last'],
  ['wire', 'wireMs', 'frames on their way, and waiting for a processor'],
  ['reduce', 'reduceMs', 'the sum over the tree'],
  ['update', 'updateMs', 'the optimizer'],
  ['wait', 'waitMs', 'before the step'],
  ['total', 'totalMs', ''],
];

interface TrainingBench {
  readonly workers: number;
  readonly batchSize: number;
  readonly numSteps: number;
  readonly imagesPerSecond: number;
  /** Median of each. */
  readonly parts: StepTimes;
  /** What the slowest tenth of the steps needed at least, part by part. */
  readonly slowestTenth: StepTimes;
}

type StepLine = StepTimes & { readonly type: string; readonly numImages: number };

/** Trains for some seconds and reads the times from its metrics.jsonl. */
async function benchTraining(
  numWorkers: number,
  batchSize: number,
  seconds: number,
  stop: AbortSignal,
): Promise<TrainingBench> {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-bench-'));
  try {
    const run = join(folder, 'run');
    const flags = {
      workers: numWorkers,
      'min-workers': numWorkers,
      'batch-size': batchSize,
      epochs: 100_000,
      'checkpoint-every': 1e9,
    };
    const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
    await trainFor(seconds, ['--out', run, ...args], stop);
    const text = await readFile(join(run, 'metrics.jsonl'), 'utf8');
    const steps = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as StepLine)
      .filter(({ type, numImages }) => type === 'step' && numImages === batchSize);
    const counted = steps.slice(Math.min(WARM_UP_STEPS, steps.length >> 1));
    if (counted.length === 0) {
      throw new UserError(`No step was done in ${seconds} s: give it more --seconds`);
    }
    const totalMs = counted.reduce((sum, step) => sum + step.totalMs, 0);
    return {
      workers: numWorkers,
      batchSize,
      numSteps: counted.length,
      imagesPerSecond: (1000 * batchSize * counted.length) / totalMs,
      parts: timesAt(counted, 0.5),
      slowestTenth: timesAt(counted, 0.9),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Runs `lockstep train`, and stops it so many seconds after its first line about steps. */
async function trainFor(
  seconds: number,
  args: readonly string[],
  stop: AbortSignal,
): Promise<void> {
  const child = spawn(process.execPath, [MAIN, 'train', ...args, '--no-progress'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // Variables that set options of a run would change what is measured.
    env: Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('LOCKSTEP_')),
    ),
  });
  let timer = null as NodeJS.Timeout | null;
  let errors = '';
  const end = () => void child.kill('SIGTERM');
  stop.addEventListener('abort', end, { once: true });
  child.stdout.on('data', (chunk: Buffer) => {
    if (timer === null && chunk.includes('images/s')) timer = setTimeout(end, 1000 * seconds);
  });
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (timer !== null) clearTimeout(timer);
  stop.removeEventListener('abort', end);
  if (stop.aborted) throw new UserError('Stopped before the end of the measurement');
  if (code !== STOPPED_CODE) {
    throw new UserError(`The run to be measured failed: ${errors.trim()}`);
  }
}

/** Each part's time that a share of the steps is below. */
function timesAt(steps: readonly StepTimes[], share: number): StepTimes {
  const timeAt = (key: keyof StepTimes) => {
    const sorted = steps.map((step) => step[key]).sort((a, b) => a - b);
    return sorted[Math.floor(share * (sorted.length - 1))];
  };
  return Object.fromEntries(
    STEP_PARTS.map(([, key]) => [key, timeAt(key)]),
  ) as unknown as StepTimes;
}

/**
 * `lockstep bench step` and `scaling`: runs of `lockstep train` on MNIST, their times read from their metrics.jsonl, and
 * the speed of the engine alone on one core, measured alternately with them.
 */
import { availableParallelism } from 'node:os';
import type { StepTimes } from '../coordinator/events.js';
import { benchGradient } from '../model/engine/bench.js';
import { createSimdEngine } from '../model/engine/simd/node.js';
import { initParams } from '../model/init.js';
import { LENET5, buildModel } from '../model/lenet.js';
import { measureRun, type StepLine } from './measured-run.js';

/** Of the warm-up, in which samples travel and V8 compiles: their speed is compared with that of the steps after it. */
const FIRST_STEPS = 400;
/** Images of one call by which the engine alone is measured. */
const ENGINE_IMAGES = 16;
const ENGINE_MS = 1_000;

export interface StepBench {
  readonly workers: number;
  readonly cores: number;
  readonly batchSize: number;
  readonly numRounds: number;
  readonly numSteps: number;
  readonly imagesPerSecond: number;
  /** Of the engine alone, on one core. */
  readonly engineImagesPerSecond: number;
  /** Images/s of the run ÷ (cores × the engine's own). */
  readonly efficiency: number;
  readonly numFirstSteps: number;
  /** Images/s of the first steps ÷ those after the warm-up. */
  readonly startSpeed: number;
  /** Median of each, over the steps of all rounds. */
  readonly parts: StepTimes;
  /** What the slowest tenth of the steps needed at least, part by part. */
  readonly slowestTenth: StepTimes;
}

export interface ScalingBench {
  readonly workers: number;
  readonly imagesPerSecond: number;
  /** As many times one worker's. */
  readonly timesOne: number;
  /** Images/s ÷ (cores that so many workers can take × the engine's own). */
  readonly efficiency: number;
}

export interface TrainingBenchOptions {
  readonly batchSize: number;
  /** Steps of each run that are not measured. */
  readonly warmUp: number;
  /** Of each run, after the warm-up. */
  readonly seconds: number;
  /** Medians are over as many. */
  readonly rounds: number;
}

/** @param workers of the run; undefined for what `train` takes by itself */
export async function benchStep(
  workers: number | undefined,
  options: TrainingBenchOptions,
  stop: AbortSignal,
): Promise<StepBench> {
  const { batchSize, rounds } = options;
  const cores = availableParallelism();
  const engineAlone = createEngineBench(options);
  const laps: { readonly engine: number; readonly run: Run }[] = [];
  for (let round = 0; round < rounds; round++) {
    const flags = workers === undefined ? {} : { workers, 'min-workers': workers };
    const engine = await engineAlone();
    laps.push({ engine, run: await train(flags, options, stop) });
  }
  const steps = laps.flatMap(({ run }) => run.later);
  return {
    workers: steps[0].worldSize,
    cores,
    batchSize,
    numRounds: rounds,
    numSteps: steps.length,
    imagesPerSecond: median(laps.map(({ run }) => imagesPerSecond(run.later))),
    engineImagesPerSecond: median(laps.map(({ engine }) => engine)),
    efficiency: median(
      laps.map(({ engine, run }) => imagesPerSecond(run.later) / (cores * engine)),
    ),
    numFirstSteps: laps[0].run.first.length,
    startSpeed: median(
      laps.map(({ run }) => imagesPerSecond(run.first) / imagesPerSecond(run.later)),
    ),
    parts: timesAt(steps, 0.5),
    slowestTenth: timesAt(steps, 0.9),
  };
}

/** With 1 to `most` workers of one thread each. */
export async function benchScaling(
  most: number,
  options: TrainingBenchOptions,
  stop: AbortSignal,
): Promise<ScalingBench[]> {
  const numsOfWorkers = Array.from({ length: most }, (_, i) => i + 1);
  const engineAlone = createEngineBench(options);
  const laps: { readonly engine: number; readonly speeds: readonly number[] }[] = [];
  for (let round = 0; round < options.rounds; round++) {
    const engine = await engineAlone();
    const speeds: number[] = [];
    for (const workers of numsOfWorkers) {
      const flags = { workers, 'min-workers': workers, threads: 1 };
      const { later } = await train(flags, options, stop);
      speeds.push(imagesPerSecond(later));
    }
    laps.push({ engine, speeds });
  }
  return numsOfWorkers.map((workers, i) => {
    const cores = Math.min(workers, availableParallelism());
    return {
      workers,
      imagesPerSecond: median(laps.map(({ speeds }) => speeds[i])),
      timesOne: median(laps.map(({ speeds }) => speeds[i] / speeds[0])),
      efficiency: median(laps.map(({ engine, speeds }) => speeds[i] / (cores * engine))),
    };
  });
}

interface Run {
  readonly first: readonly StepLine[];
  /** After the warm-up. */
  readonly later: readonly StepLine[];
}

async function train(
  flags: Readonly<Record<string, number>>,
  { batchSize, warmUp, seconds }: TrainingBenchOptions,
  stop: AbortSignal,
): Promise<Run> {
  const all = { ...flags, 'batch-size': batchSize, 'log-every': warmUp };
  const { steps } = await measureRun('train', all, stop, async (run) => {
    // The first line about steps
    await run.said(/images\/s/);
    await run.wait(1000 * seconds);
  });
  return { first: steps.slice(0, Math.min(FIRST_STEPS, warmUp)), later: steps.slice(warmUp - 1) };
}

/** @returns what measures images/s of the engine alone, on one core */
function createEngineBench({ seconds }: TrainingBenchOptions): () => Promise<number> {
  const model = buildModel(LENET5);
  const engine = createSimdEngine(model);
  engine.setParams(initParams(model, 1));
  const msPerFigure = Math.min(ENGINE_MS, 1000 * seconds);
  return async () => (await benchGradient(engine, ENGINE_IMAGES, { msPerFigure })).median;
}

/** Without waits for workers: before the first step they start. */
function imagesPerSecond(steps: readonly StepLine[]): number {
  const sum = (of: (step: StepLine) => number) =>
    steps.reduce((total, step) => total + of(step), 0);
  return (
    (1000 * sum(({ numImages }) => numImages)) / sum(({ totalMs, waitMs }) => totalMs - waitMs)
  );
}

/** Each part's time that a share of the steps is below. */
function timesAt(steps: readonly StepTimes[], share: number): StepTimes {
  const timeAt = (key: keyof StepTimes) => {
    const sorted = steps.map((step) => step[key]).sort((a, b) => a - b);
    return sorted[Math.floor(share * (sorted.length - 1))];
  };
  return {
    totalMs: timeAt('totalMs'),
    planMs: timeAt('planMs'),
    broadcastMs: timeAt('broadcastMs'),
    computeMs: timeAt('computeMs'),
    wireMs: timeAt('wireMs'),
    reduceMs: timeAt('reduceMs'),
    updateMs: timeAt('updateMs'),
    waitMs: timeAt('waitMs'),
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

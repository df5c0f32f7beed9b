/**
 * `lockstep bench`: this machine's figures. `engine` is one core computing; `step` and `scaling` are runs of
 * `lockstep train` on MNIST with worker processes and WebSockets, `coordinator` is one with workers that compute nothing.
 */
import { availableParallelism } from 'node:os';
import { Argument } from 'commander';
import type { StepTimes } from '../coordinator/events.js';
import { benchEngine, type EngineBench } from '../model/engine/bench.js';
import { initParams } from '../model/init.js';
import { LENET5, buildModel } from '../model/lenet.js';
import { createSimdEngine } from '../model/engine/simd/node.js';
import { formatBytes, formatCount, formatNoun, formatPercent } from '../shared/format.js';
import { rightAligned } from '../shared/table.js';
import { benchCoordinator } from './bench-coordinator.js';
import { benchScaling, benchStep, type TrainingBenchOptions } from './bench-training.js';
import { optionCommand } from './command.js';
import { stopSignal } from './signals.js';

const KINDS = ['engine', 'step', 'scaling', 'coordinator'] as const;
type Kind = (typeof KINDS)[number];
/** Gradient and evaluation for six sizes, layers, parameters. */
const ENGINE_FIGURES = 14;
const DEFAULT_REPLAYING_WORKERS = 64;
const MAX_SCALING_WORKERS = 8;

export function benchCommand() {
  return optionCommand(
    'bench',
    "benchmark this machine: the engine, the parts of a step, scaling, the coordinator's cost per worker",
    'step --seconds 20',
    async ({ values }, args) => {
      const kind = args.at(0) as Kind | undefined;
      const stop = stopSignal();
      const results: Partial<Record<Kind, unknown>> = {};
      for (const each of kind === undefined ? KINDS : [kind]) {
        const options = { workers: values.workers, training: values };
        const { data, lines } = await BENCHES[each](options, stop);
        results[each] = data;
        if (!values.json) console.log([...lines, ''].join('\n'));
      }
      if (values.json) console.log(JSON.stringify(results, null, 2));
    },
  ).addArgument(new Argument('[kind]', 'run only this benchmark').choices(KINDS));
}

interface BenchOptions {
  readonly workers: number | undefined;
  readonly training: TrainingBenchOptions;
}

interface Bench {
  readonly data: unknown;
  readonly lines: readonly string[];
}

const BENCHES: Record<Kind, (options: BenchOptions, stop: AbortSignal) => Promise<Bench>> = {
  async engine({ training }, signal) {
    const model = buildModel(LENET5);
    const timing = { msPerFigure: (1000 * training.seconds) / ENGINE_FIGURES, signal };
    const data = await benchEngine(createSimdEngine(model), initParams(model, 1), { timing });
    return { data, lines: engineLines(data) };
  },

  async step({ workers, training }, stop) {
    const data = await benchStep(workers, training, stop);
    const { parts, cores } = data;
    const columns = rightAligned(
      STEP_PARTS.map(([name, key]) => [
        name,
        `${parts[key].toFixed(3)} ms`,
        formatPercent(parts[key] / parts.totalMs, 0),
        `${data.slowestTenth[key].toFixed(3)} ms`,
      ]),
    );
    const lines = [
      `One step: ${formatNoun(data.workers, 'local worker')}, batch ${data.batchSize}, ` +
        `${formatCount(data.imagesPerSecond)} images/s; medians of ${formatNoun(data.numSteps, 'step')}, and from where the slowest tenth begins`,
      ...columns.map((column, index) => `${column}  ${STEP_PARTS[index][2]}`),
      `Efficiency: ${formatPercent(data.efficiency, 0)} of what the engine does alone on ${formatNoun(cores, 'core')}, ` +
        `${cores} × ${formatCount(data.engineImagesPerSecond)} images/s`,
      `Start: the first ${data.numFirstSteps} steps have ${formatPercent(data.startSpeed, 0)} of that speed`,
      roundsLine(training),
    ];
    return { data, lines };
  },

  async scaling({ workers, training }, stop) {
    const data = await benchScaling(
      workers ?? Math.min(availableParallelism(), MAX_SCALING_WORKERS),
      training,
      stop,
    );
    const lines = [
      `Scaling on ${formatNoun(availableParallelism(), 'core')}, batch ${training.batchSize}; ` +
        'efficiency: share of what the engine does alone on as many cores',
      ...rightAligned([
        ['workers', 'images/s', 'times one', 'efficiency'],
        ...data.map((row) => [
          String(row.workers),
          formatCount(row.imagesPerSecond),
          row.timesOne.toFixed(2),
          formatPercent(row.efficiency, 0),
        ]),
      ]),
      roundsLine(training),
    ];
    return { data, lines };
  },

  async coordinator({ workers = DEFAULT_REPLAYING_WORKERS, training }, stop) {
    const data = await benchCoordinator(workers, training.seconds, stop);
    const lines = [
      "The coordinator's processor time and memory, with workers that answer at once, two micro-batches each",
      ...rightAligned([
        ['workers', 'a worker and step', 'a step', 'steps/s', 'resident'],
        ...data.map((row) => [
          String(row.workers),
          `${row.cpuMsPerWorkerAndStep.toFixed(3)} ms`,
          `${row.cpuMsPerStep.toFixed(2)} ms`,
          row.stepsPerSecond.toFixed(1),
          formatBytes(row.memoryBytes),
        ]),
      ]),
    ];
    return { data, lines };
  },
};

function roundsLine({ rounds }: TrainingBenchOptions): string {
  return `(medians of ${formatNoun(rounds, 'round')}, the engine alone and runs in turn)`;
}

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

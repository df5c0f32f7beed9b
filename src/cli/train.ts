/** `lockstep train` and `lockstep coordinator`: the same run, with local workers or without. */
import { availableParallelism } from 'node:os';
import type { EngineRequest } from '../model/engine/engine.js';
import { optionCommand } from './command.js';
import type { LocalWorker } from './local-workers.js';
import { serveRun } from './serve-run.js';
import { checkCrewSize, serveOptionsOf } from './serve-options.js';

/** Used by a run by default. */
const MAX_DEFAULT_CORES = 8;

export function trainCommand() {
  return optionCommand(
    'train',
    'train with a coordinator and local workers, in one command',
    '--workers 2 --epochs 5',
    async (settings) => {
      const workers = localWorkersOf(settings.values, availableParallelism());
      checkCrewSize(settings.values, workers.length);
      await serveRun(settings, serveOptionsOf(settings.values), workers);
    },
  );
}

export function coordinatorCommand() {
  return optionCommand(
    'coordinator',
    'serve a run to workers that join it with `lockstep worker URL`',
    '--host 0.0.0.0',
    (settings) => serveRun(settings, serveOptionsOf(settings.values), []),
  );
}

export interface LocalWorkersChoice {
  readonly engine: EngineRequest;
  readonly engines?: readonly EngineRequest[] | undefined;
  readonly workers?: number | undefined;
  readonly threads?: number | undefined;
  readonly maxWorkers: number;
}

/**
 * The workers that `train` starts. By default, for `simd`, one worker with a thread for each core: it sends one gradient where
 * several workers would send several, and its threads balance their loads among themselves (docs/experiments.md). For other
 * engines, one worker per core.
 */
export function localWorkersOf(
  { engine, engines, workers, threads, maxWorkers }: LocalWorkersChoice,
  numCores: number,
): LocalWorker[] {
  const cores = Math.min(numCores, MAX_DEFAULT_CORES);
  const isOne = engines === undefined && workers === undefined && engine === 'simd';
  const numWorkers = workers ?? (isOne ? 1 : Math.min(cores, maxWorkers));
  const names = engines ?? new Array<EngineRequest>(numWorkers).fill(engine);
  return names.map((name) => ({ engine: name, threads: threads ?? (isOne ? null : 1) }));
}

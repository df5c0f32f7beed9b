/** `lockstep train` and `lockstep coordinator`: the same run, with local workers or without. */
import { availableParallelism } from 'node:os';
import type { EngineRequest } from '../model/engine/engine.js';
import { optionCommand } from './command.js';
import { serveRun } from './serve-run.js';
import { checkCrewSize, serveOptionsOf } from './serve-options.js';

const MAX_DEFAULT_WORKERS = 8;

export function trainCommand() {
  return optionCommand(
    'train',
    'train with a coordinator and local workers, in one command',
    '--workers 2 --epochs 5',
    async (settings) => {
      const { engine, maxWorkers, threads } = settings.values;
      const { workers = Math.min(defaultNumWorkers(), maxWorkers) } = settings.values;
      const engines = settings.values.engines ?? new Array<EngineRequest>(workers).fill(engine);
      checkCrewSize(settings.values, engines.length);
      await serveRun(
        settings,
        serveOptionsOf(settings.values),
        engines.map((name) => ({ engine: name, threads })),
      );
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

/** One a core. */
export function defaultNumWorkers(): number {
  return Math.min(availableParallelism(), MAX_DEFAULT_WORKERS);
}

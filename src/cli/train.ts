/** `lockstep train` and `lockstep coordinator`: the same run, with local workers or without. */
import { availableParallelism } from 'node:os';
import { Command, Option } from 'commander';
import { ENGINE_REQUESTS } from '../model/engine/engine.js';
import { addRunOptions } from './run-options.js';
import { serveRun } from './serve-run.js';
import { addServeOptions, integerFrom, serveOptionsOf } from './serve-options.js';

const EXACT_ENGINE = 'simd';
const MAX_DEFAULT_WORKERS = 8;

export function trainCommand(): Command {
  const command = new Command('train').description(
    'train: a coordinator and local workers in one command',
  );
  command.addOption(
    new Option('--workers <n>', 'local worker processes [one a core, at most 8]')
      .argParser(integerFrom(1, 256))
      .env('LOCKSTEP_WORKERS'),
  );
  command.addOption(
    new Option('--engine <name>', 'of all local workers')
      .choices(ENGINE_REQUESTS)
      .default(EXACT_ENGINE),
  );
  command.addOption(
    new Option('--engines <list>', 'of each local worker, such as webgpu,simd; sets their number'),
  );
  addRunOptions(command);
  addServeOptions(command);
  return command.action(async (values: Record<string, unknown>) => {
    const numWorkers =
      (values.workers as number | undefined) ??
      Math.min(availableParallelism(), MAX_DEFAULT_WORKERS);
    const engines =
      (values.engines as string | undefined)?.split(',') ??
      new Array<string>(numWorkers).fill(values.engine as string);
    const wrong = engines.find(
      (engine) => !(ENGINE_REQUESTS as readonly string[]).includes(engine),
    );
    if (wrong !== undefined)
      command.error(`error: no engine '${wrong}'; there are ${ENGINE_REQUESTS.join(', ')}`);
    await serveRun(values, serveOptionsOf(values), engines);
  });
}

export function coordinatorCommand(): Command {
  const command = new Command('coordinator').description(
    'serve a run to workers that join with `lockstep worker URL`',
  );
  addRunOptions(command);
  addServeOptions(command);
  return command.action(async (values: Record<string, unknown>) => {
    await serveRun(values, serveOptionsOf(values), []);
  });
}

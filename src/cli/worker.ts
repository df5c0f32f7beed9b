/** `lockstep worker`: joins a run. */
import { hostname } from 'node:os';
import { Command, Option } from '@commander-js/extra-typings';
import { ENGINE_REQUESTS } from '../model/engine/engine.js';
import { createEngine, selectEngine } from '../model/engine/engines.js';
import { systemClock } from '../shared/clock.js';
import { UserError } from '../shared/errors.js';
import { LOG_LEVELS, createLog } from '../shared/node/log.js';
import { createRandom } from '../shared/random.js';
import { dial } from '../worker/connection.js';
import { EngineComputation } from '../worker/engine-computation.js';
import { Worker } from '../worker/worker.js';
import { keepYoungSmall, letHeapGrow, youngCollector } from './heap.js';
import { number } from './run-options.js';
import { integerFrom } from './serve-options.js';
import { stopSignal } from './signals.js';

export function workerCommand() {
  return new Command('worker')
    .description(
      'join a run: compute gradients for the coordinator at URL until the run is finished',
    )
    .argument('<url>', 'of the coordinator, ws://HOST:7700')
    .addOption(
      new Option('--engine <name>', 'what computes the gradients')
        .choices(ENGINE_REQUESTS)
        .default('auto')
        .env('LOCKSTEP_ENGINE'),
    )
    .addOption(new Option('--device <n>', 'of several GPUs, which').argParser(integerFrom(0, 64)))
    .addOption(new Option('--token <text>', 'secret of the run').env('LOCKSTEP_TOKEN'))
    .addOption(new Option('--name <text>', 'to be seen by').default(hostname(), 'the host name'))
    .addOption(
      new Option('--retry-for <seconds>', 'give up after being without a coordinator for so long')
        .argParser(number)
        .default(Infinity, 'never'),
    )
    .addOption(
      new Option('--max-memory <MB>', 'refuse a run that would need more')
        .argParser(integerFrom(64, 1_000_000))
        .default(4096),
    )
    .option('--quiet', 'only warnings and errors')
    .addOption(new Option('--log-level <level>').choices(LOG_LEVELS).default('info'))
    .action(async (url, options) => {
      checkUrl(url);
      letHeapGrow();
      keepYoungSmall();
      const log = createLog({
        level: options.logLevel,
        quiet: options.quiet === true,
        stream: options.quiet === true ? process.stderr : process.stdout,
      });
      const stop = stopSignal();
      const device = options.device ?? null;
      const choice = await selectEngine(options.engine, { device });
      log.info(`Engine ${choice.name}: ${choice.reason}`);
      const worker = new Worker({
        dial: (signal) => dial(url, signal),
        createComputation: async (model) =>
          new EngineComputation(await createEngine(choice.name, model, { device }), {
            clock: systemClock,
          }),
        engineName: choice.name,
        name: options.name,
        host: hostname(),
        pid: process.pid,
        token: options.token ?? null,
        maxMemoryBytes: 1e6 * options.maxMemory,
        clock: systemClock,
        random: createRandom(process.pid, 'worker', Date.now()),
        collectGarbage: youngCollector(),
        retryForMs: 1000 * options.retryFor,
        log: (level, message) => log[level](message),
      });
      const ending = await worker.work(stop);
      switch (ending.outcome) {
        case 'finished':
          log.info(`The run is over: ${ending.reason}`);
          break;
        case 'left':
          log.info('Left the run');
          break;
        case 'refused':
          throw new UserError(`Refused by the coordinator: ${ending.reason}`);
        case 'unable':
          throw new UserError(ending.reason);
        case 'gaveUp':
          throw new UserError(
            `No coordinator at ${url} for ${options.retryFor} s (${ending.reason}); is it running, and the address right?`,
          );
      }
      await log.close();
    });
}

function checkUrl(url: string): void {
  if (!URL.canParse(url) || !['ws:', 'wss:'].includes(new URL(url).protocol)) {
    throw new UserError(`Not the URL of a coordinator: ${url}; expected one like ws://HOST:7700`);
  }
}

/** `lockstep worker`: joins a run. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { checkEngine, createEngine, selectEngine } from '../model/engine/engines.js';
import { systemClock } from '../shared/clock.js';
import { parseJoinLine } from '../shared/join-line.js';
import { createLog } from '../shared/node/log.js';
import { createRandom } from '../shared/random.js';
import { dial, dialAlternate } from '../worker/connection.js';
import { EngineComputation } from '../worker/engine-computation.js';
import { startThreads } from '../worker/threads/thread-computation.js';
import { Worker } from '../worker/worker.js';
import { optionCommand } from './command.js';
import { keepYoungSmall, letHeapGrow, youngCollector } from './heap.js';
import { tellEnding } from './ending.js';
import { holdLifeline } from './lifeline.js';
import { isLocalWorker, stopSignal } from './signals.js';
import { readToken } from './token.js';

export function workerCommand() {
  return optionCommand(
    'worker',
    'join a run: compute gradients for the coordinator at URL until the run is finished',
    'wss://10.0.0.5:7700#TOKEN.PIN',
    async ({ values: options }, [argument]) => {
      const lifeline = argument === '-' ? await holdLifeline(process.stdin) : null;
      const token = readToken(options.token, options.tokenFile);
      const file = lifeline === null && argument.startsWith('@') ? argument.slice(1) : null;
      let line = file === null ? parseJoinLine(lifeline?.firstLine ?? argument) : null;
      letHeapGrow();
      keepYoungSmall();
      const log = createLog({
        level: options.logLevel,
        quiet: options.quiet,
        stream: options.quiet ? process.stderr : process.stdout,
      });
      const stop = AbortSignal.any([stopSignal(), ...(lifeline ? [lifeline.cut] : [])]);
      const { device = null, name = hostname(), retryFor = Infinity } = options;
      const choice = await selectEngine(options.engine, { device });
      // `lockstep train` has looked, once for all of its workers.
      if (options.engine !== 'auto' && !isLocalWorker()) await checkEngine(choice.name, { device });
      log.info(`Engine ${choice.name}: ${choice.reason}`);
      for (const detail of choice.details) log.debug(`Not ${detail}`);
      const worker = new Worker({
        dial: (signal, alternate) => {
          // The coordinator writes it when it starts, and again where it comes back at another address.
          if (file !== null) line = parseJoinLine(readFileSync(file, 'utf8'));
          if (alternate === null) return dial(line!.url, line!.pin, signal);
          return dialAlternate(alternate, line!, signal);
        },
        createComputation: async (model, regularizer) =>
          options.threads > 1 && choice.name === 'simd'
            ? startThreads(model, regularizer, options.threads, systemClock)
            : new EngineComputation(await createEngine(choice.name, model, { device }), {
                clock: systemClock,
                regularizer,
              }),
        engineName: choice.name,
        name,
        host: hostname(),
        get token() {
          return line?.token ?? token;
        },
        maxMemoryBytes: 1e6 * options.maxMemory,
        numThreads: options.threads,
        clock: systemClock,
        random: createRandom(process.pid, 'worker', Date.now()),
        collectGarbage: youngCollector(),
        retryForMs: 1000 * retryFor,
        log: (level, message) => log[level](message),
      });
      const ending = await worker.work(stop);
      tellEnding(ending, line?.url ?? argument, retryFor, log);
      await log.close();
    },
  ).argument(
    '<url>',
    'of the coordinator, wss://HOST:7700#TOKEN.PIN or ws://HOST:7700; @FILE to read it from a file, - from stdin, and end with stdin',
  );
}

/** `lockstep worker`: joins a run. */
import { hostname } from 'node:os';
import { checkEngine, createEngine, selectEngine } from '../model/engine/engines.js';
import { systemClock } from '../shared/clock.js';
import { UserError } from '../shared/errors.js';
import { parseJoinLine } from '../shared/join-line.js';
import { readShortText } from '../shared/node/input-file.js';
import { createLog } from '../shared/node/log.js';
import { createRandom } from '../shared/random.js';
import { dial, dialAlternate } from '../worker/connection.js';
import { EngineComputation } from '../worker/engine-computation.js';
import { longestCall } from '../worker/needs.js';
import { startThreads } from '../worker/threads/thread-computation.js';
import { Worker } from '../worker/worker.js';
import { optionCommand } from './command.js';
import { keepYoungSmall, letHeapGrow, optimizeKernelsSoon, youngCollector } from './v8.js';
import { tellEnding } from './ending.js';
import { holdLifeline } from './lifeline.js';
import { isLocalWorker, stopSignal } from './signals.js';
import { readToken } from './token.js';

/** Of a file with a join line. */
const MAX_LINE_BYTES = 10_000;

/**
 * Multiply–adds of a call that is made on a thread beside, so that this one hears of signals and answers pings; a slow
 * machine needs a second for as many.
 */
const LONG_CALL = 2 ** 30;

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
      optimizeKernelsSoon();
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
          if (file !== null) line = parseJoinLine(readShortText(file, MAX_LINE_BYTES));
          if (alternate === null) return dial(line!.url, line!.pin, signal);
          return dialAlternate(alternate, line!, signal);
        },
        session: {
          createComputation: async (model, regularizer, welcome) => {
            const { threads } = options;
            const isLong = longestCall(model, welcome) > LONG_CALL;
            if (choice.name === 'simd' && (threads > 1 || isLong)) {
              return startThreads(model, regularizer, threads, systemClock, isLong);
            }
            if (choice.name === 'reference' && isLong) {
              throw new UserError(
                'The reference engine is too slow for this model: use --engine simd',
              );
            }
            const engine = await createEngine(choice.name, model, { device });
            return new EngineComputation(engine, { clock: systemClock, regularizer });
          },
          engineName: choice.name,
          name,
          host: hostname(),
          get token() {
            return line?.token ?? token;
          },
          maxMemoryBytes: 1e6 * options.maxMemory,
          numThreads: options.threads,
          clock: systemClock,
          collectGarbage: youngCollector(),
          log: (level, message) => log[level](message),
        },
        random: createRandom(process.pid, 'worker', Date.now()),
        retryForMs: 1000 * retryFor,
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

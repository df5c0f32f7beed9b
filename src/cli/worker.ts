/** `lockstep worker`: joins a run. */
import { availableParallelism, hostname, networkInterfaces } from 'node:os';
import { isLoopback } from '../coordinator/certificate.js';
import type { EngineRequest } from '../model/engine/engine.js';
import {
  checkEngine,
  createEngine,
  selectEngine,
  type EngineChoice,
  type LookOptions,
} from '../model/engine/engines.js';
import type { Model } from '../model/lenet.js';
import { systemClock } from '../shared/clock.js';
import { UserError } from '../shared/errors.js';
import { formatNoun } from '../shared/format.js';
import { parseJoinLine, type JoinLine } from '../shared/join-line.js';
import { readShortText } from '../shared/node/input-file.js';
import { createLog } from '../shared/node/log.js';
import type { Message } from '../shared/protocol.js';
import { createRandom } from '../shared/random.js';
import { dial, dialAlternate } from '../worker/connection.js';
import { MAX_DEFAULT_THREADS, MAX_THREADS } from '../worker/computation.js';
import { EngineComputation } from '../worker/engine-computation.js';
import { fittingThreads, longestCall } from '../worker/needs.js';
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

/**
 * One per core, one fewer if the coordinator is on this machine.
 *
 * @param url of the coordinator; null if it is not known yet  @param ownHosts names and addresses of this machine
 */
export function defaultThreads(
  url: string | null,
  numCores: number,
  ownHosts: readonly string[],
): number {
  const host = url === null ? null : new URL(url).hostname.replace(/^\[|\]$/g, '');
  const isHere = host !== null && (isLoopback(host) || ownHosts.includes(host));
  return Math.max(1, Math.min(numCores - (isHere ? 1 : 0), MAX_THREADS));
}

/** What the coordinator has written, if it has by now. */
function lineIfThere(file: string): JoinLine | null {
  try {
    return parseJoinLine(readShortText(file, MAX_LINE_BYTES));
  } catch {
    return null;
  }
}

function ownHosts(): string[] {
  const addresses = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  // As a URL has it.
  return [hostname().toLowerCase(), ...addresses.map(({ address }) => address)];
}

async function engineFor(request: EngineRequest, options: LookOptions): Promise<EngineChoice> {
  const choice = await selectEngine(request, options);
  // `lockstep train` has looked, once for all of its workers.
  if (request !== 'auto' && !isLocalWorker()) await checkEngine(choice.name, options);
  return choice;
}

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
      const choice = await engineFor(options.engine, { device, signal: stop }).catch(
        (error: unknown) => {
          if (!stop.aborted) throw error;
          return null;
        },
      );
      if (!choice) {
        log.info('Stopped before it joined');
        await log.close();
        return;
      }
      log.info(`Engine ${choice.name}: ${choice.reason}`);
      const url = (line ?? (file === null ? null : lineIfThere(file)))?.url ?? null;
      const numCores = availableParallelism();
      const most =
        options.threads ??
        // The only worker of `lockstep train`: the coordinator does next to nothing while it computes.
        (isLocalWorker()
          ? Math.min(numCores, MAX_DEFAULT_THREADS)
          : defaultThreads(url, numCores, ownHosts()));
      const maxMemoryBytes = 1e6 * options.maxMemory;
      const threadsFor = (model: Model, welcome: Message<'welcome'>) => {
        if (choice.name !== 'simd') return 1;
        if (options.threads !== undefined) return options.threads;
        return fittingThreads(model, welcome, most, maxMemoryBytes);
      };
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
            const isLong = longestCall(model, welcome) > LONG_CALL;
            const numThreads = threadsFor(model, welcome);
            if (numThreads < most && choice.name === 'simd') {
              log.info(`Computing on ${formatNoun(numThreads, 'thread')}: more need more memory`);
            }
            if (choice.name === 'simd' && (numThreads > 1 || isLong)) {
              return startThreads(model, regularizer, numThreads, systemClock, isLong);
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
          maxMemoryBytes,
          threadsFor,
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

/** `lockstep relay`: a worker to a coordinator or another relay, and a coordinator to its own workers. */
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { hostname } from 'node:os';
import { isLoopback } from '../coordinator/certificate.js';
import type { RunEvent } from '../coordinator/events.js';
import { isSame } from '../coordinator/page/gate.js';
import { MAX_STRANGERS, MORE_PROVING } from '../coordinator/group/reception.js';
import { defaultServerLimits, listen, type ServerOptions } from '../coordinator/server.js';
import { createReferenceEngine } from '../model/engine/reference.js';
import { createSimdEngine, createVectorOps } from '../model/engine/simd/node.js';
import { systemClock } from '../shared/clock.js';
import { UserError, messageOf } from '../shared/errors.js';
import { formatJoinLine, parseJoinLine } from '../shared/join-line.js';
import { makeFolders } from '../shared/node/folders.js';
import { createLog, type Logger } from '../shared/node/log.js';
import { createRandom } from '../shared/random.js';
import type { Crew } from '../relay/crew.js';
import { Relay } from '../relay/relay.js';
import { dial, dialAlternate } from '../worker/connection.js';
import { Worker } from '../worker/worker.js';
import { keepLinks, localJoinLine, openAccess, sayJoinLines } from './access.js';
import { optionCommand } from './command.js';
import { letHeapGrow, optimizeKernelsSoon } from './v8.js';
import { tellEnding } from './ending.js';
import { startLocalWorkers, type StartedWorkers } from './local-workers.js';
import { createJudge } from './judge.js';
import { randomSeed } from './random-seed.js';
import { checkCrewSize } from './serve-options.js';
import { stopSignal } from './signals.js';
import { RELAY_ANSWER } from '../shared/link-check.js';
import { readToken } from './token.js';

export function relayCommand() {
  return optionCommand(
    'relay',
    'join a run as one worker, and distribute its share to workers that join the relay',
    'wss://10.0.0.5:7700#TOKEN.PIN --host 0.0.0.0',
    async ({ values: options }, [argument]) => {
      checkCrewSize(options, options.workers);
      const line = parseJoinLine(argument);
      const token = line.token ?? readToken(options.token, options.tokenFile);
      letHeapGrow();
      optimizeKernelsSoon();
      const log = createLog({
        level: options.logLevel,
        quiet: options.quiet,
        stream: options.quiet ? process.stderr : process.stdout,
      });
      const stop = stopSignal();
      const failed = new AbortController();
      const { out, name = hostname(), retryFor = Infinity } = options;
      if (!isLoopback(options.host)) await makeOut(out);
      const { tlsCert = null, tlsKey = null } = options;
      // Nobody looks at a relay: the coordinator's page shows what is behind it.
      const own = {
        ...options,
        tlsCert,
        tlsKey,
        token,
        browserWorkers: false,
        lookToken: randomBytes(16).toString('hex'),
      };
      const access = {
        ...(await openAccess(out, own, (message) => log.warn(message))),
        lookToken: null,
      };
      const workerKey = randomBytes(32);
      let { port } = options;
      let parent = formatJoinLine({ ...line, token: null });
      let workers: StartedWorkers | null = null;
      const relay = new Relay({
        createWorker: (own) =>
          new Worker({
            session: {
              ...own,
              name,
              host: hostname(),
              token,
              maxMemoryBytes: 1e6 * options.maxMemory,
              clock: systemClock,
              collectGarbage: () => undefined,
              log: (level, message) => log[level](message),
            },
            async dial(signal, alternate) {
              const channel = await (alternate === null
                ? dial(line.url, line.pin, signal)
                : dialAlternate(alternate, line, signal));
              parent = alternate ?? formatJoinLine({ ...line, token: null });
              return channel;
            },
            random: createRandom(process.pid, 'relay', Date.now()),
            retryForMs: 1000 * retryFor,
          }),
        parent: () => parent,
        crewOptions: (model, regularizer) => {
          const arbiter = createSimdEngine(model);
          const reference = createReferenceEngine(model);
          return {
            clock: systemClock,
            random: createRandom(randomSeed(), 'relay'),
            auditRandom: createRandom(randomSeed(), 'audit'),
            report: (event) => say(event, log),
            arbiter,
            vectors: createVectorOps(model.numParams),
            judge: createJudge(arbiter, reference, regularizer, !options.approximate),
            isTokenRight: (given) => access.token === null || isSame(given, access.token),
            workerKey,
            allowsApproximate: options.approximate,
            minWorkers: options.minWorkers,
            maxWorkers: options.maxWorkers,
            audit: options.audit,
          };
        },
        openDoor: async (crew, accept) => {
          const where = { tls: access.tls, host: options.host, port, accept };
          const server = await openDoor(crew, where, options.maxWorkers, log);
          const isFirst = workers === null;
          ({ port } = server);
          if (isFirst) {
            // On loopback it keeps nothing: there may be many in one folder.
            if (!access.isLoopback) await keepLinks(out, access, port);
            log.info(`Relay for ${line.url} on port ${port}`);
            if (options.workers === 0) sayJoinLines(out, access, port, options.quiet, log);
            workers = startLocalWorkers({
              joinLine: localJoinLine(access, port),
              token: access.token,
              workers: Array.from({ length: options.workers }, () => ({
                engine: 'simd' as const,
                threads: 1,
              })),
              log,
              stop,
              gaveUp: (message) => failed.abort(new UserError(message)),
            });
          }
          return { ...server, fits: (other) => isAlike(other, crew) };
        },
      });
      try {
        const ending = await relay.work(AbortSignal.any([stop, failed.signal]));
        failed.signal.throwIfAborted();
        tellEnding(ending, line.url, retryFor, log);
      } finally {
        await (workers as StartedWorkers | null)?.close();
      }
      await log.close();
    },
  ).argument(
    '<url>',
    'of the coordinator or another relay, wss://HOST:7700#TOKEN.PIN or ws://HOST:7700',
  );
}

/** Admits workers, and answers health checks. */
function openDoor(
  crew: Crew,
  where: Pick<ServerOptions, 'host' | 'port' | 'tls' | 'accept'>,
  maxWorkers: number,
  log: Logger,
) {
  const { longestFrameBytes, numSlices } = crew;
  const maxWebSockets = MAX_STRANGERS + MORE_PROVING + 2 * maxWorkers;
  return listen({
    ...where,
    longestFrameBytes,
    limits: defaultServerLimits(longestFrameBytes, maxWebSockets, numSlices),
    clock: systemClock,
    warn: (message) => log.warn(message),
    handle: (request: IncomingMessage, response: ServerResponse) => {
      const isHealth = request.url === '/healthz';
      response.writeHead(isHealth ? 200 : 404, { 'content-type': 'text/plain; charset=utf-8' });
      response.end(isHealth ? 'ok\n' : RELAY_ANSWER);
      return true;
    },
  });
}

/** Whether the frames of the two are as long and as many. */
function isAlike(a: Crew, b: Crew): boolean {
  return a.longestFrameBytes === b.longestFrameBytes && a.numSlices === b.numSlices;
}

function say(event: RunEvent, log: Logger): void {
  if (event.type === 'workerJoined') {
    const { name, workerId, engine, worldSize } = event;
    log.info(`${name} (${workerId}) joined with ${engine}; ${worldSize} here`);
  } else if (event.type === 'workerLost') {
    log[event.isGraceful ? 'info' : 'warn'](`${event.message}; ${event.worldSize} here`);
  } else if (event.type === 'notice') {
    log[event.level](event.message);
  }
}

async function makeOut(out: string): Promise<void> {
  try {
    await makeFolders(out);
  } catch (error) {
    throw new UserError(`Cannot create the directory ${out} (--out): ${messageOf(error)}`, {
      cause: error,
    });
  }
}

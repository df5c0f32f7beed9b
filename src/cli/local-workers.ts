/**
 * The workers that `lockstep train` runs on its own machine: starts them, restarts those that die, and ends them with it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { EngineRequest } from '../model/engine/engine.js';
import { DEADLINES } from '../shared/deadlines.js';
import type { Logger } from '../shared/node/log.js';

const MAIN = fileURLToPath(new URL('./local-worker.js', import.meta.url));
/** A worker that ends by itself sooner than this has failed to start, on a busy machine too, ms. */
const SHORTEST_LIFE_MS = 10_000;
/** The same of one that is killed, which may be for nothing of its own, ms. */
const SHORTEST_LIFE_OF_KILLED_MS = 2_000;
/** Bad usage: it will be no better the next time. */
const HOPELESS = 2;
const MAX_FAILED_STARTS = 3;
/** Between the end of a worker and the start of the next in its place, ms. */
const RESTART_AFTER_MS = 500;

/** What one of them computes with. */
export interface LocalWorker {
  readonly engine: EngineRequest;
  /** Null for one per core, at most 8, or as many as fit in its memory. */
  readonly threads: number | null;
}

export interface LocalWorkersOptions {
  /** Without the token, which goes where no list of processes shows it. */
  readonly joinLine: string;
  readonly token: string | null;
  readonly workers: readonly LocalWorker[];
  readonly log: Logger;
  /** Once it has aborted, a worker that ends is not started again. */
  readonly stop: AbortSignal;
  /** Called when no worker can be kept running. */
  readonly gaveUp: (message: string) => void;
}

export interface StartedWorkers {
  /** Ends them all; resolves when their processes are gone. */
  close(): Promise<void>;
}

export function startLocalWorkers(options: LocalWorkersOptions): StartedWorkers {
  const { joinLine, token, workers, log, stop, gaveUp } = options;
  const children = new Set<ChildProcess>();
  const restarts = new Set<NodeJS.Timeout>();
  let isClosing = false;
  let numAlive = workers.length;

  const giveUp = () => {
    numAlive--;
    if (numAlive === 0) gaveUp('Cannot keep any worker running; see the lines above');
  };

  const start = (worker: LocalWorker, index: number, numFailed: number) => {
    const name = `worker-${index + 1}`;
    const startedAt = Date.now();
    const child = spawn(
      NODE[0],
      [
        ...[...NODE.slice(1), MAIN, 'worker', joinLine, '--name', name, '--quiet'],
        ...['--engine', worker.engine],
        ...(worker.threads === null ? [] : ['--threads', String(worker.threads)]),
      ],
      {
        // Closed by the end of this process, however it comes: the worker follows (signals.ts).
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
        env: {
          ...process.env,
          // They may be pipes, which this process has read to their end.
          LOCKSTEP_CONFIG: undefined,
          LOCKSTEP_TOKEN_FILE: undefined,
          ...(token === null ? {} : { LOCKSTEP_TOKEN: token }),
        },
      },
    );
    children.add(child);
    createInterface({ input: child.stderr! }).on('line', (line) => log.warn(`${name}: ${line}`));
    child.once('error', (error) => {
      // Where there never was a process.
      if (child.pid !== undefined || !children.delete(child)) return;
      log.error(`Cannot start ${name}: ${error.message}`);
      giveUp();
    });
    // Not `exit`, which may come before its last words.
    child.once('close', (code, signal) => {
      if (!children.delete(child) || isClosing || stop.aborted || code === 0) return;
      const shortestMs = signal === null ? SHORTEST_LIFE_MS : SHORTEST_LIFE_OF_KILLED_MS;
      const failed = Date.now() - startedAt < shortestMs ? numFailed + 1 : 0;
      if (code === HOPELESS) {
        log.error(`${name} cannot be started; see the line above`);
        giveUp();
        return;
      }
      const how = signal === null ? `with code ${String(code)}` : `by ${signal}`;
      if (failed >= MAX_FAILED_STARTS) {
        log.error(`${name} ended ${how} ${failed} times in a row and is not started again`);
        giveUp();
        return;
      }
      log.info(`${name} ended ${how}; starting it again`);
      const timeout = setTimeout(() => {
        restarts.delete(timeout);
        if (!stop.aborted) start(worker, index, failed);
      }, RESTART_AFTER_MS);
      restarts.add(timeout);
    });
  };
  workers.forEach((worker, index) => start(worker, index, 0));

  return {
    async close() {
      isClosing = true;
      restarts.forEach(clearTimeout);
      await Promise.all([...children].map(endChild));
    },
  };
}

/**
 * Node with less urgency than the coordinator, for all of its threads: on a machine with few processors, a worker that a
 * broadcast wakes would otherwise take the coordinator's, and the others wait meanwhile.
 */
const NODE: readonly [string, ...string[]] = existsSync('/usr/bin/nice')
  ? ['/usr/bin/nice', '-n', '10', process.execPath]
  : [process.execPath];

function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    const deadline = setTimeout(() => child.kill('SIGKILL'), DEADLINES.localWorkerEndMs);
    child.once('exit', () => {
      clearTimeout(deadline);
      resolve();
    });
    if (child.connected) child.disconnect();
  });
}

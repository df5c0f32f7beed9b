/**
 * The workers that `lockstep launch` runs on other machines, over ssh: starts them, restarts them when a machine is lost, and
 * ends them with the run.
 *
 * A worker is tied to this process by the stdin of its ssh (lifeline.ts), which ends when this process ends, however that
 * happens. The run's secret is also sent through it, so that it appears in no process list on either machine.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Logger } from '../shared/node/log.js';
import { printable } from '../shared/printable.js';
import type { WorkerPlace } from './hostfile.js';
import { BEAT_MS } from './lifeline.js';
import type { StartedWorkers } from './local-workers.js';

/** What runs lockstep on the other machines, unless it is said: the same path as here. */
export const SAME_PROGRAM = programAt(fileURLToPath(new URL('./main.js', import.meta.url)));
/** No question that nobody answers, and a dead link is noticed within a quarter of a minute. */
const SSH_OPTIONS = ['BatchMode=yes', 'ConnectTimeout=10', 'ServerAliveInterval=5'].flatMap(
  (option) => ['-o', option],
);
/** ssh's own failure, as opposed to that of the program that it ran. */
const SSH_FAILED = 255;
/** Bad usage, not executable, not found: it will be no better the next time. */
const HOPELESS = [2, 126, 127];
/** A worker that ends sooner than this after its start has failed to start, ms. */
const SHORTEST_LIFE_MS = 10_000;
const MAX_FAILED_STARTS = 3;
const FIRST_BACKOFF_MS = 1_000;
const LONGEST_BACKOFF_MS = 30_000;
/** After its lifeline is cut a worker has this long, ms. */
const END_WITHIN_MS = 5_000;
const MAX_LINE_CHARS = 2_000;

export interface RemoteWorkersOptions {
  readonly places: readonly WorkerPlace[];
  /** What a worker joins, with all secrets. */
  readonly joinLine: string;
  /** The command line of ssh, without the host. */
  readonly ssh: readonly string[];
  /** What runs lockstep on the other machines; for their shells. */
  readonly program: string;
  /** Of workers whose place names none. */
  readonly engine: string;
  readonly log: Logger;
  /** Once it has aborted, a worker that ends is not started again. */
  readonly stop: AbortSignal;
  /** Called when no worker can be kept running. */
  readonly gaveUp: (message: string) => void;
}

/** Resolves `close()` when their connections are gone. */
export function startRemoteWorkers(options: RemoteWorkersOptions): StartedWorkers {
  const { places, joinLine, ssh, program, engine, log, stop, gaveUp } = options;
  const children = new Set<ChildProcess>();
  const retries = new Set<NodeJS.Timeout>();
  let isClosing = false;
  let numAlive = places.length;

  const giveUp = (message: string) => {
    log.error(message);
    numAlive--;
    if (numAlive === 0) gaveUp('Cannot keep any worker running; see the lines above');
  };

  const start = (place: WorkerPlace, numFailed: number) => {
    const { name, host } = place;
    const startedAt = performance.now();
    const [command, ...args] = [
      ...[...ssh, ...SSH_OPTIONS, '-T', '--', host],
      commandLine(program, place, engine),
    ];
    const child = spawn(command, args, {
      stdio: 'pipe',
      // Not of the terminal's: Ctrl-C is for the launcher, which lets the workers say goodbye.
      detached: true,
    });
    children.add(child);
    child.stdin.on('error', () => undefined);
    child.stdin.write(`${joinLine}\n`);
    const beat = setInterval(() => child.stdin.write('\n'), BEAT_MS);
    let lastLine = '';
    for (const stream of [child.stdout, child.stderr]) {
      onLine(stream, (line) => {
        lastLine = line;
        log.warn(`${name}: ${line}`);
      });
    }
    child.once('error', (error) => {
      // No `close` of its own follows where there never was a process.
      if (child.pid !== undefined || !children.delete(child)) return;
      clearInterval(beat);
      giveUp(`Cannot start ${command} for ${name}: ${error.message}`);
    });
    child.once('close', (code, signal) => {
      clearInterval(beat);
      if (!children.delete(child)) return;
      if (isClosing || stop.aborted || code === 0) return;
      const lasted = performance.now() - startedAt;
      const failed = lasted < SHORTEST_LIFE_MS ? numFailed + 1 : 1;
      const how = signal === null ? `with code ${String(code)}` : `by ${signal}`;
      const isLost = code === SSH_FAILED || signal !== null;
      if (HOPELESS.includes(code ?? 0)) {
        giveUp(
          `Cannot run a worker on ${host}: "${program}" ended ${how} (${lastLine || 'no message'}); ` +
            'is lockstep there, and built? See --program',
        );
      } else if (!isLost && failed >= MAX_FAILED_STARTS) {
        giveUp(`${name} ended ${how} ${failed} times in a row and is not started again`);
      } else {
        const backoffMs = Math.min(FIRST_BACKOFF_MS * 2 ** (failed - 1), LONGEST_BACKOFF_MS);
        const what = isLost ? `Lost ${host}: ssh` : name;
        log.warn(`${what} ended ${how}; starting ${name} again in ${backoffMs / 1000} s`);
        const retry = setTimeout(() => {
          retries.delete(retry);
          if (!stop.aborted) start(place, failed);
        }, backoffMs);
        retries.add(retry);
      }
    });
  };
  for (const place of places) start(place, 0);

  return {
    async close() {
      isClosing = true;
      retries.forEach(clearTimeout);
      await Promise.all([...children].map(endChild));
    },
  };
}

/** For a shell, in which that file is run by Node; quoted where its path needs it. */
export function programAt(path: string): string {
  if (/^[\w@%+=:,./-]+$/.test(path)) return `node ${path}`;
  return `node '${path.replaceAll("'", String.raw`'\''`)}'`;
}

/** For the shell of the other machine, whichever it is: names are without anything that a shell knows. */
function commandLine(program: string, place: WorkerPlace, engine: string): string {
  const { name, device, threads } = place;
  const which =
    (device === null ? '' : ` --device ${device}`) +
    (threads === null ? '' : ` --threads ${threads}`);
  return `${program} worker - --name ${name} --engine ${place.engine ?? engine}${which} --quiet`;
}

/** Calls back with each line, printable, and cut where it is longer than a message is. */
function onLine(stream: Readable, callback: (line: string) => void): void {
  let rest = '';
  const say = (line: string) => {
    if (line.trim() !== '') callback(printable(line));
  };
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const lines = (rest + chunk).split(/\r?\n/);
    rest = lines.pop()!.slice(0, MAX_LINE_CHARS);
    for (const line of lines) say(line.slice(0, MAX_LINE_CHARS));
  });
  stream.on('end', () => say(rest));
}

function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    const deadline = setTimeout(() => child.kill('SIGKILL'), END_WITHIN_MS);
    child.once('close', () => {
      clearTimeout(deadline);
      resolve();
    });
    child.stdin!.end();
  });
}

/**
 * The program itself, as its users run it: `dist/cli/main.js` as a process of its own, with a deadline, its output
 * kept, and nothing of it left when the test is over.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { RunResult } from '../../src/coordinator/events.js';
import { MAIN } from './program.js';
import { writeSmallMnist } from './small-mnist.js';
import { temporaryDirectory } from './temporary-directory.js';

export { freePort } from './free-port.js';

/** Nothing here takes more than some seconds; on a busy machine it may take ten times that. */
const DEADLINE_MS = 60_000;

export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** From the start, or from the last `kill`, to the end of the process, ms. */
  readonly lastedMs: number;
}

export interface Program {
  readonly pid: number;
  readonly ended: Promise<Ending>;
  /** Resolves with the match as soon as stdout and stderr so far have one; rejects if the process ends without. */
  said(pattern: RegExp): Promise<RegExpExecArray>;
  kill(signal: NodeJS.Signals): void;
}

/**
 * Starts any program of Node's; it is killed with the test.
 *
 * @param prefix a command line that runs the command line after it
 * @param deadlineMs after which it is killed
 */
export function startProgram(
  script: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
  prefix: readonly string[] = [],
  deadlineMs = DEADLINE_MS,
): Program {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('LOCKSTEP_')),
  );
  const [program, ...rest] = [...prefix, process.execPath, script, ...args];
  const child = spawn(program, rest, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...env, ...environment },
  });
  return watch(child, [script, ...args].join(' '), deadlineMs);
}

export function start(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
  prefix: readonly string[] = [],
  deadlineMs = DEADLINE_MS,
): Program {
  return startProgram(MAIN, args, environment, prefix, deadlineMs);
}

/** Runs `lockstep` to its end. */
export function lockstep(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Ending> {
  return start(args, environment).ended;
}

function watch(child: ChildProcess, command: string, deadlineMs: number): Program {
  const output = { stdout: '', stderr: '', all: '' };
  const listeners = new Set<() => void>();
  let since = performance.now();
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]!.on('data', (chunk: Buffer) => {
      output[name] += chunk.toString();
      output.all += chunk.toString();
      listeners.forEach((listener) => listener());
    });
  }
  let isOver = false;
  const deadline = setTimeout(() => child.kill('SIGKILL'), deadlineMs);
  const ended = new Promise<Ending>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(deadline);
      isOver = true;
      const { stdout, stderr } = output;
      resolve({ code, signal, stdout, stderr, lastedMs: performance.now() - since });
      listeners.forEach((listener) => listener());
    });
  });
  onTestFinished(async () => {
    if (!isOver) child.kill('SIGKILL');
    await ended;
  });
  return {
    pid: child.pid!,
    ended,
    said: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(output.all);
          if (match) resolve(match);
          else if (isOver)
            reject(new Error(`${command} never said ${pattern.source}:\n${output.all}`));
          else return;
          listeners.delete(look);
        };
        listeners.add(look);
        look();
      }),
    kill(signal) {
      since = performance.now();
      child.kill(signal);
    },
  };
}

/** A folder, gone with the test, with the first images of MNIST as IDX files. */
export async function smallMnist(numTrain = 1000, numTest = 300): Promise<string> {
  const dir = await temporaryDirectory();
  await writeSmallMnist(dir, numTrain, numTest);
  return dir;
}

/** What a run left as its result. */
export async function resultOf(run: string): Promise<RunResult> {
  return JSON.parse(await readFile(join(run, 'result.json'), 'utf8')) as RunResult;
}

/** True if nobody listens on it. */
export async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** True while there is such a process that is no zombie. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/**
 * A measured run: `lockstep train` or `coordinator` as a separate process, in a directory that is removed afterwards.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { StepTimes } from '../coordinator/events.js';
import { sleep, systemClock } from '../shared/clock.js';
import { UserError } from '../shared/errors.js';

const PROGRAM = fileURLToPath(new URL('./child-program.js', import.meta.url));
/** Exit code of a run that SIGTERM has stopped. */
const STOPPED_CODE = 143;
/** For what a run is to say: that it has started, or that steps to warm up are done. */
const SAYS_WITHIN_MS = 600_000;
/** From SIGTERM to SIGKILL. */
const ENDS_WITHIN_MS = 30_000;

/** A line of metrics.jsonl about a step. */
export type StepLine = StepTimes & {
  readonly type: string;
  readonly globalStep: number;
  readonly numImages: number;
  readonly worldSize: number;
};

/** While it runs. */
export interface MeasuredRun {
  /** The first match in what the run has printed or prints from now on. */
  said(pattern: RegExp): Promise<RegExpExecArray>;
  wait(ms: number): Promise<void>;
  /** Ends the measurement: something that belongs to it has failed. */
  fail(message: string): void;
}

/**
 * Starts a run, measures it, and stops it.
 *
 * @param flags of the command, besides those by which it goes on until it is stopped
 * @returns what `measure` makes of it, and the run's steps
 * @throws {UserError} if the run ends before, or the signal aborts
 */
export async function measureRun<T>(
  command: 'train' | 'coordinator',
  flags: Readonly<Record<string, string | number>>,
  stop: AbortSignal,
  measure: (run: MeasuredRun) => Promise<T>,
): Promise<{ readonly measured: T; readonly steps: readonly StepLine[] }> {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-bench-'));
  const out = join(folder, 'run');
  const all = { out, epochs: 100_000, 'checkpoint-every': 1e9, ...flags };
  const args = Object.entries(all).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
  const child = spawn(process.execPath, [PROGRAM, command, ...args, '--no-progress'], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: environment(),
  });
  let output = '';
  let errors = '';
  child.stdout!.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr!.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const failed = new AbortController();
  const { signal } = failed;
  const fail = (message: string) => failed.abort(new UserError(message));
  const stopped = () => fail('Stopped before the end of the measurement');
  if (stop.aborted) stopped();
  stop.addEventListener('abort', stopped, { once: true });
  const ended = new Promise<number | null>((resolve) => {
    child.once('error', (error) => {
      errors += error.message;
      resolve(null);
    });
    child.once('close', resolve);
  });
  let isDone = false;
  void ended.then((code) => {
    if (isDone && code === STOPPED_CODE) return;
    fail(`The measured run failed: ${errors.trim()}`);
  });
  try {
    const measured = await measure({
      async said(pattern) {
        const overdue = AbortSignal.timeout(SAYS_WITHIN_MS);
        for (;;) {
          signal.throwIfAborted();
          const match = pattern.exec(output);
          if (match) return match;
          if (overdue.aborted) throw new UserError('The measured run takes too long');
          await once(child.stdout!, 'data', { signal: AbortSignal.any([signal, overdue]) }).catch(
            () => undefined,
          );
        }
      },
      async wait(ms) {
        await sleep(systemClock, ms, signal);
        signal.throwIfAborted();
      },
      fail,
    });
    isDone = true;
    child.kill('SIGTERM');
    const overdue = setTimeout(() => child.kill('SIGKILL'), ENDS_WITHIN_MS);
    await ended;
    clearTimeout(overdue);
    signal.throwIfAborted();
    const lines = (await readFile(join(out, 'metrics.jsonl'), 'utf8')).trimEnd().split('\n');
    const steps = lines.map((line) => JSON.parse(line) as StepLine);
    return { measured, steps: steps.filter(({ type }) => type === 'step') };
  } finally {
    stop.removeEventListener('abort', stopped);
    child.kill('SIGKILL');
    await ended;
    await rm(folder, { recursive: true, force: true });
  }
}

/** Without the variables that set options: they would change what is measured. */
export function environment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('LOCKSTEP_')),
  );
}

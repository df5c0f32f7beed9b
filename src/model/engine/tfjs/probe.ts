/**
 * Probes an engine in a child process with a deadline: a broken GPU driver may crash or hang the process that loads it, and
 * a library cannot be unloaded.
 *
 * probe-main.ts is the child.
 */
import { fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { UserError } from '../../../shared/errors.js';
import type { EngineName } from '../engine.js';
import type { Command } from './install.js';

export interface AvailableEngine {
  readonly isAvailable: true;
  readonly version: string;
  readonly device: string;
  /** A GPU, and none that a CPU imitates. */
  readonly isHardwareGpu: boolean;
  /** Of a GPU, in bytes; null where nobody tells. */
  readonly memoryBytes: number | null;
  /** Null unless it was asked for. */
  readonly measurement: Measurement | null;
}

export interface UnavailableEngine {
  readonly isAvailable: false;
  readonly reason: string;
  readonly cure: string;
  /** The cure as commands of npm's, where it is one. */
  readonly fix?: readonly Command[];
}

export interface Measurement {
  /** ‖g − g_ref‖ / ‖g_ref‖ over all parameters of LeNet-5, on the micro-batch of a proof. */
  readonly distance: number;
  /** Of the gradient, at the best of the batch sizes that were tried. */
  readonly imagesPerSecond: number;
  readonly batchSize: number;
}

export type Probe = (AvailableEngine | UnavailableEngine) & {
  /** CUDA libraries that TensorFlow looked for and did not find. */
  readonly missingLibraries: readonly string[];
};

export interface ProbeOptions {
  readonly device?: number | null;
  readonly shouldMeasure?: boolean;
  readonly timeoutMs?: number;
  /** Ends the look, and its process, which may be stuck in a driver. */
  readonly signal?: AbortSignal;
}

/** Always the built program. Right from src/ and from dist/. */
const MAIN = new URL('../../../../dist/model/engine/tfjs/probe-main.js', import.meta.url);
const TIMEOUT_MS = 30_000;
const MEASURING_TIMEOUT_MS = 120_000;
/** Of the child's log; what matters comes early. */
const MAX_LOG_CHARS = 100_000;

/** Never rejects for what is wrong with the engine; that is the answer. */
export async function probeEngine(name: EngineName, options: ProbeOptions = {}): Promise<Probe> {
  if (!existsSync(MAIN)) throw new UserError(`Cannot probe ${name}: run "npm run build" first`);
  const shouldMeasure = options.shouldMeasure ?? false;
  const timeoutMs = options.timeoutMs ?? (shouldMeasure ? MEASURING_TIMEOUT_MS : TIMEOUT_MS);
  const args = [name, String(options.device ?? ''), shouldMeasure ? 'measure' : ''];
  return new Promise((resolve) => {
    const child = fork(fileURLToPath(MAIN), args, {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      // TensorFlow names the libraries that it misses in its warnings.
      env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: '0', TF_CPP_MAX_VLOG_LEVEL: '0' },
      execArgv: [],
    });
    let log = '';
    let answer: AvailableEngine | UnavailableEngine | null = null;
    let isLate = false;
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      if (log.length < MAX_LOG_CHARS) log += text;
    });
    child.on('message', (message: AvailableEngine | UnavailableEngine) => {
      answer = message;
      // Its work is done; some libraries do not let go of the process by themselves.
      child.kill('SIGKILL');
    });
    const timer = setTimeout(() => {
      isLate = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    const end = () => child.kill('SIGKILL');
    options.signal?.addEventListener('abort', end);
    if (options.signal?.aborted) end();
    const finish = (code: number | null, signal: string | null, error?: Error): void => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', end);
      const problem = isLate
        ? `it did not answer within ${timeoutMs / 1000} s`
        : `its process ended with ${signal ?? error?.message ?? `code ${code}`}`;
      const cure = 'update the driver of the GPU, or take --engine simd';
      resolve({
        ...(answer ?? { isAvailable: false, reason: problem, cure }),
        missingLibraries: missingLibrariesIn(log),
      });
    };
    child.once('error', (error) => finish(null, null, error));
    child.once('close', finish);
  });
}

/** The shared libraries that TensorFlow says it could not load. */
export function missingLibrariesIn(log: string): string[] {
  const names = [...log.matchAll(/Could not load dynamic library '([^']+)'/g)].map(
    ([, name]) => name,
  );
  return [...new Set(names)].sort();
}

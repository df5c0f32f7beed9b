/**
 * The options of how a run is served, for `train` and `coordinator`: nothing here changes its bits.
 */
import { InvalidArgumentError, Option, type Command } from 'commander';
import { LOG_LEVELS, type LogLevel } from '../shared/node/log.js';
import { environmentName, number } from './run-options.js';

export interface ServeOptions {
  readonly host: string;
  /** Null for 7700, or a free one where that is in use and nobody needs to know. */
  readonly port: number | null;
  readonly token: string | null;
  /** Run directory; null for a new one under runs/. */
  readonly out: string | null;
  /** Directory to resume, true for that of `out`. */
  readonly resume: string | true | null;
  readonly minWorkers: number;
  readonly maxWorkers: number;
  readonly heartbeatTimeoutMs: number;
  readonly checkpointEveryMs: number;
  readonly checkpointEverySteps: number;
  readonly logEvery: number;
  readonly targetAccuracy: number | null;
  readonly requireExact: boolean;
  readonly audit: number;
  readonly verifyLedger: boolean;
  readonly trace: boolean;
  readonly keepServing: boolean;
  readonly quiet: boolean;
  readonly logLevel: LogLevel;
  readonly progress: boolean;
}

export const DEFAULT_PORT = 7700;

export function addServeOptions(command: Command): void {
  const add = (flags: string, description: string, shape?: (option: Option) => void) => {
    const option = new Option(flags, description);
    option.env(environmentName(option.attributeName()));
    shape?.(option);
    command.addOption(option);
  };
  add('--host <address>', 'address to listen on; 0.0.0.0 for all [127.0.0.1]');
  add(
    '--port <port>',
    `port of workers, page and metrics; 0 for a free one [${DEFAULT_PORT}]`,
    (option) => option.argParser(integerFrom(0, 65_535)),
  );
  add('--token <text>', 'secret that workers must give');
  add('--out <dir>', 'run directory [runs/<date-time>]');
  add(
    '--resume [dir]',
    'go on from the last checkpoint of the directory, or start if there is none [--out]',
  );
  add('--min-workers <n>', 'wait for as many before a step [1]', (option) =>
    option.argParser(integerFrom(1, 1000)),
  );
  add('--max-workers <n>', 'refuse more [256]', (option) => option.argParser(integerFrom(1, 1000)));
  add(
    '--heartbeat-timeout <seconds>',
    'silence after which a worker counts as lost [3]',
    (option) => option.argParser(numberFrom(0.2, 3600)),
  );
  add(
    '--checkpoint-every <n|seconds>',
    'steps (500), or seconds (2s), besides each epoch [2s]',
    (option) => option.argParser(checkpointEvery),
  );
  add('--log-every <steps>', 'steps of one line of the log [100]', (option) =>
    option.argParser(integerFrom(1, 1e9)),
  );
  add('--target-accuracy <fraction>', 'stop as soon as an evaluation reaches it', (option) =>
    option.argParser(numberFrom(0, 1)),
  );
  add('--require <what>', 'exact: refuse workers with an approximate engine', (option) =>
    option.choices(['exact']),
  );
  add(
    '--audit <fraction>',
    'share of the work that a second worker repeats, bit for bit [0]',
    (option) => option.argParser(numberFrom(0, 1)),
  );
  add('--verify-ledger', 'check after each epoch that each image counted once');
  add('--trace', 'write trace.json for chrome://tracing or ui.perfetto.dev');
  add('--keep-serving', 'serve the page after the run until Ctrl-C');
  add('--quiet', 'only warnings and errors on the console');
  add('--log-level <level>', 'error, warn, info or debug [info]', (option) =>
    option.choices(LOG_LEVELS),
  );
  add('--no-progress', 'plain lines even on a terminal');
}

/** @param values of a command that `addServeOptions` was applied to */
export function serveOptionsOf(values: Readonly<Record<string, unknown>>): ServeOptions {
  const every = (values.checkpointEvery as CheckpointEvery | undefined) ?? { ms: 2_000, steps: 0 };
  return {
    host: (values.host as string | undefined) ?? '127.0.0.1',
    port: (values.port as number | undefined) ?? null,
    token: (values.token as string | undefined) ?? null,
    out: (values.out as string | undefined) ?? null,
    resume: (values.resume as string | true | undefined) ?? null,
    minWorkers: (values.minWorkers as number | undefined) ?? 1,
    maxWorkers: (values.maxWorkers as number | undefined) ?? 256,
    heartbeatTimeoutMs: 1000 * ((values.heartbeatTimeout as number | undefined) ?? 3),
    checkpointEveryMs: every.ms,
    checkpointEverySteps: every.steps,
    logEvery: (values.logEvery as number | undefined) ?? 100,
    targetAccuracy: (values.targetAccuracy as number | undefined) ?? null,
    requireExact: values.require === 'exact',
    audit: (values.audit as number | undefined) ?? 0,
    verifyLedger: values.verifyLedger === true,
    trace: values.trace === true,
    keepServing: values.keepServing === true,
    quiet: values.quiet === true,
    logLevel: (values.logLevel as LogLevel | undefined) ?? 'info',
    progress: values.progress !== false,
  };
}

interface CheckpointEvery {
  readonly ms: number;
  readonly steps: number;
}

function checkpointEvery(text: string): CheckpointEvery {
  const seconds = /^([0-9.]+)s$/.exec(text);
  if (seconds) return { ms: 1000 * numberFrom(0.01, 1e6)(seconds[1]), steps: 0 };
  return { ms: Infinity, steps: integerFrom(1, 1e9)(text) };
}

function numberFrom(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = number(text);
    if (value < min || value > max)
      throw new InvalidArgumentError(`From ${min} to ${max} is expected.`);
    return value;
  };
}

/** Parses an integer within bounds, for commander. */
export function integerFrom(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = numberFrom(min, max)(text);
    if (!Number.isInteger(value)) throw new InvalidArgumentError('A whole number is expected.');
    return value;
  };
}

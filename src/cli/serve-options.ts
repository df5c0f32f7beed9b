/** How a run is served: nothing here changes its bits; of `init`, the configuration has the hash. */
import * as z from 'zod';
import { UsageError } from '../shared/errors.js';
import { optionWords, type OptionValues } from '../shared/option.js';
import { host, logLevel, port, quiet, text, tokenFile, tokenOption } from './common-options.js';
import { readToken } from './token.js';

export const DEFAULT_PORT = 7700;

const hostName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$/);

export const serveOptions = {
  init: text.optional().register(optionWords, {
    group: 'training',
    help: 'first weights: a checkpoint, a run, or a safetensors file of the same layers from PyTorch',
    value: 'file|dir',
    unset: 'random ones',
  }),
  resume: z.union([z.boolean(), text]).default(false).register(optionWords, {
    group: 'run',
    help: 'resume the run in this directory; without one, that in --out, or start it if there is none',
    value: 'dir',
    expected: 'a directory, or true for that of --out',
  }),
  minWorkers: z.number().int().min(1).max(1000).default(1).register(optionWords, {
    group: 'run',
    help: 'workers to wait for before each step',
    value: 'n',
  }),
  maxWorkers: z.number().int().min(1).max(1000).default(256).register(optionWords, {
    group: 'run',
    help: 'workers at most; others are refused',
    value: 'n',
  }),
  targetAccuracy: z.number().min(0).max(1).optional().register(optionWords, {
    group: 'run',
    help: 'stop as soon as an evaluation reaches this accuracy',
    value: 'fraction',
    unset: 'none',
  }),
  patience: z.number().int().min(1).max(100_000).optional().register(optionWords, {
    group: 'run',
    help: 'stop after as many epochs without a better accuracy on the validation set, else the test set',
    value: 'epochs',
    unset: 'none',
  }),
  checkpointEvery: z
    .union([
      z.number().int().min(1).max(1e9),
      z
        .string()
        .regex(/^\d{1,6}(\.\d{1,3})?s$/)
        .refine((every) => parseFloat(every) > 0),
    ])
    .default('2s')
    .register(optionWords, {
      group: 'run',
      help: 'steps (500) or time (2s) between checkpoints; each epoch ends with one too',
      value: 'n|seconds',
      expected: 'steps as a whole number from 1 (500), or seconds above 0 (2s)',
    }),
  require: z.enum(['exact']).optional().register(optionWords, {
    group: 'run',
    help: 'exact: refuse workers whose engine is approximate',
    value: 'what',
    unset: 'none',
  }),
  audit: z.number().min(0).max(1).default(0).register(optionWords, {
    group: 'run',
    help: 'fraction of the answers that the coordinator computes again before they count',
    value: 'fraction',
  }),
  verifyLedger: z.boolean().default(false).register(optionWords, {
    group: 'run',
    help: 'check after each epoch that every image counted once',
  }),
  host,
  port: port.optional().register(optionWords, {
    group: 'network',
    help: 'port for workers, page and metrics; 0 for any free one',
    value: 'port',
    unset: String(DEFAULT_PORT),
  }),
  token: tokenOption(
    'secret that workers have to know',
    'none; off loopback one that the run keeps',
  ),
  tokenFile,
  lookToken: tokenOption(
    'secret that page and metrics want, where joining wants a token',
    'one that the run keeps, if it has a token',
  ),
  lookTokenFile: text.optional().register(optionWords, {
    group: 'network',
    help: 'file with it, in place of --look-token',
    value: 'file',
    unset: 'none',
  }),
  allowedHosts: z.array(hostName).min(1).max(64).optional().register(optionWords, {
    group: 'network',
    help: 'names with dots that browsers reach the page by, such as that of a proxy, with commas between them',
    value: 'names',
    unset: 'those of the machine and its certificate',
    expected: 'a list of host names with commas between them',
  }),
  tlsCert: text.optional().register(optionWords, {
    group: 'network',
    help: 'certificate with those above it, PEM, which workers and browsers trust',
    value: 'file',
    unset: 'off loopback one that the join line names',
  }),
  tlsKey: text.optional().register(optionWords, {
    group: 'network',
    help: 'key of --tls-cert, PEM',
    value: 'file',
    unset: 'none',
  }),
  insecure: z.boolean().default(false).register(optionWords, {
    group: 'network',
    help: 'off loopback neither speak TLS nor make a token',
  }),
  browserWorkers: z.boolean().default(false).register(optionWords, {
    group: 'network',
    help: 'serve /work, a link by which any browser joins; off loopback with --tls-cert, or over plain http with --insecure',
  }),
  heartbeatTimeout: z.number().min(0.2).max(3600).default(3).register(optionWords, {
    group: 'network',
    help: 'silence after which a worker counts as lost',
    value: 'seconds',
  }),
  slice: z.number().int().min(1).max(1e6).optional().register(optionWords, {
    group: 'network',
    help: 'weights and gradients travel, are added and are updated in slices of so many KiB: for large models',
    value: 'KiB',
    unset: 'as a whole',
  }),
  out: text.optional().register(optionWords, {
    group: 'output',
    help: 'run directory',
    value: 'dir',
    unset: 'runs/DATE-TIME',
  }),
  logEvery: z.number().int().min(1).max(1e9).default(100).register(optionWords, {
    group: 'output',
    help: 'steps from one line of the log to the next',
    value: 'steps',
  }),
  trace: z.boolean().default(false).register(optionWords, {
    group: 'output',
    help: 'write trace.json, for ui.perfetto.dev or chrome://tracing',
  }),
  keepServing: z.boolean().default(false).register(optionWords, {
    group: 'output',
    help: 'serve the page after the end of the run, until Ctrl-C',
  }),
  quiet,
  logLevel,
  progress: z.boolean().default(true).register(optionWords, {
    group: 'output',
    help: 'print plain lines even on a terminal, in place of a live status',
  }),
};

/** As the coordinator takes them: times in ms, null for what is left open. */
export function serveOptionsOf(values: OptionValues<typeof serveOptions>) {
  const {
    port,
    token,
    tokenFile,
    lookToken,
    lookTokenFile,
    allowedHosts,
    tlsCert,
    tlsKey,
    out,
    resume,
    init,
    targetAccuracy,
    patience,
    checkpointEvery: every,
    slice,
    ...rest
  } = values;
  checkCrewSize(values);
  return {
    ...rest,
    /** Null for `DEFAULT_PORT`, or a free one where that is in use and nobody needs to know. */
    port: port ?? null,
    token: readToken(token, tokenFile),
    allowedHosts: allowedHosts ?? [],
    lookToken: readToken(lookToken, lookTokenFile, '--look-token'),
    tlsCert: tlsCert ?? null,
    tlsKey: tlsKey ?? null,
    out: out ?? null,
    init: init ?? null,
    /** Directory to resume, true for that of `out`. */
    resume: resume === false ? null : resume,
    heartbeatTimeoutMs: 1000 * values.heartbeatTimeout,
    /** Values of a slice of θ and of gradients; null for one slice. */
    sliceValues: slice === undefined ? null : (1024 * slice) / Float32Array.BYTES_PER_ELEMENT,
    checkpointEveryMs: typeof every === 'string' ? 1000 * parseFloat(every) : Infinity,
    checkpointEverySteps: typeof every === 'number' ? every : 0,
    targetAccuracy: targetAccuracy ?? null,
    patience: patience ?? null,
    requireExact: values.require === 'exact',
  };
}

export type ServeOptions = ReturnType<typeof serveOptionsOf>;

/**
 * @param numLocal workers that are started here
 * @throws {UsageError} if more workers are waited for, or started, than are taken
 */
export function checkCrewSize(
  { minWorkers, maxWorkers }: { readonly minWorkers: number; readonly maxWorkers: number },
  numLocal = 0,
): void {
  for (const [what, numWorkers] of [
    [`wait for ${minWorkers} workers (--min-workers)`, minWorkers],
    [`start ${numLocal} workers`, numLocal],
  ] as const) {
    if (numWorkers <= maxWorkers) continue;
    throw new UsageError(`Cannot ${what} and take ${maxWorkers} at most (--max-workers)`);
  }
}

/** Options of how a run is served. None of them affects its bits (the configuration has the hash of `init`). */
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
    help: 'initial weights: a checkpoint, a run, or a safetensors file from PyTorch with the same layers',
    value: 'file|dir',
    unset: 'random',
  }),
  resume: z.union([z.boolean(), text]).default(false).register(optionWords, {
    group: 'run',
    help: 'resume the run in this directory; without a directory, resume or start the run in --out',
    value: 'dir',
    expected: 'a directory, or true for the one in --out',
  }),
  minWorkers: z.number().int().min(1).max(1000).default(1).register(optionWords, {
    group: 'run',
    help: 'workers to wait for before each step',
    value: 'n',
  }),
  maxWorkers: z.number().int().min(1).max(1000).default(256).register(optionWords, {
    group: 'run',
    help: 'maximum number of workers; others are refused',
    value: 'n',
  }),
  targetAccuracy: z.number().min(0).max(1).optional().register(optionWords, {
    group: 'run',
    help: 'stop once an evaluation reaches this accuracy',
    value: 'fraction',
    unset: 'none',
  }),
  patience: z.number().int().min(1).max(100_000).optional().register(optionWords, {
    group: 'run',
    help: 'stop after this many epochs without a better accuracy on the validation set, or else the test set',
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
      help: 'steps (500) or time (2s) between checkpoints; each epoch also ends with one',
      value: 'n|seconds',
      expected: 'steps as a whole number from 1 (500), or seconds above 0 (2s)',
    }),
  require: z.enum(['exact']).optional().register(optionWords, {
    group: 'run',
    help: 'exact: refuse workers with approximate engines',
    value: 'what',
    unset: 'none',
  }),
  audit: z.number().min(0).max(1).default(0).register(optionWords, {
    group: 'run',
    help: 'fraction of answers that the coordinator recomputes before they count',
    value: 'fraction',
  }),
  verifyLedger: z.boolean().default(false).register(optionWords, {
    group: 'run',
    help: 'check after each epoch that every image was used once',
  }),
  host,
  port: port.optional().register(optionWords, {
    group: 'network',
    help: 'port for workers, page and metrics; 0 for any free one',
    value: 'port',
    unset: String(DEFAULT_PORT),
  }),
  token: tokenOption(
    'secret that workers need to join',
    'none; off loopback a generated one, kept with the run',
  ),
  tokenFile,
  lookToken: tokenOption(
    'secret for viewing page and metrics, if joining needs a token',
    'a generated one, kept with the run, if it has a token',
  ),
  lookTokenFile: text.optional().register(optionWords, {
    group: 'network',
    help: 'file with the looking token, instead of --look-token',
    value: 'file',
    unset: 'none',
  }),
  allowedHosts: z.array(hostName).min(1).max(64).optional().register(optionWords, {
    group: 'network',
    help: 'additional host names under which browsers reach the page, such as a proxy, comma-separated',
    value: 'names',
    unset: 'those of the machine and its certificate',
    expected: 'a comma-separated list of host names',
  }),
  tlsCert: text.optional().register(optionWords, {
    group: 'network',
    help: 'certificate chain (PEM) that workers and browsers trust',
    value: 'file',
    unset: 'off loopback a self-signed one, pinned by the join line',
  }),
  tlsKey: text.optional().register(optionWords, {
    group: 'network',
    help: 'private key of --tls-cert (PEM)',
    value: 'file',
    unset: 'none',
  }),
  insecure: z.boolean().default(false).register(optionWords, {
    group: 'network',
    help: 'off loopback, use no TLS and generate no token',
  }),
  browserWorkers: z.boolean().default(false).register(optionWords, {
    group: 'network',
    help: 'serve /work, where any browser can join; off loopback this needs --tls-cert, or --insecure for plain http',
  }),
  heartbeatTimeout: z.number().min(0.2).max(3600).default(3).register(optionWords, {
    group: 'network',
    help: 'silence after which a worker is lost',
    value: 'seconds',
  }),
  slice: z.number().int().min(1).max(1e6).optional().register(optionWords, {
    group: 'network',
    help: 'send, add and update weights and gradients in slices of this size, for large models',
    value: 'KiB',
    unset: 'whole',
  }),
  out: text.optional().register(optionWords, {
    group: 'output',
    help: 'run directory',
    value: 'dir',
    unset: 'runs/DATE-TIME',
  }),
  logEvery: z.number().int().min(1).max(1e9).default(100).register(optionWords, {
    group: 'output',
    help: 'steps between log lines',
    value: 'steps',
  }),
  trace: z.boolean().default(false).register(optionWords, {
    group: 'output',
    help: 'write trace.json, for ui.perfetto.dev or chrome://tracing',
  }),
  keepServing: z.boolean().default(false).register(optionWords, {
    group: 'output',
    help: 'keep serving the page after the run, until Ctrl-C',
  }),
  quiet,
  logLevel,
  progress: z.boolean().default(true).register(optionWords, {
    group: 'output',
    help: 'print plain lines instead of a live status, even on a terminal',
  }),
};

/** The options as the coordinator takes them: times in ms, null if unset. */
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
 * @param numLocal workers started on this machine
 * @throws {UsageError} if more workers are required or started than are admitted
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
    throw new UsageError(`Cannot ${what}: the maximum is ${maxWorkers} (--max-workers)`);
  }
}

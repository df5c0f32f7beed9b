/** How a run is served, as the coordinator takes it: times in ms, null for what is left open. */
import { UsageError } from '../shared/errors.js';
import type { OptionValues } from '../shared/option.js';
import type { serveOptions } from './options.js';
import { readToken } from './token.js';

type Values = OptionValues<typeof serveOptions>;

export interface ServeOptions {
  readonly host: string;
  /** Null for `DEFAULT_PORT`, or a free one where that is in use and nobody needs to know. */
  readonly port: number | null;
  readonly token: string | null;
  readonly lookToken: string | null;
  readonly allowedHosts: readonly string[];
  readonly tlsCert: string | null;
  readonly tlsKey: string | null;
  /** Neither TLS nor a token off loopback. */
  readonly insecure: boolean;
  /** Serves the page by which browsers join. */
  readonly browserWorkers: boolean;
  /** Run directory; null for a new one under runs/. */
  readonly out: string | null;
  /** Directory to resume, true for that of `out`. */
  readonly resume: string | true | null;
  /** A file, or a run directory, with the first weights. */
  readonly init: string | null;
  readonly minWorkers: number;
  readonly maxWorkers: number;
  readonly heartbeatTimeoutMs: number;
  /** Values of a slice of θ and of gradients; null for one slice. */
  readonly sliceValues: number | null;
  readonly checkpointEveryMs: number;
  readonly checkpointEverySteps: number;
  readonly logEvery: number;
  readonly targetAccuracy: number | null;
  /** Epochs without a better accuracy after which the run stops. */
  readonly patience: number | null;
  readonly requireExact: boolean;
  readonly audit: number;
  readonly verifyLedger: boolean;
  readonly trace: boolean;
  readonly keepServing: boolean;
  readonly quiet: boolean;
  readonly logLevel: Values['logLevel'];
  readonly progress: boolean;
}

export function serveOptionsOf(values: Values): ServeOptions {
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
    port: port ?? null,
    token: readToken(token, tokenFile),
    allowedHosts: allowedHosts ?? [],
    lookToken: readToken(lookToken, lookTokenFile, '--look-token'),
    tlsCert: tlsCert ?? null,
    tlsKey: tlsKey ?? null,
    out: out ?? null,
    init: init ?? null,
    resume: resume === false ? null : resume,
    heartbeatTimeoutMs: 1000 * values.heartbeatTimeout,
    sliceValues: slice === undefined ? null : (1024 * slice) / Float32Array.BYTES_PER_ELEMENT,
    checkpointEveryMs: typeof every === 'string' ? 1000 * parseFloat(every) : Infinity,
    checkpointEverySteps: typeof every === 'number' ? every : 0,
    targetAccuracy: targetAccuracy ?? null,
    patience: patience ?? null,
    requireExact: values.require === 'exact',
  };
}

/**
 * @param numLocal workers that are started here
 * @throws {UsageError} if more workers are waited for, or started, than are taken
 */
export function checkCrewSize(
  { minWorkers, maxWorkers }: Pick<ServeOptions, 'minWorkers' | 'maxWorkers'>,
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

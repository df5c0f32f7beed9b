/**
 * The exports of `lockstep/browser`: a worker of a run for pages and their threads, and the conversion of a drawn digit to an
 * image. One file, without Node or dependencies. docs/browser-workers.md
 */
import { SimdEngine } from '../model/engine/simd/engine.js';
import { systemClock } from '../shared/clock.js';
import { createRandom } from '../shared/random.js';
import { EngineComputation } from '../worker/engine-computation.js';
import type { Keepsake } from '../worker/keepsake.js';
import type { SessionOptions } from '../worker/session.js';
import { dialFromBrowser } from '../worker/web-connection.js';
import { Worker, type WorkerOutcome } from '../worker/worker.js';

export {
  rasterizeCentred,
  type Point,
  type Size,
  type Stroke,
} from '../coordinator/page/browser/drawing.js';
export type { Keepsake, WorkerOutcome };

export interface JoinOptions {
  /** `ws://HOST:PORT` or `wss://HOST:PORT`, of a coordinator with `--browser-workers` that has served this page. */
  readonly url: string;
  readonly token?: string | null;
  /** `simd.wasm` of the package, compiled: a `WebAssembly.Module`. */
  readonly kernels: object;
  /** To be shown by, up to 200 characters. */
  readonly name: string;
  /** Where it runs, for people: `Firefox on Android`. */
  readonly host?: string;
  /** A run that would take more memory than this is not joined, bytes; 1 GB by default. */
  readonly maxMemoryBytes?: number;
  /** Leaves the run when it aborts. */
  readonly signal: AbortSignal;
  readonly keepsake?: Keepsake;
  /** Whether the page is out of sight, for those who watch the run. */
  readonly isHidden?: () => boolean;
  readonly onProgress?: NonNullable<SessionOptions['onProgress']>;
  /** One sentence at a time: joined, lost, retrying. */
  readonly log?: SessionOptions['log'];
}

/**
 * Works for a run until it is finished, the worker is refused, or the signal aborts. Best called on a thread of its own (a
 * `Worker` of the page): between micro-batches it lets messages in, but a page would stutter.
 */
export function joinRun(options: JoinOptions): Promise<WorkerOutcome> {
  const { url, kernels, signal, token = null, host = 'a browser', ...rest } = options;
  const worker = new Worker({
    session: {
      maxMemoryBytes: 1e9,
      log: () => undefined,
      ...rest,
      host,
      token,
      engineName: 'simd',
      createComputation: (model, regularizer) => {
        const engine = new SimdEngine(kernels, model);
        return Promise.resolve(new EngineComputation(engine, { clock: systemClock, regularizer }));
      },
      clock: systemClock,
      collectGarbage: () => undefined,
    },
    dial: (dialSignal) => dialFromBrowser(url, systemClock, dialSignal),
    // For the jitter of reconnects: that of two threads differs by when they began, to the microsecond.
    random: createRandom(Math.round(1000 * (systemClock.now() % 1e9)), 'browser'),
    retryForMs: Infinity,
  });
  return worker.work(signal);
}

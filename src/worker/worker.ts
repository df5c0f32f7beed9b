/**
 * A worker: joins a run, computes the gradients it is asked for, and reconnects when its connection breaks.
 *
 * It makes no decisions: the coordinator says what to compute, and with which parameters. It runs on any `Clock` and over
 * any `Channel`.
 */
import type { Channel } from '../shared/channel.js';
import { sleep } from '../shared/clock.js';
import { UserError, messageOf } from '../shared/errors.js';
import type { Random } from '../shared/random.js';
import { Memory } from './memory.js';
import { Session, type Outcome, type SessionOptions } from './session.js';

const FIRST_BACKOFF_MS = 200;
const LONGEST_BACKOFF_MS = 5_000;

export interface WorkerOptions {
  /** Options for the session on each connection. */
  readonly session: SessionOptions;
  /**
   * Opens a connection to the coordinator or to the alternate. Rejects if that fails, with a `UserError` if retrying would
   * not help.
   *
   * @param alternate join line of an alternate server; null for the one that the worker was started with
   */
  readonly dial: (signal: AbortSignal, alternate: string | null) => Promise<Channel>;
  /** For the jitter of reconnects. */
  readonly random: Random;
  /** Gives up after this long without a coordinator, ms; `Infinity` for never. */
  readonly retryForMs: number;
}

/** How a worker's part in a run ended. */
export type WorkerOutcome = Outcome | { readonly outcome: 'gaveUp'; readonly reason: string };

export class Worker {
  private readonly options: WorkerOptions;
  private readonly memory: Memory;

  constructor(options: WorkerOptions) {
    this.options = options;
    this.memory = new Memory(options.session.keepsake);
  }

  /** Works until the run is finished, the worker is refused, or the signal aborts, in which case it says goodbye. */
  async work(signal: AbortSignal): Promise<WorkerOutcome> {
    const { session: sessionOptions, random, retryForMs } = this.options;
    const { clock, log } = sessionOptions;
    let backoffMs = FIRST_BACKOFF_MS;
    let aloneSince = clock.now();
    let hasSaid = '';
    /** Which server to dial next: 0 for the one given at the start, then the alternates. */
    let turn = 0;
    const isStopped = () => signal.aborted;
    for (;;) {
      if (isStopped()) return this.close({ outcome: 'left' });
      let retryAfterMs = 0;
      let reason: string;
      const { alternates } = this.memory;
      const alternate = turn === 0 ? null : (alternates.at(turn - 1) ?? null);
      turn = (turn + 1) % (alternates.length + 1);
      try {
        const channel = await this.options.dial(signal, alternate);
        const session = new Session(sessionOptions, channel, this.memory);
        const ending = await session.work(signal);
        if (alternate === null) this.memory.alternates = session.alternates ?? alternates;
        if (session.wasReady) {
          turn = 0;
          backoffMs = FIRST_BACKOFF_MS;
          aloneSince = clock.now();
          hasSaid = '';
        }
        const isElsewhere = alternate !== null && ending.outcome === 'refused';
        if (ending.outcome !== 'lost' && !isElsewhere) return await this.close(ending);
        ({ reason } = ending);
        if (ending.outcome === 'lost') ({ retryAfterMs } = ending);
      } catch (error) {
        reason = messageOf(error);
        if (error instanceof UserError && alternate === null)
          return this.close({ outcome: 'unable', reason });
      }
      if (isStopped()) return this.close({ outcome: 'left' });
      const leftMs = aloneSince + retryForMs - clock.now();
      if (leftMs <= 0) return this.close({ outcome: 'gaveUp', reason });
      // Half of the wait is jitter, so that workers do not all reconnect at the same time.
      const waitMs = Math.max(retryAfterMs, backoffMs * (0.5 + random.float() / 2));
      if (reason !== hasSaid) log('info', `Cannot reach the coordinator (${reason}); retrying`);
      hasSaid = reason;
      await sleep(clock, Math.min(waitMs, leftMs), signal);
      backoffMs = Math.min(2 * backoffMs, LONGEST_BACKOFF_MS);
    }
  }

  private async close(outcome: WorkerOutcome): Promise<WorkerOutcome> {
    await this.memory.close();
    return outcome;
  }
}

/**
 * Saves the state of a run: without delaying a step, one checkpoint at a time, with retries.
 */
import { sleep, type Clock } from '../shared/clock.js';
import { UserError, messageOf } from '../shared/errors.js';
import type { Checkpoint } from '../model/checkpoint.js';
import type { Observer } from './events.js';

/** Between attempts to write a checkpoint that failed, ms. */
const RETRY_MS = 5_000;
/** Between attempts to write the state at the end, ms: the run waits for it. */
const LAST_RETRY_MS = [500, 1_000, 2_000, 4_000];

export interface CheckpointerOptions {
  readonly clock: Clock;
  readonly report: Observer;
  /** A checkpoint is due when this time has passed since the last, ms. */
  readonly everyMs: number;
  /** Also due after as many steps; 0 for never. */
  readonly everySteps: number;
  /** A copy of the state as it is now. */
  readonly snapshot: () => Checkpoint;
  /** Stores it durably. */
  readonly save: (
    checkpoint: Checkpoint,
    isBest: boolean,
  ) => Promise<{ path: string; bytes: number }>;
  readonly failed: () => void;
}

export class Checkpointer {
  private readonly options: CheckpointerOptions;
  private saving: Promise<void> | null = null;
  private savedAt: number;
  private savedStep: number;
  private retryAt = 0;
  private isDue = false;
  /** The best state so far, until it is on disk. */
  private best: Checkpoint | null = null;

  /** @param globalStep the step that is on disk already, or 0 */
  constructor(options: CheckpointerOptions, globalStep: number) {
    this.options = options;
    this.savedAt = options.clock.now();
    this.savedStep = globalStep;
  }

  /** The state as it is now is the best so far. */
  markBest(): void {
    this.best = this.options.snapshot();
  }

  /** The next `saveIfDue` saves. */
  ask(): void {
    this.isDue = true;
  }

  /** Begins to save if it is time; nothing waits for it. */
  saveIfDue(globalStep: number, isEpochEnd: boolean): void {
    const { clock, everyMs, everySteps } = this.options;
    const now = clock.now();
    this.isDue ||=
      isEpochEnd ||
      now - this.savedAt >= everyMs ||
      (everySteps > 0 && globalStep - this.savedStep >= everySteps);
    if (globalStep === this.savedStep && !this.best) return;
    if ((!this.isDue && !this.best) || this.saving !== null || now < this.retryAt) return;
    this.saving = this.save(this.best)
      .then((failure) => {
        if (failure === null) return;
        this.retryAt = clock.now() + RETRY_MS;
        this.warn(`${failure.message}; training goes on, and the next attempt is in some seconds`);
      })
      .finally(() => (this.saving = null));
  }

  /**
   * Waits for what is under way and saves the state as it is now, unless that is saved.
   *
   * @throws {UserError} if the disk does not take it, after several attempts
   */
  async saveLast(globalStep: number): Promise<void> {
    if (this.saving) await this.saving;
    for (let attempt = 0; ; attempt++) {
      const ofBest = this.best ? await this.save(this.best) : null;
      const isSaved = !this.isDue && this.savedStep === globalStep;
      const ofLast = isSaved ? null : await this.save(null);
      const failure = ofLast ?? ofBest;
      if (failure === null) return;
      const waitMs = LAST_RETRY_MS.at(attempt);
      if (waitMs === undefined) {
        if (ofLast === null) {
          this.warn(`${failure.message}; the best state is lost`);
          return;
        }
        const onDisk =
          this.savedStep > 0 ? `the last one there is of step ${this.savedStep}` : 'there is none';
        throw new UserError(
          `${failure.message}, in ${attempt + 1} attempts; ${onDisk}: make room, then go on with --resume`,
          { cause: failure },
        );
      }
      this.warn(`${failure.message}; the next attempt is in ${waitMs / 1000} s`);
      await sleep(this.options.clock, waitMs);
    }
  }

  /**
   * @param best the best state so far, to be saved instead of the present one
   * @returns what went wrong, null if nothing did
   */
  private async save(best: Checkpoint | null): Promise<Error | null> {
    const { clock, report, snapshot, save, failed } = this.options;
    const startedAt = clock.now();
    const checkpoint = best ?? snapshot();
    const { globalStep } = checkpoint;
    if (!checkpoint.params.every(Number.isFinite)) return null;
    if (best !== null) this.best = null;
    this.isDue = false;
    this.savedAt = startedAt;
    try {
      const { path, bytes } = await save(checkpoint, best !== null);
      this.savedStep = globalStep;
      const time = clock.now();
      report({
        type: 'checkpoint',
        time,
        globalStep,
        path,
        bytes,
        seconds: (time - startedAt) / 1000,
      });
      return null;
    } catch (error) {
      this.best ??= best;
      this.isDue = true;
      failed();
      return new Error(`Cannot write the checkpoint of step ${globalStep}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  private warn(message: string): void {
    const { clock, report } = this.options;
    report({ type: 'notice', time: clock.now(), level: 'warn', message });
  }
}

/** Notices that the other side has been silent for too long, and is not misled where this process itself was held up. */
import type { Clock, Timer } from '../shared/clock.js';

export class Watchdog {
  /** May be changed while it watches, ms. */
  timeoutMs: number;
  private readonly clock: Clock;
  private readonly silent: (silentMs: number) => void;
  private timer: Timer | null = null;
  private lastHeardAt: number;
  /** Whether nothing has been heard since it was too late to look whether something had. */
  private wasLate = false;

  /** @param silent called once with the length of the silence, ms; then it watches no more */
  constructor(clock: Clock, timeoutMs: number, silent: (silentMs: number) => void) {
    this.clock = clock;
    this.timeoutMs = timeoutMs;
    this.silent = silent;
    this.lastHeardAt = clock.now();
  }

  heard(): void {
    this.lastHeardAt = this.clock.now();
    this.wasLate = false;
  }

  watch(): void {
    const checkedAt = this.clock.now();
    const everyMs = this.timeoutMs / 4;
    this.timer = this.clock.schedule(everyMs, () => {
      const now = this.clock.now();
      // Where this process itself was held up, what the other side said meanwhile is still waiting to be read; where
      // timers are always late, as in a hidden tab, that is so once.
      const isLate = now - checkedAt > 2 * everyMs;
      if (isLate && !this.wasLate) this.lastHeardAt = now;
      this.wasLate = isLate;
      const silentMs = now - this.lastHeardAt;
      if (silentMs < this.timeoutMs) this.watch();
      else this.silent(silentMs);
    });
  }

  cancel(): void {
    this.timer?.cancel();
  }
}

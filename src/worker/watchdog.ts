/** Detects that the other side has been silent for too long, without being misled when this process itself stalls. */
import type { Clock, Timer } from '../shared/clock.js';

export class Watchdog {
  /** May be changed while watching, ms. */
  timeoutMs: number;
  private readonly clock: Clock;
  private readonly silent: (silentMs: number) => void;
  private timer: Timer | null = null;
  private lastHeardAt: number;
  /** Whether the last check was late, and nothing has been heard since. */
  private wasLate = false;

  /** @param silent called once, with the length of the silence, ms; watching ends then */
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
      // If this process itself stalled, messages that arrived meanwhile have not been read yet. That excuse counts only
      // once in a row, because in a hidden tab timers are always late.
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

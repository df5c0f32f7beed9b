/**
 * A clock that a test moves by hand.
 */
import { checkedDelay, type Clock } from '../../src/shared/clock.js';

export interface ManualClock extends Clock {
  /** Lets so many ms pass; what is scheduled for then is called, in order. */
  advance(durationMs: number): void;
}

export function createManualClock(startMs: number): ManualClock {
  let now = startMs;
  const timers = new Set<{ readonly at: number; readonly callback: () => void }>();
  return {
    now: () => now,
    schedule(delayMs, callback) {
      const timer = { at: now + checkedDelay(delayMs), callback };
      timers.add(timer);
      return { cancel: () => void timers.delete(timer) };
    },
    yield: () => Promise.resolve(),
    advance(durationMs) {
      const end = now + durationMs;
      for (;;) {
        const due = [...timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
        if (due.length === 0) break;
        timers.delete(due[0]);
        now = due[0].at;
        due[0].callback();
      }
      now = end;
    },
  };
}

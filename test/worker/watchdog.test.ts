import { describe, expect, it } from 'vitest';
import { Watchdog } from '../../src/worker/watchdog.js';
import { createManualClock } from '../support/manual-clock.js';

describe('Watchdog', () => {
  /** A watchdog of 1 s, and the silences it has reported. @param lateMs how late every timer is */
  function watching(lateMs = 0) {
    const clock = createManualClock(0);
    const silences: number[] = [];
    const late = {
      ...clock,
      schedule: (ms: number, callback: () => void) => clock.schedule(ms + lateMs, callback),
    };
    const watchdog = new Watchdog(late, 1_000, (silentMs) => silences.push(silentMs));
    watchdog.watch();
    return { clock, watchdog, silences };
  }

  it('reports silence once, when it has lasted for the timeout', () => {
    const { clock, silences } = watching();
    clock.advance(999);
    expect(silences).toEqual([]);
    clock.advance(10_000);
    expect(silences).toEqual([1_000]);
  });

  it('reports nothing if something is heard in time, or after it was cancelled', () => {
    const { clock, watchdog, silences } = watching();
    for (let i = 0; i < 5; i++) {
      clock.advance(900);
      watchdog.heard();
    }
    watchdog.cancel();
    clock.advance(10_000);
    expect(silences).toEqual([]);
  });

  it('forgives one late check, as this process may have stalled, but not the next', () => {
    const { clock, silences } = watching(1_000);
    clock.advance(1_250);
    expect(silences).toEqual([]);
    clock.advance(1_250);
    expect(silences).toEqual([1_250]);
  });
});

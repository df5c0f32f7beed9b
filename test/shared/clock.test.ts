import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { systemClock, type Clock } from '../../src/shared/clock.js';
import { createManualClock } from '../support/manual-clock.js';
import { VirtualProcess, VirtualTime } from '../support/virtual-clock.js';

interface Case {
  readonly clock: Clock;
  readonly advance: (ms: number) => Promise<void> | void;
}

const clocks: Record<string, () => Case> = {
  system: () => ({ clock: systemClock, advance: (ms) => void vi.advanceTimersByTime(ms) }),
  manual: () => {
    const clock = createManualClock(0);
    return { clock, advance: (ms) => clock.advance(ms) };
  },
  virtual: () => {
    const time = new VirtualTime();
    const { clock } = new VirtualProcess(time, { name: 'any' });
    return { clock, advance: (ms) => time.advance(ms) };
  },
};

describe.each(Object.entries(clocks))('Clock.schedule() of the %s clock', (_name, create) => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
  afterEach(() => void vi.useRealTimers());

  it.each([1, 1000, 2 ** 31 - 1, 2 ** 31, 3e9, 1e10])(
    'calls back after %d ms, once',
    async (ms) => {
      const { clock, advance } = create();
      const called = vi.fn();
      clock.schedule(ms, called);
      await advance(ms - 1);
      expect(called).not.toHaveBeenCalled();
      await advance(1);
      expect(called).toHaveBeenCalledOnce();
      await advance(1e10);
      expect(called).toHaveBeenCalledOnce();
    },
  );

  it('never calls back where the delay is Infinity', async () => {
    const { clock, advance } = create();
    const called = vi.fn();
    const timer = clock.schedule(Infinity, called);
    await advance(1e11);
    expect(called).not.toHaveBeenCalled();
    timer.cancel();
  });

  it('calls back at once for what is past already', async () => {
    const { clock, advance } = create();
    const called = vi.fn();
    clock.schedule(-5, called);
    await advance(1);
    expect(called).toHaveBeenCalledOnce();
  });

  it('can be cancelled in the second of its timers', async () => {
    const { clock, advance } = create();
    const called = vi.fn();
    const timer = clock.schedule(3e9, called);
    await advance(2.5e9);
    timer.cancel();
    await advance(1e9);
    expect(called).not.toHaveBeenCalled();
  });

  it('refuses NaN', () => {
    expect(() => create().clock.schedule(NaN, () => undefined)).toThrow(
      'Cannot schedule in NaN ms',
    );
  });
});

describe('Clock.yield() in a browser', () => {
  afterEach(() => {
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
    vi.resetModules();
  });

  it('lets others have their turn by a message, every other millisecond, and by no timer', async () => {
    // As in a browser, where each message is an event of its own.
    const afterEvents = setImmediate;
    let numTurns = 0;
    class Channel {
      readonly port1 = { onmessage: (): void => undefined };
      readonly port2 = { postMessage: () => void afterEvents(() => this.turn()) };
      turn() {
        numTurns += 1;
        this.port1.onmessage();
      }
    }
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => now);
    vi.stubGlobal('MessageChannel', Channel);
    vi.stubGlobal('setImmediate', undefined);
    vi.stubGlobal('setTimeout', () => expect.unreachable());
    vi.resetModules();
    const { systemClock: clock } = await import('../../src/shared/clock.js');
    const turnsAt = async (ms: number) => {
      now = ms;
      await clock.yield();
      return numTurns;
    };
    expect(await turnsAt(10)).toBe(1);
    expect(await turnsAt(11)).toBe(1);
    expect(await turnsAt(11.9)).toBe(1);
    expect(await turnsAt(12)).toBe(2);
    expect(await turnsAt(13)).toBe(2);
    expect(await turnsAt(500)).toBe(3);
  });
});

/**
 * Time as an argument. Programs pass `systemClock`; the simulator passes one whose hours take milliseconds.
 */

/** A pending callback of a `Clock`. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the Unix epoch; never goes back, has a fraction. */
  now(): number;
  /** Calls back once, `delayMs` from now, unless cancelled. */
  schedule(delayMs: number, callback: () => void): Timer;
  /** Resolves after whatever else is ready to run, such as received frames, has had its turn. */
  yield(): Promise<void>;
}

export const systemClock: Clock = {
  now: () => performance.timeOrigin + performance.now(),
  schedule(delayMs, callback) {
    const timeout = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timeout) };
  },
  yield: () => new Promise((resolve) => setImmediate(resolve)),
};

/**
 * Resolves `delayMs` from now, or at once when the signal aborts: callers look at the signal, nothing is thrown.
 */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const done = () => {
      timer.cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = clock.schedule(delayMs, done);
    signal?.addEventListener('abort', done, { once: true });
  });
}

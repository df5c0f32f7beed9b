/**
 * Time as an argument. Programs pass `systemClock`; the simulator passes one on which hours take milliseconds.
 */

/** A pending callback of a `Clock`. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the Unix epoch; never goes back, has a fraction. */
  now(): number;
  /**
   * Calls back once, `delayMs` from now, unless cancelled; at once where that is past, and never where it is
   * `Infinity`.
   *
   * @throws {RangeError} if it is NaN
   */
  schedule(delayMs: number, callback: () => void): Timer;
  /**
   * Resolves after whatever else is ready to run, such as received frames, has had its turn; at once where that was a
   * moment ago and is dear.
   */
  yield(): Promise<void>;
}

/** The longest delay that `setTimeout` takes, 24.8 days; it makes 1 ms of a longer one. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.timeOrigin + performance.now(),
  schedule(delayMs, callback) {
    let timeout: ReturnType<typeof setTimeout>;
    const wait = (leftMs: number) => {
      const nextMs = Math.min(leftMs, MAX_TIMEOUT_MS);
      timeout = setTimeout(() => (leftMs > nextMs ? wait(leftMs - nextMs) : callback()), nextMs);
    };
    wait(checkedDelay(delayMs));
    return { cancel: () => clearTimeout(timeout) };
  },
  yield: () => new Promise(afterOthers),
};

/** Calls back after what is ready to run. A browser has no `setImmediate`, and makes timers of a hidden tab wait. */
const afterOthers: (callback: () => void) => void =
  typeof setImmediate === 'undefined' ? messageToMyself() : setImmediate;

/** How often to yield, ms: a message to oneself costs a tenth of a micro-batch. */
const LET_IN_EVERY_MS = 2;

function messageToMyself(): (callback: () => void) => void {
  const { port1, port2 } = new MessageChannel();
  const callbacks: (() => void)[] = [];
  let letInAt = -Infinity;
  const turn = () => {
    letInAt = performance.now();
    callbacks.shift()?.();
  };
  // As a browser has it; Node's types know only its own way.
  Object.assign(port1, { onmessage: turn });
  return (callback) => {
    if (performance.now() - letInAt < LET_IN_EVERY_MS) {
      callback();
      return;
    }
    callbacks.push(callback);
    port2.postMessage(null);
  };
}

/** What every `Clock` makes of a delay: none is negative, and one that is no number is an error of the caller's. */
export function checkedDelay(delayMs: number): number {
  if (Number.isNaN(delayMs)) throw new RangeError('Cannot schedule in NaN ms');
  return Math.max(0, delayMs);
}

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

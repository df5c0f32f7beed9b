/** What ends a process: signals, as an AbortSignal, and the end of a local worker's parent. */
import { constants } from 'node:os';
import { performance } from 'node:perf_hooks';
import { isatty } from 'node:tty';

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** A terminal, npm and a supervisor each pass the same request on; what comes later is somebody's impatience, ms. */
const SAME_REQUEST_MS = 2_000;

let isLedByParent = false;

/**
 * Makes this process, which another one of ours started, end as soon as that one is gone, however it went, and leave
 * the signals to it: a terminal or a supervisor sends them to both. To be called before anything else is loaded.
 */
export function followParent(): void {
  isLedByParent = true;
  for (const signal of STOP_SIGNALS) process.on(signal, () => undefined);
  endWithParent();
}

/** The same, but for the signals, which this process heeds. */
export function endWithParent(): void {
  if (process.connected) process.once('disconnect', () => process.exit(0));
  else process.exit(0);
}

/** True in a worker that `lockstep train` started. */
export function isLocalWorker(): boolean {
  return isLedByParent;
}

/**
 * Aborts, with the name of the signal as its reason, when the process is asked to stop. Asked again later than two
 * seconds after, it ends at once.
 */
export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  if (isLedByParent) return controller.signal;
  // Asked now: a terminal that was closed is none. Node does not keep SIGHUP ignored under `nohup`, which leaves none.
  const hasTerminal = [0, 1, 2].some(isatty);
  let stoppedAt = Infinity;
  for (const signal of STOP_SIGNALS) {
    process.on(signal, () => {
      if (signal === 'SIGHUP' && !hasTerminal) return;
      const now = performance.now();
      if (now - stoppedAt > SAME_REQUEST_MS) process.exit(exitCodeOf(signal));
      if (controller.signal.aborted) return;
      stoppedAt = now;
      controller.abort(signal);
    });
  }
  return controller.signal;
}

/** Whether that is what `stopSignal` aborts with, and so what is thrown by what it stops. */
export function isStopSignal(reason: unknown): boolean {
  return STOP_SIGNALS.some((name) => name === reason);
}

/** 130, 143 or 129, as shells give them: of a process that stopped before it was done. */
export function exitCodeOf(reason: unknown): number {
  const signal = STOP_SIGNALS.find((name) => name === reason) ?? 'SIGTERM';
  return 128 + constants.signals[signal];
}

/**
 * The live status on a terminal: the lines of status.ts below the log, drawn anew in place, ten times a second at
 * most. Only for a terminal (`canShowStatus`); elsewhere the log's lines are all there is.
 */
import { systemClock, type Clock, type Timer } from '../../shared/clock.js';
import { hasColor, type ConsoleStream, type Logger } from '../../shared/node/log.js';
import type { Observer } from '../events.js';
import { createRunStatus, updateRunStatus } from './run-status.js';
import { renderStatus } from './status-lines.js';

/** A terminal as `process.stdout` describes it; it emits `resize`. */
export type TerminalStream = ConsoleStream & { readonly columns?: number; readonly rows?: number };

export interface TerminalStatus {
  readonly observe: Observer;
  /** Removes the status and gives the cursor back. */
  readonly close: () => void;
}

export interface TerminalStatusOptions {
  /** The log that writes to the same terminal. */
  readonly log: Logger;
  readonly stream: TerminalStream;
  readonly clock?: Clock;
}

const FRAME_MS = 100;
/** Without a frame after a window has changed its size: while it is dragged, it does so all the time. */
const SETTLE_MS = 250;

const HIDE_CURSOR = '\x1b[?25l';
const SHOW_CURSOR = '\x1b[?25h';
const ERASE_LINE_END = '\x1b[K';
const ERASE_BELOW = '\x1b[J';

/** True where a status can be drawn in place. */
export function canShowStatus(stream: TerminalStream): boolean {
  return stream.isTTY === true && process.env.TERM !== 'dumb';
}

/** Draws the status until `close`, or until the process ends. */
export function createTerminalStatus(options: TerminalStatusOptions): TerminalStatus {
  const { log, stream, clock = systemClock } = options;
  const status = createRunStatus();
  const inColor = hasColor(stream);
  /** The lines on the screen. */
  let drawn: string[] = [];
  let timer: Timer | null = null;
  let holdUntil = -Infinity;

  const render = () =>
    renderStatus(status, {
      // The last column stays free: a terminal that is there would wrap, each at another moment.
      columns: Math.max(1, (stream.columns ?? 80) - 1),
      rows: Math.max(1, (stream.rows ?? 24) - 1),
      hasColor: inColor,
      now: clock.now(),
    });
  /**
   * The cursor ends where it began, on the first line, which is empty: whatever a window that changes its width makes
   * of the lines below, the next frame begins in the right place.
   */
  const draw = () => {
    if (clock.now() < holdUntil) return '';
    drawn = render();
    const up = drawn.length > 1 ? `\x1b[${drawn.length - 1}A` : '';
    return `${drawn.join(`${ERASE_LINE_END}\n`)}${ERASE_LINE_END}${ERASE_BELOW}${up}\r`;
  };
  const erase = () => {
    drawn = [];
    return `\r${ERASE_BELOW}`;
  };
  const onResize = () => {
    holdUntil = clock.now() + SETTLE_MS;
    stream.write(erase());
  };

  const tick = () => {
    timer = clock.schedule(FRAME_MS, tick);
    // A terminal that is behind (a slow line) gets the next frame when it has taken this one.
    if (stream.writableLength > 0 || clock.now() < holdUntil) return;
    const next = render();
    if (next.length !== drawn.length || next.some((line, index) => line !== drawn[index])) {
      stream.write(draw());
    }
  };

  const close = () => {
    if (timer === null) return;
    timer.cancel();
    timer = null;
    stream.off('resize', onResize);
    stopWatching();
    log.setStatus(null);
    stream.write(SHOW_CURSOR);
  };
  const stopWatching = whenProcessEnds(close);
  stream.write(HIDE_CURSOR);
  stream.on('resize', onResize);
  log.setStatus({ erase, draw });
  timer = clock.schedule(FRAME_MS, tick);
  return { observe: (event) => updateRunStatus(status, event), close };
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Calls back before the process exits, or dies of a signal that nobody else handles.
 *
 * @returns what ends the watch
 */
function whenProcessEnds(callback: () => void): () => void {
  const onSignal = (signal: NodeJS.Signals) => {
    if (process.listenerCount(signal) > 1) return;
    callback();
    process.kill(process.pid, signal);
  };
  process.on('exit', callback);
  for (const signal of SIGNALS) process.on(signal, onSignal);
  return () => {
    process.off('exit', callback);
    for (const signal of SIGNALS) process.off(signal, onSignal);
  };
}

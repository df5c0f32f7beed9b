/**
 * A log whose console lines a test can read, without their times.
 */
import { Writable } from 'node:stream';
import { createLog, type LogOptions, type Logger } from '../../src/shared/node/log.js';

export interface CapturedLog {
  readonly log: Logger;
  /** All that was written, as it was. */
  readonly text: () => string;
  /** The lines, each without the time at its front. */
  readonly lines: () => string[];
}

export function captureLog(
  options: Partial<Omit<LogOptions, 'stream'>> = {},
  terminal: { readonly isTTY?: boolean } = {},
): CapturedLog {
  let text = '';
  const stream = Object.assign(
    new Writable({
      decodeStrings: false,
      write(chunk: string, _encoding, done) {
        text += chunk;
        done();
      },
    }),
    terminal,
  );
  return {
    log: createLog({ level: 'info', ...options, stream }),
    text: () => text,
    lines: () =>
      text
        .split('\n')
        .slice(0, -1)
        .map((line) => line.replace(/^\d\d:\d\d:\d\d /, '')),
  };
}

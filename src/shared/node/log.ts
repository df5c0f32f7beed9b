/**
 * The log: text lines on the console, JSON lines in a file. The only file that imports winston.
 *
 * Both get the same messages; the fields of a message go to the file alone. A live status (coordinator/observers/
 * terminal-status.ts) can stay below the lines: they scroll above it.
 */
import { Writable } from 'node:stream';
import winston from 'winston';
import { createAppendFile } from './append-file.js';
import { printable } from '../printable.js';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

/** What a message is about, for programs that read the file. Errors stand there with their stack. */
type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  /** Hangs a status below the lines, or takes it away (null) without a trace. */
  setStatus(status: LogStatus | null): void;
  /** Resolves when all lines so far are out of our hands. */
  flush(): Promise<void>;
  /** Takes the status away, flushes, and closes the file. Does not reject. */
  close(): Promise<void>;
}

/** Something that stands below the last line of the console, and is drawn anew after each line. */
interface LogStatus {
  /** What removes it from the screen and leaves the cursor where the next line is to begin; empty if not drawn. */
  erase(): string;
  /** What draws it from there. */
  draw(): string;
}

/** Where console lines go: `process.stdout`, `process.stderr`, or a stream of a test. */
export type ConsoleStream = Writable & { readonly isTTY?: boolean };

export interface LogOptions {
  /** Messages above this level go nowhere. */
  readonly level: LogLevel;
  /** JSON lines are added to this file. */
  readonly file?: string;
  /** Only warnings and errors on the console; the file gets all. */
  readonly quiet?: boolean;
  /** By default `process.stdout`. */
  readonly stream?: ConsoleStream;
}

export function createLog(options: LogOptions): Logger {
  const { level, quiet = false, stream = process.stdout } = options;
  let status: LogStatus | null = null;
  const styles = hasColor(stream) ? STYLES : PLAIN;

  const show = (info: winston.Logform.TransformableInfo) => {
    const line = consoleLine(info, styles);
    stream.write(`${status?.erase() ?? ''}${line}\n${status?.draw() ?? ''}`);
  };
  // The reader of a pipe may go away (`| head`): the run goes on, and the file still gets everything.
  const ignore = () => undefined;
  stream.on('error', ignore);

  const file =
    options.file === undefined
      ? null
      : createAppendFile(options.file, { warn: (message) => logger.warn(message) });

  const transports = [
    new winston.transports.Stream({ stream: sink(show), level: quiet ? 'warn' : level }),
  ];
  if (file !== null) {
    const keep = (info: winston.Logform.TransformableInfo) => file.append(fileLine(info));
    transports.push(new winston.transports.Stream({ stream: sink(keep), level }));
  }
  const logger = winston.createLogger({
    level,
    // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- winston types it as no class
    transports,
    levels: { error: 0, warn: 1, info: 2, debug: 3 },
  });

  const setStatus = (next: LogStatus | null) => {
    const erased = status?.erase() ?? '';
    status = next;
    stream.write(erased + (next?.draw() ?? ''));
  };
  const flush = async () => {
    await new Promise<void>((resolve) => {
      stream.write('', () => resolve());
    });
    await file?.flush();
  };
  return {
    error: (message, fields) => void logger.error(message, { fields }),
    warn: (message, fields) => void logger.warn(message, { fields }),
    info: (message, fields) => void logger.info(message, { fields }),
    debug: (message, fields) => void logger.debug(message, { fields }),
    setStatus,
    flush,
    async close() {
      setStatus(null);
      await flush();
      logger.close();
      await file?.close();
      stream.off('error', ignore);
    },
  };
}

/** True where colours are seen and wanted; https://no-color.org */
export function hasColor(stream: ConsoleStream): boolean {
  return stream.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
}

interface Styles {
  readonly time: (text: string) => string;
  readonly level: Readonly<Record<string, (text: string) => string>>;
}
const style = (code: number) => (text: string) => `\x1b[${code}m${text}\x1b[0m`;
const STYLES: Styles = {
  time: style(2),
  level: { error: style(31), warn: style(33), debug: style(2) },
};
const PLAIN: Styles = { time: (text) => text, level: {} };

/** `03:41:02 warn: message`, in local time. */
function consoleLine(info: winston.Logform.TransformableInfo, styles: Styles): string {
  const { level, message } = info;
  const time = styles.time(new Date().toTimeString().slice(0, 8));
  const text = printable(String(message));
  if (level === 'info') return `${time} ${text}`;
  const colored = styles.level[level] ?? ((plain: string) => plain);
  return `${time} ${colored(`${level}: ${text}`)}`;
}

function fileLine(info: winston.Logform.TransformableInfo): string {
  const { level, message, fields } = info as typeof info & { fields?: LogFields };
  return `${JSON.stringify({ time: new Date(), level, message, ...fields }, withErrors)}\n`;
}

function withErrors(_key: string, value: unknown): unknown {
  return value instanceof Error ? (value.stack ?? value.message) : value;
}

/** A stream of winston's infos that hands each on at once. */
function sink(take: (info: winston.Logform.TransformableInfo) => void): Writable {
  return new Writable({
    objectMode: true,
    write(info: winston.Logform.TransformableInfo, _encoding, done) {
      take(info);
      done();
    },
  });
}

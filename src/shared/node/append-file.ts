/**
 * A file that grows by whole records, for callers that must not wait: `append` only queues, and writing happens in the
 * background. A full disk costs only records, which are counted, and one warning.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { messageOf } from '../errors.js';
import { makeFolders } from './folders.js';

export interface AppendFile {
  readonly path: string;
  /** Queues a record. Bytes must not change until they are written. */
  append(record: string | Uint8Array): void;
  /** Resolves when everything appended so far is with the operating system, or could not be written. */
  flush(): Promise<void>;
  /** Flushes, then closes; records appended later are lost. Does not reject. */
  close(): Promise<void>;
  /** Records lost because the disk did not take them. */
  readonly numDropped: number;
  /** Of the records that this object has written, whole: they do not change any more. */
  readonly numBytes: number;
}

export interface AppendFileOptions {
  /** Told once when writing begins to fail, and once when it works again. */
  readonly warn: (message: string) => void;
  /** Replaces what stands in the file; by default records are added at its end. */
  readonly truncate?: boolean;
  /** How long a record may wait for others to be written with it. */
  readonly delayMs?: number;
  /** Records that would wait beyond this are dropped. */
  readonly maxBufferedBytes?: number;
}

/** Between attempts while writing fails. */
const RETRY_MS = 1000;

/** The file is opened, and made with its folder if it is not there, with the first write. */
export function createAppendFile(path: string, options: AppendFileOptions): AppendFile {
  const { warn, delayMs = 200, maxBufferedBytes = 8 * 1024 * 1024 } = options;
  let queue: Uint8Array[] = [];
  let queuedBytes = 0;
  let numQueued = 0;
  let handle: FileHandle | null = null;
  let timer: NodeJS.Timeout | null = null;
  let writing: Promise<void> | null = null;
  let isFailing = false;
  let isClosed = false;
  let numDropped = 0;
  let numDroppedBefore = 0;
  let writtenBytes = 0;
  let numBytes = 0;

  const append = (record: string | Uint8Array) => {
    const bytes = typeof record === 'string' ? Buffer.from(record) : record;
    if (isClosed || queuedBytes + bytes.length > maxBufferedBytes) {
      numDropped++;
      return;
    }
    queue.push(bytes);
    queuedBytes += bytes.length;
    numQueued++;
    if (timer === null && writing === null) wake(isFailing ? RETRY_MS : delayMs);
  };

  const wake = (afterMs: number) => {
    timer = setTimeout(() => void write(), afterMs);
    // Callers that need the records close the file; a forgotten one must not keep the process alive.
    timer.unref();
  };

  /** Writes what is queued; one call at a time works, the others wait for it. */
  const write = (): Promise<void> => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    writing ??= writeQueue().finally(() => {
      writing = null;
      if (queue.length > 0 && !isClosed) wake(isFailing ? RETRY_MS : delayMs);
    });
    return writing;
  };

  const writeQueue = async () => {
    if (queue.length === 0) return;
    // One write for all: a record is cut only where the disk itself cuts it, and what is left goes in the next one.
    let bytes = Buffer.concat(queue);
    const numWriting = numQueued;
    queue = [];
    try {
      if (handle === null) {
        await makeFolders(dirname(path));
        handle = await open(path, options.truncate ? 'w' : 'a');
      }
      while (bytes.length > 0) {
        const { bytesWritten } = await handle.write(bytes);
        bytes = bytes.subarray(bytesWritten);
        queuedBytes -= bytesWritten;
        writtenBytes += bytesWritten;
      }
      numQueued -= numWriting;
      numBytes = writtenBytes;
      if (isFailing) {
        warn(`Writing to ${path} works again; ${numDropped - numDroppedBefore} records were lost`);
      }
      isFailing = false;
    } catch (error) {
      queue.unshift(bytes);
      if (!isFailing) {
        numDroppedBefore = numDropped;
        warn(
          `Cannot write to ${path}: ${messageOf(error)}; training continues, and writing is retried`,
        );
      }
      isFailing = true;
    }
  };

  const flush = async () => {
    // What is being written now was queued before some of the records that are waiting.
    if (writing !== null) await writing;
    await write();
  };

  return {
    path,
    append,
    flush,
    async close() {
      if (isClosed) return;
      await flush();
      isClosed = true;
      if (timer !== null) clearTimeout(timer);
      numDropped += numQueued;
      await handle?.close().catch(() => undefined);
    },
    get numDropped() {
      return numDropped;
    },
    get numBytes() {
      return numBytes;
    },
  };
}

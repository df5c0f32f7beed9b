/**
 * Untrusted files. No memory is allocated for a size declared in or for a file before it has been compared with a limit: files are
 * read piece by piece, or whole up to a length.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';

/** A file that is open for reading. */
export interface InputFile {
  /** Bytes that it had when it was opened. */
  readonly size: number;
  /** @returns a fresh array of as many bytes  @throws {Error} if the file has not so many from there on */
  read(at: number, numBytes: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** What is read of a file of lines at a time, bytes. */
const CHUNK_BYTES = 2 ** 20;
/** What the system is asked for at a time, bytes: it does not give 2 GiB. */
const MAX_READ_BYTES = 2 ** 30;
/** Opening a pipe without a writer would block forever; Windows has no such pipes. */
const READ_ONLY = constants.O_RDONLY | ((constants.O_NONBLOCK as number | undefined) ?? 0);

/** @throws {Error} if there is no such file, or it is a folder, a pipe or a device */
export async function openInput(path: string): Promise<InputFile> {
  const file = await open(path, READ_ONLY);
  try {
    const info = await file.stat();
    if (!info.isFile()) throw new Error('it is not a regular file');
    const { size } = info;
    return {
      size,
      read: (at, numBytes) => readAt(file, size, at, numBytes),
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Does something with an open file, and closes it. */
export async function withInput<T>(path: string, use: (file: InputFile) => Promise<T>): Promise<T> {
  const file = await openInput(path);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

/** All of a file. @throws {Error} if it is none, or has more bytes, which are not read then */
export function readInput(path: string, maxBytes: number): Promise<Uint8Array> {
  return withInput(path, (file) => {
    if (file.size > maxBytes) throw new Error(`it has more than ${maxBytes} bytes`);
    return file.read(0, file.size);
  });
}

/** As `readInput`, of text in UTF-8. */
export async function readInputText(path: string, maxBytes: number): Promise<string> {
  return new TextDecoder().decode(await readInput(path, maxBytes));
}

/**
 * The text of a short file that a user names, which may be a pipe, as `<(pass show token)` is one.
 *
 * @throws {Error} if it cannot be read, or has more bytes
 */
export function readShortText(path: string, maxBytes: number): string {
  const bytes = Buffer.alloc(maxBytes + 1);
  let numBytes = 0;
  const file = openSync(path, 'r');
  try {
    for (let got = -1; got !== 0 && numBytes < bytes.length; numBytes += got) {
      got = readSync(file, bytes, numBytes, bytes.length - numBytes, null);
    }
  } finally {
    closeSync(file);
  }
  if (numBytes > maxBytes) throw new Error(`it has more than ${maxBytes} bytes`);
  // Without the mark that some editors put before it.
  return new TextDecoder().decode(bytes.subarray(0, numBytes));
}

/**
 * The lines of a file, each with the newline that it ends in; the last may have none. In place of a longer one there is
 * null.
 */
export async function* linesOf(path: string, maxLineBytes: number): AsyncGenerator<Buffer | null> {
  const file = await openInput(path);
  try {
    let begun: Buffer[] = [];
    let numBegun = 0;
    const take = (piece: Buffer) => {
      numBegun += piece.length;
      if (numBegun > maxLineBytes) begun = [];
      else begun.push(piece);
    };
    const line = () => {
      const whole = numBegun > maxLineBytes ? null : Buffer.concat(begun);
      [begun, numBegun] = [[], 0];
      return whole;
    };
    for (let at = 0; at < file.size; at += CHUNK_BYTES) {
      const bytes = await file.read(at, Math.min(CHUNK_BYTES, file.size - at));
      const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      let from = 0;
      for (let end; (end = chunk.indexOf(10, from)) >= 0; from = end + 1) {
        take(chunk.subarray(from, end + 1));
        yield line();
      }
      take(chunk.subarray(from));
    }
    if (numBegun > 0) yield line();
  } finally {
    await file.close();
  }
}

async function readAt(
  file: FileHandle,
  size: number,
  at: number,
  numBytes: number,
): Promise<Uint8Array> {
  if (at + numBytes > size) throw new Error('it is truncated');
  const bytes = new Uint8Array(numBytes);
  for (let got = 0; got < numBytes;) {
    const wanted = Math.min(numBytes - got, MAX_READ_BYTES);
    const { bytesRead } = await file.read(bytes, got, wanted, at + got);
    if (bytesRead === 0) throw new Error('it has changed while it was read');
    got += bytesRead;
  }
  return bytes;
}

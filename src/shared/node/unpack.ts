/** Unpacks untrusted data: a file of a kilobyte can unpack to a gigabyte. */
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { InputFile } from './input-file.js';

/** What anything may unpack to, however small it is, bytes. */
const FREE_BYTES = 2 ** 26;
/** Beyond that, as a multiple of the packed size: images compress to a tenth, MNIST's blank margins to a fifth. */
const MAX_RATIO = 200;
const CHUNK_BYTES = 2 ** 16;

/** How many bytes something packed may be said to have unpacked. @throws {Error} if that is out of proportion */
export function checkRatio(packedBytes: number, unpackedBytes: number): void {
  if (unpackedBytes <= Math.max(FREE_BYTES, MAX_RATIO * packedBytes)) return;
  throw new Error(
    `it unpacks ${packedBytes} bytes to ${unpackedBytes}, more than ${MAX_RATIO} times as many`,
  );
}

/**
 * A gzip file unpacked: as many bytes as its content promises.
 *
 * @param numHead bytes of the content, or fewer where it has not so many, that tell how many there are
 * @param promised what they tell; throws what is wrong with them
 * @throws {Error} if it is damaged, or has more than it promises
 */
export async function gunzipFile(
  file: InputFile,
  numHead: number,
  promised: (head: Uint8Array) => number,
): Promise<Uint8Array> {
  let head: Uint8Array = new Uint8Array(0);
  // Zeros, which become memory as they are written to.
  let content: Uint8Array | null = null;
  let numBytes = 0;
  const packed = Readable.from(chunksOf(file));
  const unpacked = createGunzip();
  packed.once('error', (error) => unpacked.destroy(error)).pipe(unpacked);
  try {
    for await (let piece of unpacked as AsyncIterable<Uint8Array>) {
      if (content === null) {
        head = Buffer.concat([head, piece]);
        if (head.length < numHead) continue;
        const wanted = promised(head);
        checkRatio(file.size, wanted);
        [content, piece] = [new Uint8Array(wanted), head];
      }
      if (numBytes + piece.length > content.length) {
        throw new Error(`it has more than the ${content.length} bytes that its header promises`);
      }
      content.set(piece, numBytes);
      numBytes += piece.length;
    }
  } finally {
    packed.destroy();
    unpacked.destroy();
  }
  return content === null ? head : content.subarray(0, numBytes);
}

async function* chunksOf(file: InputFile): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < file.size; at += CHUNK_BYTES) {
    yield await file.read(at, Math.min(CHUNK_BYTES, file.size - at));
  }
}

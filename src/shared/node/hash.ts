/** Hashes of more bytes than Node takes at once. */
import type { Hash } from 'node:crypto';

/** Node refuses 2³¹. */
const PIECE_BYTES = 2 ** 30;

/** The same as `hash.update(bytes)`, of any length. */
export function updateInPieces(hash: Hash, bytes: Uint8Array, pieceBytes = PIECE_BYTES): void {
  for (let from = 0; from < bytes.length; from += pieceBytes) {
    hash.update(bytes.subarray(from, from + pieceBytes));
  }
}

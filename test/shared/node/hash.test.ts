import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { updateInPieces } from '../../../src/shared/node/hash.js';

it.each([0, 1, 7, 8, 9, 24])('hashes %i bytes in pieces of eight as at once', (numBytes) => {
  const bytes = Uint8Array.from({ length: numBytes }, (_, i) => i);
  const hash = createHash('sha256');
  updateInPieces(hash, bytes, 8);
  expect(hash.digest('hex')).toBe(createHash('sha256').update(bytes).digest('hex'));
});

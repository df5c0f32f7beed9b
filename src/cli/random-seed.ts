import { randomBytes } from 'node:crypto';

/** A seed that nobody can guess: 48 bits. */
export function randomSeed(): number {
  return randomBytes(6).readUIntLE(0, 6);
}

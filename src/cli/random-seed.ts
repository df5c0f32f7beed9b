import { randomBytes } from 'node:crypto';

/** An unpredictable seed of 48 bits. */
export function randomSeed(): number {
  return randomBytes(6).readUIntLE(0, 6);
}

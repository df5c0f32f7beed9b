/**
 * Workers' identities: a peer is the worker with a given id if and only if it has the secret of that id.
 *
 * The secret is a keyed hash of the id, so that a worker can be recognized without storing anything about it. The key belongs
 * to the run, never leaves the coordinator and its run directory, and is kept when the run is resumed.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

export class Identity {
  private readonly key: Uint8Array;

  /** @param key of the run, 32 random bytes */
  constructor(key: Uint8Array) {
    this.key = key;
  }

  /** @returns 64 hexadecimal digits */
  secretOf(workerId: string): string {
    return this.hash(workerId).toString('hex');
  }

  /** Whether the secret is that of the id, in constant time. */
  isOwner(workerId: string, secret: string): boolean {
    // Both are hashed because timingSafeEqual requires equal lengths.
    const [given, wanted] = [secret, this.secretOf(workerId)].map((text) => this.hash(text));
    return timingSafeEqual(given, wanted);
  }

  private hash(text: string): Buffer {
    return createHmac('sha256', this.key).update(text).digest();
  }
}

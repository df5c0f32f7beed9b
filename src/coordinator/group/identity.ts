/**
 * The identity of workers: a peer is the worker with a given id if and only if it has the secret of that id.
 *
 * The secret is a keyed hash of the id, so that a worker can be recognized without storing anything about it. The key belongs
 * to the run, never leaves the coordinator and its run directory, and is kept when the run is resumed.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

export class Identity {
  private readonly key: Uint8Array;

  /** @param key the run's, 32 random bytes */
  constructor(key: Uint8Array) {
    this.key = key;
  }

  /** The secret of an id, 64 hexadecimal digits. */
  secretOf(workerId: string): string {
    return this.hash(workerId).toString('hex');
  }

  /** Whether the secret is that of the id; takes as long for a wrong one. */
  isOwner(workerId: string, secret: string): boolean {
    // A hash of both, as lengths may differ.
    const [given, wanted] = [secret, this.secretOf(workerId)].map((text) => this.hash(text));
    return timingSafeEqual(given, wanted);
  }

  private hash(text: string): Buffer {
    return createHmac('sha256', this.key).update(text).digest();
  }
}

/**
 * An id belongs to its secret: who shows the secret of a worker's id is that worker, and nobody else is.
 *
 * The secret is a keyed hash of the id, so that nothing needs to be remembered of a worker to know it again. The key
 * is the run's, never leaves the coordinator and its run directory, and is kept when the run is resumed.
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

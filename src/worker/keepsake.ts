/** What a worker keeps beyond its process, so that it can return with the same identity and samples. */
import type { Message } from '../shared/protocol.js';
import type { SampleCache } from './sample-cache.js';

/** By which the coordinator recognizes a returning worker. */
export interface Identity {
  readonly workerId: string;
  readonly secret: string;
}

export interface Keepsake {
  /** From the last welcome. */
  readonly identity: Identity | null;
  /** The samples of earlier processes. */
  readonly samples: SampleCache | null;
  /** Called after each welcome; the cache is either new and empty, or the existing one. */
  keepWelcome(identity: Identity, samples: SampleCache): void;
  /** Called after samples have been stored in the cache. Must not throw. */
  keepSamples(message: Message<'samples'>): void;
}

/** What a worker keeps beyond its process, so that it returns with the same identity and samples. */
import type { Message } from '../shared/protocol.js';
import type { SampleCache } from './sample-cache.js';

/** By which the coordinator knows a worker again. */
export interface Identity {
  readonly workerId: string;
  readonly secret: string;
}

export interface Keepsake {
  /** As the last welcome gave it. */
  readonly identity: Identity | null;
  /** The samples of earlier processes. */
  readonly samples: SampleCache | null;
  /** Called with each welcome; the cache is empty, or the one that was there. */
  keepWelcome(identity: Identity, samples: SampleCache): void;
  /** Called with samples that have been stored in the cache. Must not throw. */
  keepSamples(message: Message<'samples'>): void;
}

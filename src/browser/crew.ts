/** The threads of this page, each a separately named worker of the run, and the sum of what they report. */
import type { Identity } from '../worker/keepsake.js';
import { WINDOW_MS, momentsWithin, sumOf, type Core, type Sum } from './cores.js';
import type { FromThread, ToThread } from './messages.js';

/** Samples stored at most, by all threads together; MNIST has 55 MB. */
const MAX_STORED_BYTES = 256e6;

export interface CrewOptions {
  readonly url: string;
  readonly token: string | null;
  readonly kernels: WebAssembly.Module;
  readonly name: string;
  readonly host: string;
  readonly maxMemoryBytes: number;
  /** One for each core; null where there is none from before. */
  readonly identities: readonly (Identity | null)[];
  readonly createThread: () => Worker;
  readonly changed: () => void;
  /** An identity to keep, of the core with that place. */
  readonly remember: (place: number, identity: Identity) => void;
}

export class Crew {
  readonly cores: readonly Core[];
  private readonly threads: Worker[];
  private readonly options: CrewOptions;

  constructor(options: CrewOptions) {
    const { identities, name, createThread, url, token, kernels, host, maxMemoryBytes } = options;
    this.options = options;
    this.cores = identities.map((_, place) => ({
      name: identities.length > 1 ? `${name} ${place + 1}` : name,
      moments: [],
      trouble: 'joining',
      outcome: null,
    }));
    this.threads = this.cores.map((core, place) => {
      const thread = createThread();
      thread.onmessage = ({ data }: MessageEvent<FromThread>) => this.heard(core, place, data);
      // A script that cannot be loaded, or an error that nobody expected.
      thread.onerror = (event) => {
        const reason = event.message || 'its script cannot be loaded';
        this.heard(core, place, { type: 'ended', outcome: { outcome: 'unable', reason } });
      };
      this.tell(thread, {
        ...{ type: 'join', url, token, kernels, host, name: core.name },
        maxMemoryBytes: maxMemoryBytes / identities.length,
        maxStoredBytes: MAX_STORED_BYTES / identities.length,
        identity: identities[place],
        isHidden: document.hidden,
      });
      return thread;
    });
  }

  get isOver(): boolean {
    return this.cores.every(({ outcome }) => outcome !== null);
  }

  see(isHidden: boolean): void {
    for (const thread of this.threads) this.tell(thread, { type: 'visibility', isHidden });
  }

  leave(): void {
    for (const thread of this.threads) this.tell(thread, { type: 'leave' });
  }

  sum(): Sum {
    return sumOf(this.cores);
  }

  private heard(core: Core, place: number, message: FromThread): void {
    switch (message.type) {
      case 'identity':
        this.options.remember(place, message.identity);
        return;
      case 'progress': {
        const { progress, sentAt } = message;
        // A coordinator that went on from a checkpoint counts from there.
        const isOfBefore = (core.moments.at(-1)?.progress.numImages ?? 0) > progress.numImages;
        const moments = isOfBefore ? [] : core.moments;
        core.moments = [...momentsWithin(moments, sentAt - WINDOW_MS), message];
        core.trouble = '';
        break;
      }
      case 'said':
        core.trouble = message.message.startsWith('Joined') ? '' : message.message;
        break;
      case 'ended':
        core.outcome ??= message.outcome;
        core.trouble = '';
        this.threads[place].terminate();
        break;
    }
    this.options.changed();
  }

  private tell(thread: Worker, message: ToThread): void {
    thread.postMessage(message);
  }
}

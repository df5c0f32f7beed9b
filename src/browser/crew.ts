/** The threads of this page, each a separately named worker of the run, and the sum of what they report. */
import type { RunProgress } from '../shared/protocol.js';
import type { Identity } from '../worker/keepsake.js';
import type { WorkerOutcome } from '../worker/worker.js';
import type { FromThread, ToThread } from './messages.js';

/** Speed and share are those of so long, by the coordinator's clock, ms. */
const WINDOW_MS = 5_000;

interface Moment {
  readonly progress: RunProgress;
  readonly sentAt: number;
}

/** One thread. */
export interface Core {
  readonly name: string;
  /** Of the last seconds, oldest first. */
  moments: Moment[];
  /** What it said last that is not settled: why it is without a coordinator. */
  trouble: string;
  outcome: WorkerOutcome | null;
}

export interface Sum {
  readonly numImages: number;
  /** Of the last seconds; null before there are any. */
  readonly pace: { readonly share: number; readonly imagesPerSecond: number } | null;
  /** The latest of all threads; null before the first. */
  readonly run: RunProgress | null;
}

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
    let numImages = 0;
    let share = 0;
    let imagesPerSecond = 0;
    let hasPace = false;
    let last: Moment | null = null;
    for (const { moments } of this.cores) {
      const [first] = moments;
      const now = moments.at(-1);
      if (!now) continue;
      if (!last || now.sentAt > last.sentAt) last = now;
      numImages += now.progress.numImages;
      const done = now.progress.numImages - first.progress.numImages;
      const ofAll = now.progress.numImagesOfAll - first.progress.numImagesOfAll;
      if (ofAll > 0) share += done / ofAll;
      if (now.sentAt <= first.sentAt) continue;
      hasPace = true;
      imagesPerSecond += (1000 * done) / (now.sentAt - first.sentAt);
    }
    const pace = hasPace ? { share, imagesPerSecond } : null;
    return { numImages, pace, run: last?.progress ?? null };
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
        core.moments = [...moments.filter((of) => of.sentAt > sentAt - WINDOW_MS), message];
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

/** The messages between the page and its threads. */
import type { RunProgress } from '../shared/protocol.js';
import type { Identity } from '../worker/keepsake.js';
import type { WorkerOutcome } from '../worker/worker.js';

export type ToThread =
  | {
      readonly type: 'join';
      readonly url: string;
      readonly token: string | null;
      readonly kernels: WebAssembly.Module;
      readonly name: string;
      readonly host: string;
      readonly maxMemoryBytes: number;
      /** Of samples, in the browser's storage. */
      readonly maxStoredBytes: number;
      /** From before the page was loaded again. */
      readonly identity: Identity | null;
      readonly isHidden: boolean;
    }
  | { readonly type: 'visibility'; readonly isHidden: boolean }
  | { readonly type: 'leave' };

export type FromThread =
  | { readonly type: 'identity'; readonly identity: Identity }
  | { readonly type: 'progress'; readonly progress: RunProgress; readonly sentAt: number }
  /** What the worker says of its connection, for people. */
  | { readonly type: 'said'; readonly level: 'info' | 'warn'; readonly message: string }
  | { readonly type: 'ended'; readonly outcome: WorkerOutcome };

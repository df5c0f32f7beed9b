/**
 * A thread of a computation other than the event-loop thread: sleeps until there is work, and does its part. It may block,
 * since nothing else runs on it.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { ProtocolError, messageOf } from '../../shared/errors.js';
import { SampleCache, type SampleMemory } from '../sample-cache.js';
import { Leaves } from './leaves.js';
import { CONTROL, type SharedState } from './shared-state.js';

/** What the main thread is told: that it is to look at the shared state, or what went wrong. */
export type ThreadMessage =
  { readonly look: true } | { readonly failed: string; readonly isProtocolError: boolean };

export interface ThreadStart {
  readonly state: SharedState;
  readonly thread: number;
}

interface Received {
  readonly message: SampleMemory;
}

const { state, thread } = workerData as ThreadStart;
const { control } = state;
const port = parentPort!;
const tell = (message: ThreadMessage) => port.postMessage(message);
/** Wakes the main thread, if it sleeps. */
const wake = () => {
  if (Atomics.exchange(control, CONTROL.isMainAsleep, 0) === 1) tell({ look: true });
};
const isWanted = () => Atomics.load(control, CONTROL.isAborted) === 0;
const leaves = new Leaves(state, thread, wake);
let samplesSeen = 0;

for (let call = 0; ;) {
  Atomics.sub(control, CONTROL.numBusy, 1);
  wake();
  Atomics.wait(control, CONTROL.call, call);
  call = Atomics.load(control, CONTROL.call);
  try {
    takeSamples();
    await leaves.work(isWanted);
  } catch (error) {
    tell({ failed: messageOf(error), isProtocolError: error instanceof ProtocolError });
    Atomics.store(control, CONTROL.hasFailed, 1);
    Atomics.store(control, CONTROL.isAborted, 1);
  }
}

function takeSamples(): void {
  if (samplesSeen === control[CONTROL.samples]) return;
  // Of several, sent for work that was superseded before it began, the last counts.
  for (let received; (received = receiveMessageOnPort(port) as Received | undefined);) {
    leaves.samples = new SampleCache(received.message);
  }
  samplesSeen = control[CONTROL.samples];
}

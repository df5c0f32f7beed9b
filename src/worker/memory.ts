/** What of a worker outlives its connections: who it is, the samples it has, and what it computes with. */
import type { Model } from '../model/lenet.js';
import type { Regularizer } from '../model/regularizer.js';
import type { Message } from '../shared/protocol.js';
import type { Computation, CreateComputation } from './computation.js';
import type { Identity, Keepsake } from './keepsake.js';
import type { SampleCache } from './sample-cache.js';

export class Memory {
  /** From the last welcome; by them the coordinator knows the worker again. */
  identity: Identity | null;
  samples: SampleCache | null;
  computation: Computation | null = null;
  /** Join lines of others that serve the run, from the welcome of the address that the worker was given. */
  alternates: readonly string[] = [];
  /** Settles when the computation has nothing to do any more for the connections so far; never rejects. */
  idle: Promise<void> = Promise.resolve();

  constructor(keepsake?: Keepsake) {
    this.identity = keepsake?.identity ?? null;
    this.samples = keepsake?.samples ?? null;
  }

  /** Does something with the computation once it is free: a call for an earlier connection may be under way. */
  queue(work: () => Promise<void>, failed: (error: unknown) => void): void {
    this.idle = this.idle.then(work).catch(failed);
  }

  /** The computation for that run: the one there is, where it will do, else a new one in its place. */
  async computationFor(
    model: Model,
    regularizer: Regularizer,
    welcome: Message<'welcome'>,
    create: CreateComputation,
  ): Promise<Computation> {
    const before = this.computation;
    const { regularization } = regularizer;
    if (
      before &&
      isSame(before.model, model) &&
      isSame(before.regularizer.regularization, regularization) &&
      before.isFor?.(welcome) !== false
    ) {
      return before;
    }
    this.computation = null;
    await before?.dispose();
    return (this.computation = await create(model, regularizer, welcome));
  }

  /** Lets go of a computation that failed, such as one whose GPU is lost: the next connection gets a new one. */
  async forget(computation: Computation): Promise<void> {
    if (this.computation === computation) this.computation = null;
    await computation.dispose();
  }
}

function isSame(a: object, b: object): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** The part of a worker that outlives its connections: its identity, its samples and its computation. */
import type { Model } from '../model/lenet.js';
import type { Regularizer } from '../model/regularizer.js';
import type { Message } from '../shared/protocol.js';
import type { Computation, CreateComputation } from './computation.js';
import type { Identity, Keepsake } from './keepsake.js';
import type { SampleCache } from './sample-cache.js';

export class Memory {
  /** From the last welcome. */
  identity: Identity | null;
  samples: SampleCache | null;
  computation: Computation | null = null;
  /** Join lines of alternate servers, from the welcome of the server that the worker was started with. */
  alternates: readonly string[] = [];
  /** Settles once all work queued so far is done; never rejects. */
  idle: Promise<void> = Promise.resolve();
  private isClosed = false;

  constructor(keepsake?: Keepsake) {
    this.identity = keepsake?.identity ?? null;
    this.samples = keepsake?.samples ?? null;
  }

  /** Runs `work` once the computation is free: a call for an earlier connection may still be running. */
  queue(work: () => Promise<void>, failed: (error: unknown) => void): void {
    this.idle = this.idle.then(work).catch(failed);
  }

  /** The computation for a run: the existing one if it fits, else a new one that replaces it. */
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
    const created = await create(model, regularizer, welcome);
    if (this.hasClosed()) {
      await created.dispose();
      throw new Error('The worker has ended');
    }
    return (this.computation = created);
  }

  /** Disposes of the computation, also of one that is still being created, which is not waited for. */
  async close(): Promise<void> {
    this.isClosed = true;
    await this.computation?.dispose();
    this.computation = null;
  }

  /** A call, as the flag may have changed while something was awaited. */
  private hasClosed(): boolean {
    return this.isClosed;
  }

  /** Disposes of a failed computation, such as one that lost its GPU: the next connection gets a new one. */
  async forget(computation: Computation): Promise<void> {
    if (this.computation === computation) this.computation = null;
    await computation.dispose();
  }
}

function isSame(a: object, b: object): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

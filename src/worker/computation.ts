/**
 * What a worker computes with: ranges of work under one θ go in, sums of tree nodes come out. The session above it knows the
 * protocol but no engine. Below it may be one engine, an engine on a thread, several threads, or the workers of a relay.
 */
import type { Model } from '../model/lenet.js';
import type { Regularizer } from '../model/regularizer.js';
import type { Partial } from '../model/engine/tree-sum.js';
import type { Message, Range } from '../shared/protocol.js';
import type { SampleCache } from './sample-cache.js';
import type { Task } from './task.js';

/**
 * Creates the computation for a run.
 *
 * @throws {UserError} if this machine cannot compute it
 * @throws {RangeError} if it has not the memory
 */
export type CreateComputation = (
  model: Model,
  regularizer: Regularizer,
  welcome: Message<'welcome'>,
) => Promise<Computation>;

/** Maximum number of threads per worker. */
export const MAX_THREADS = 64;
/** Maximum of a worker that shares its machine, or its process, with the coordinator, unless more are asked for. */
export const MAX_DEFAULT_THREADS = 8;

/** When an answer was computed, on the worker's clock. */
export interface Timing {
  readonly startedAt: number;
  readonly computeMs: number;
}

/** Takes results as they become available. */
export interface Answers {
  /**
   * The sum of a range; if the computation is exact, of a tree node.
   *
   * @returns resolves when the gradient's memory may change
   */
  partial(range: Range, partial: Partial, timing: Timing): Promise<void>;
  /** The arrays are valid only during the call. @param lossSums one per block  @param predictions one per image */
  evaluation(range: Range, lossSums: Float32Array, predictions: Uint16Array, timing: Timing): void;
}

export interface Computation {
  readonly model: Model;
  readonly regularizer: Regularizer;
  /** For display: `simd`, `simd on 4 threads`. */
  readonly name: string;
  readonly fingerprint: string;
  /** Whether its sums are exact to the bit. */
  readonly isExact: boolean;
  readonly device: string;

  /** The proof for admission: its gradient (P,) of the micro-batch determined by the seed. */
  prove(proofSeed: number): Promise<Float32Array>;

  /**
   * Computes the task's ranges until none is left or its signal aborts. One call at a time.
   *
   * @throws {ProtocolError} if the task needs samples that were not sent; after any other error it is unusable
   */
  run(task: Task, samples: SampleCache, answers: Answers): Promise<void>;

  /** For a relay: called with the welcome of each connection that it is for. */
  welcomed?(welcome: Message<'welcome'>): void;

  /** For a relay, the number of workers behind it. */
  readonly numWorkers?: number;

  /**
   * For a relay: sends a slice of the next θ on, before there is a task that uses it.
   *
   * @param globalStep of that task  @param params θ (P,), of which the slices up to this one have arrived
   */
  forwardSlice?(globalStep: number, params: Float32Array, index: number): void;

  /** Whether it can be reused for the run of that welcome, with the same model; without this method, it can. */
  isFor?(welcome: Message<'welcome'>): boolean;

  /** Frees its resources; no other call may follow. */
  dispose(): Promise<void>;
}

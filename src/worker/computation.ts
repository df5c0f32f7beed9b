/**
 * What a worker computes with: ranges of work under one θ go in, sums of tree nodes come out. The session above it knows
 * the protocol and no engine; an engine in place, one on a thread, several threads, or other workers stand below it.
 */
import type { Model } from '../model/lenet.js';
import type { Regularizer } from '../model/regularizer.js';
import type { Partial } from '../model/engine/tree-sum.js';
import type { Message, Range } from '../shared/protocol.js';
import type { SampleCache } from './sample-cache.js';
import type { Task } from './task.js';

/**
 * Makes what a run is to be computed with.
 *
 * @throws {UserError} if this machine cannot
 * @throws {RangeError} if it has not the memory
 */
export type CreateComputation = (
  model: Model,
  regularizer: Regularizer,
  welcome: Message<'welcome'>,
) => Promise<Computation>;

/** Threads of one worker at most. */
export const MAX_THREADS = 64;

/** How long an answer took, by the worker's clock. */
export interface Timing {
  readonly startedAt: number;
  readonly computeMs: number;
}

/** Takes results as they are done. */
export interface Answers {
  /**
   * The sum of a range: of a tree node, where the computation is exact.
   *
   * @returns when the gradient's memory may change
   */
  partial(range: Range, partial: Partial, timing: Timing): Promise<void>;
  /** Its arrays are valid during the call only. @param lossSums one a block  @param predictions one an image */
  evaluation(range: Range, lossSums: Float32Array, predictions: Uint16Array, timing: Timing): void;
}

export interface Computation {
  readonly model: Model;
  readonly regularizer: Regularizer;
  /** For people: `simd`, `simd on 4 threads`. */
  readonly name: string;
  readonly fingerprint: string;
  /** True if its sums have the contract's bits. */
  readonly isExact: boolean;
  readonly device: string;

  /** (P,) its gradient of the known micro-batch that the seed gives, by which it is admitted. */
  prove(proofSeed: number): Promise<Float32Array>;

  /**
   * Computes the task's ranges until none is left or its signal aborts. One call at a time.
   *
   * @throws {ProtocolError} if the task asks for samples that were not sent; whatever else it throws, it is of no more use
   */
  run(task: Task, samples: SampleCache, answers: Answers): Promise<void>;

  /** Workers behind it, where it is a relay's. */
  readonly numWorkers?: number;

  /** Whether it can go on for the run of that welcome, of the same model; where it is left out, it can. */
  isFor?(welcome: Message<'welcome'>): boolean;

  /** Frees what it holds; no call may follow. */
  dispose(): Promise<void>;
}

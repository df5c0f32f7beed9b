/**
 * The computation of several threads with the `simd` engine: one θ, one copy of the samples, one socket, and the same
 * bits as one thread, since the tree says what is added to what.
 *
 * The threads sleep on a word of shared memory. A call writes down a plan (plan.ts), wakes them, and is over when each of
 * them has said that nothing is left to take.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { hasEqualBits } from '../../model/engine/proof.js';
import type { Model } from '../../model/lenet.js';
import type { Regularizer } from '../../model/regularizer.js';
import type { Clock } from '../../shared/clock.js';
import { ProtocolError } from '../../shared/errors.js';
import type { Range } from '../../shared/protocol.js';
import { maximalNodes } from '../../shared/tree.js';
import { indicesOf, type Answers, type Computation, type Task } from '../computation.js';
import type { SampleCache } from '../sample-cache.js';
import { countLeaves, planNodes } from './plan.js';
import {
  CALLS,
  CONTROL,
  MAX_IMAGES,
  MAX_LEAVES,
  NODE,
  NODE_FIELDS,
  createSharedState,
  paramsOf,
  slotOf,
  writePlan,
  type SharedState,
} from './shared-state.js';
import type { ThreadMessage, ThreadStart } from './thread-main.js';

/** Leaves of a node for each thread: enough to even out who is slower, few enough to add little. */
const LEAVES_PER_THREAD = 4;

/** Always the built program: a thread of Node 20 cannot run TypeScript. Right from src/ and from dist/. */
const MAIN = new URL('../../../dist/worker/threads/thread-main.js', import.meta.url);

/** Starts the threads; resolves when each of them is ready. */
export async function startThreads(
  model: Model,
  regularizer: Regularizer,
  numThreads: number,
  clock: Clock,
): Promise<Computation> {
  const computation = new ThreadComputation(model, regularizer, numThreads, clock);
  try {
    await computation.ready;
    return computation;
  } catch (error) {
    await computation.dispose();
    throw error;
  }
}

class ThreadComputation implements Computation {
  readonly model: Model;
  readonly regularizer: Regularizer;
  readonly name: string;
  readonly fingerprint = 'simd/1';
  readonly isExact = true;
  readonly device: string;
  /** Resolves when every thread has its engine. */
  readonly ready: Promise<void>;
  private readonly clock: Clock;
  private readonly state: SharedState;
  private readonly threads: readonly Worker[];
  private task: Task | null = null;
  private samples: SampleCache | null = null;
  private numBusy: number;
  /** Why it can compute no more. */
  private failure: Error | null = null;
  /** Why the call under way cannot be answered. */
  private callError: Error | null = null;
  private finished: { resolve(): void; reject(error: Error): void } | null = null;
  private nodeDone: (node: number) => void = () => undefined;

  constructor(model: Model, regularizer: Regularizer, numThreads: number, clock: Clock) {
    this.model = model;
    this.regularizer = regularizer;
    this.name = `simd on ${numThreads} threads`;
    this.device = `WebAssembly SIMD, ${numThreads} of ${availableParallelism()} cores`;
    this.clock = clock;
    this.state = createSharedState(model, regularizer.regularization, numThreads);
    this.numBusy = numThreads;
    this.ready = this.finish();
    this.threads = Array.from({ length: numThreads }, (_, thread) => {
      const worker = new Worker(MAIN, {
        workerData: { state: this.state, thread } satisfies ThreadStart,
      });
      worker.on('message', (message: ThreadMessage) => this.hear(message));
      worker.on('error', (error) => this.fail(error));
      worker.on('exit', () => this.fail(new Error('A thread of the engine ended')));
      return worker;
    });
  }

  async prove(proofSeed: number): Promise<Float32Array> {
    const { control } = this.state;
    this.task = null;
    control[CONTROL.proofSeed] = proofSeed;
    await this.call(CALLS.prove);
    const [first, ...others] = this.threads.map((_, thread) =>
      slotOf(this.state, this.model.numParams, thread).slice(),
    );
    if (others.some((other) => !hasEqualBits(first, other))) {
      throw new Error('The threads differ in their gradients of the same images');
    }
    return first;
  }

  async run(task: Task, samples: SampleCache, answers: Answers): Promise<void> {
    const { control } = this.state;
    if (this.task !== task) {
      paramsOf(this.state, this.model.numParams).set(task.params);
      control[CONTROL.params]++;
      this.task = task;
    }
    if (this.samples !== samples) {
      control[CONTROL.samples]++;
      this.samples = samples;
      for (const thread of this.threads) thread.postMessage(samples.memory);
    }
    control[CONTROL.unitSize] = task.unitSize;
    const abort = () => Atomics.store(control, CONTROL.isAborted, 1);
    task.signal.addEventListener('abort', abort, { once: true });
    try {
      while (task.ranges.length > 0 && !task.signal.aborted) {
        if (task.kind === 'step') await this.sumGradients(task, answers);
        else await this.evaluate(task, answers);
      }
    } finally {
      task.signal.removeEventListener('abort', abort);
    }
  }

  async dispose(): Promise<void> {
    this.fail(new Error('The engine is disposed'));
    await Promise.all(this.threads.map((thread) => thread.terminate()));
  }

  private async sumGradients(task: Task & { kind: 'step' }, answers: Answers): Promise<void> {
    const { state, clock, model } = this;
    if (task.indices.length > MAX_IMAGES) {
      const message = `A batch of ${task.indices.length} images, at most ${MAX_IMAGES} can be taken`;
      throw new ProtocolError('malformed', message);
    }
    state.indices.set(task.indices);
    state.control[CONTROL.numImages] = task.indices.length;
    state.control[CONTROL.epoch] = task.epoch;
    const { nodes, leafUnits } = this.takeNodes(task);
    writePlan(state, planNodes(nodes, leafUnits));
    let startedAt = clock.now();
    this.nodeDone = (node) => {
      if (task.signal.aborted) return;
      const at = node * NODE_FIELDS;
      const now = clock.now();
      answers.partial(
        [state.plan[at + NODE.lo], state.plan[at + NODE.hi]],
        {
          gradient: slotOf(state, model.numParams, state.plan[at + NODE.slot]),
          lossSum: state.lossSums[node],
          numCorrect: state.numCorrect[node],
          numImages: state.numImages[node],
        },
        { startedAt, computeMs: now - startedAt },
      );
      startedAt = now;
    };
    await this.call(CALLS.step);
  }

  /** Takes nodes off the task, as many as there are slots for, and says how finely to cut them. */
  private takeNodes(task: Task): { nodes: Range[]; leafUnits: number } {
    const numUnits = task.ranges.reduce((sum, [lo, hi]) => sum + hi - lo, 0);
    const numLeavesWanted = Math.min(MAX_LEAVES / 2, LEAVES_PER_THREAD * this.threads.length);
    const leafUnits = Math.ceil(numUnits / numLeavesWanted);
    const nodes: Range[] = [];
    let numLeaves = 0;
    for (let range; (range = task.ranges.shift());) {
      for (const node of maximalNodes(range, task.numUnits)) {
        numLeaves += countLeaves(node, leafUnits);
        if (numLeaves > MAX_LEAVES) {
          task.ranges.unshift([node[0], range[1]]);
          return { nodes, leafUnits };
        }
        nodes.push(node);
      }
    }
    return { nodes, leafUnits };
  }

  private async evaluate(task: Task & { kind: 'evaluation' }, answers: Answers): Promise<void> {
    const { state, clock } = this;
    const { unitSize } = task;
    const startedAt = clock.now();
    const ranges: Range[] = [];
    const leaves: Range[] = [];
    while (task.ranges.length > 0 && leaves.length < MAX_LEAVES) {
      const [lo, hi] = task.ranges.shift()!;
      const end = Math.min(hi, lo + MAX_LEAVES - leaves.length);
      if (end < hi) task.ranges.unshift([end, hi]);
      ranges.push([lo, end]);
      for (let unit = lo; unit < end; unit++) {
        const indices = indicesOf(task, [unit, unit + 1]);
        state.indices.set(indices, leaves.length * unitSize);
        state.numImages[leaves.length] = indices.length;
        leaves.push([unit, unit + 1]);
      }
    }
    writePlan(
      state,
      leaves.map((range) => ({ range, parent: -1, left: -1, right: -1 })),
    );
    await this.call(CALLS.evaluate);
    if (task.signal.aborted) return;
    const timing = { startedAt, computeMs: (clock.now() - startedAt) / ranges.length };
    let leaf = 0;
    for (const range of ranges) {
      const end = leaf + range[1] - range[0];
      const numImages = (end - 1 - leaf) * unitSize + state.numImages[end - 1];
      answers.evaluation(
        range,
        state.lossSums.slice(leaf, end),
        state.predictions.slice(leaf * unitSize, leaf * unitSize + numImages),
        timing,
      );
      leaf = end;
    }
  }

  /** Wakes the threads; resolves when all of them sleep again. */
  private async call(kind: number): Promise<void> {
    if (this.failure) throw this.failure;
    const { control } = this.state;
    control[CONTROL.kind] = kind;
    control[CONTROL.nextLeaf] = 0;
    Atomics.store(control, CONTROL.isAborted, this.task?.signal.aborted ? 1 : 0);
    this.numBusy = this.threads.length;
    Atomics.add(control, CONTROL.call, 1);
    Atomics.notify(control, CONTROL.call);
    await this.finish();
  }

  private finish(): Promise<void> {
    return new Promise((resolve, reject) => (this.finished = { resolve, reject }));
  }

  private hear(message: ThreadMessage): void {
    if ('done' in message) this.nodeDone(message.done);
    else if ('failed' in message) {
      const { failed, isProtocolError } = message;
      const error = isProtocolError ? new ProtocolError('unexpected', failed) : new Error(failed);
      Atomics.store(this.state.control, CONTROL.isAborted, 1);
      this.callError ??= error;
    } else if (--this.numBusy === 0) {
      const { finished, callError } = this;
      this.callError = null;
      this.nodeDone = () => undefined;
      if (callError) finished?.reject(callError);
      else finished?.resolve();
    }
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.finished?.reject(error);
  }
}

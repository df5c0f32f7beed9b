/**
 * The computation of several threads with the `simd` engine: one θ, one copy of the samples, one socket, and the same
 * bits as one thread, since the tree determines the order of additions.
 *
 * A call writes a plan (plan.ts), wakes the other threads, which sleep on a word of shared memory, and does its own part: the
 * event-loop thread computes too, so that threads wait for one another as little as possible.
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
import type { Answers, Computation } from '../computation.js';
import type { SampleCache } from '../sample-cache.js';
import { indicesOf, type Task } from '../task.js';
import { Leaves } from './leaves.js';
import { countLeaves, planNodes } from './plan.js';
import {
  CALLS,
  CONTROL,
  MAX_IMAGES,
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

/** For so long the event loop's thread looks again and again whether the others are done, before it sleeps, ms. */
const SPIN_MS = 1;

/** Always the built program: a thread of Node 20 cannot run TypeScript. Right from src/ and from dist/. */
const MAIN = new URL('../../../dist/worker/threads/thread-main.js', import.meta.url);

/**
 * Starts the threads; resolves when each of them is ready.
 *
 * @param isApart whether the thread of the event loop, which is one of them by default, computes nothing, and so hears of
 * signals and frames however long a micro-batch takes
 */
export async function startThreads(
  model: Model,
  regularizer: Regularizer,
  numThreads: number,
  clock: Clock,
  isApart = false,
): Promise<Computation> {
  const computation = new ThreadComputation(model, regularizer, numThreads, clock, isApart);
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
  private readonly numThreads: number;
  /** This thread's part; null where it has none. */
  private readonly leaves: Leaves | null;
  /** The other threads. */
  private readonly threads: readonly Worker[];
  private task: Task | null = null;
  private samples: SampleCache | null = null;
  /** Settles when what was answered has left: its memory is the slots'. */
  private leaving: Promise<unknown> = Promise.resolve();
  /** Looks which nodes are done, and answers them. */
  private answerDone: () => void = () => undefined;
  /** Why it can compute no more. */
  private failure: Error | null = null;
  /** Why the call under way cannot be answered, in the words of a thread. */
  private callError: Error | null = null;
  private wake: () => void = () => undefined;

  constructor(
    model: Model,
    regularizer: Regularizer,
    numThreads: number,
    clock: Clock,
    isApart: boolean,
  ) {
    this.model = model;
    this.regularizer = regularizer;
    this.name = numThreads === 1 ? 'simd' : `simd on ${numThreads} threads`;
    this.device = `WebAssembly SIMD, ${numThreads} of ${availableParallelism()} cores`;
    this.clock = clock;
    this.numThreads = numThreads;
    this.state = createSharedState(model, regularizer.regularization, numThreads);
    const numHere = isApart ? 0 : 1;
    this.state.control[CONTROL.numBusy] = numThreads - numHere;
    this.leaves = isApart ? null : new Leaves(this.state, 0, () => undefined);
    this.threads = Array.from({ length: numThreads - numHere }, (_, i) => {
      const worker = new Worker(MAIN, {
        workerData: { state: this.state, thread: i + numHere } satisfies ThreadStart,
      });
      worker.on('message', (message: ThreadMessage) => this.hear(message));
      worker.on('error', (error) => this.fail(error));
      worker.on('exit', () => this.fail(new Error('A thread of the engine ended')));
      return worker;
    });
    this.ready = this.join(0);
  }

  async prove(proofSeed: number): Promise<Float32Array> {
    await this.leaving;
    this.task = null;
    this.state.control[CONTROL.proofSeed] = proofSeed;
    await this.call(CALLS.prove);
    const [first, ...others] = Array.from({ length: this.numThreads }, (_, thread) =>
      slotOf(this.state, this.model.numParams, thread).slice(),
    );
    if (others.some((other) => !hasEqualBits(first, other))) {
      throw new Error('The threads computed different gradients for the same images');
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
      if (this.leaves) this.leaves.samples = samples;
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
    const { plan } = state;
    if (task.indices.length > MAX_IMAGES) {
      const message = `A batch of ${task.indices.length} images, at most ${MAX_IMAGES} can be taken`;
      throw new ProtocolError('malformed', message);
    }
    await this.leaving;
    if (task.signal.aborted) return;
    state.indices.set(task.indices);
    state.control[CONTROL.numImages] = task.indices.length;
    state.control[CONTROL.epoch] = task.epoch;
    const { nodes, leafUnits } = this.takeNodes(task);
    const planned = planNodes(nodes, leafUnits);
    writePlan(state, planned);
    let due = planned.flatMap(({ parent }, node) => (parent < 0 ? [node] : []));
    let startedAt = clock.now();
    const leaving: Promise<void>[] = [];
    this.answerDone = () => {
      const done = due.filter((node) => Atomics.load(plan, node * NODE_FIELDS + NODE.isDone) === 1);
      if (done.length === 0 || task.signal.aborted) return;
      due = due.filter((node) => !done.includes(node));
      for (const node of done) {
        const at = node * NODE_FIELDS;
        const now = clock.now();
        const partial = {
          gradient: slotOf(state, model.numParams, plan[at + NODE.slot]),
          lossSum: state.lossSums[node],
          numCorrect: state.numCorrect[node],
          numImages: state.numImages[node],
        };
        const timing = { startedAt, computeMs: now - startedAt };
        leaving.push(answers.partial([plan[at + NODE.lo], plan[at + NODE.hi]], partial, timing));
        startedAt = now;
      }
    };
    try {
      await this.call(CALLS.step);
    } finally {
      this.answerDone = () => undefined;
      this.leaving = Promise.all(leaving);
    }
  }

  /** Takes nodes off the task, as many as there are slots for, and says how finely to cut them. */
  private takeNodes(task: Task): { nodes: Range[]; leafUnits: number } {
    const numUnits = task.ranges.reduce((sum, [lo, hi]) => sum + hi - lo, 0);
    const numLeavesWanted = Math.min(this.state.maxLeaves / 2, LEAVES_PER_THREAD * this.numThreads);
    const leafUnits = Math.ceil(numUnits / numLeavesWanted);
    const nodes: Range[] = [];
    let numLeaves = 0;
    for (let range; (range = task.ranges.shift());) {
      for (const node of maximalNodes(range, task.numUnits)) {
        numLeaves += countLeaves(node, leafUnits);
        if (numLeaves > this.state.maxLeaves) {
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
    const maxLeaves = Math.min(state.maxLeaves, Math.floor(MAX_IMAGES / unitSize));
    while (task.ranges.length > 0 && leaves.length < maxLeaves) {
      const [lo, hi] = task.ranges.shift()!;
      const end = Math.min(hi, lo + maxLeaves - leaves.length);
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

  /** Has all threads do their part; resolves when each of them has. */
  private async call(kind: number): Promise<void> {
    if (this.failure) throw this.failure;
    const { control } = this.state;
    control[CONTROL.kind] = kind;
    control[CONTROL.nextLeaf] = 0;
    control[CONTROL.hasFailed] = 0;
    this.callError = null;
    Atomics.store(control, CONTROL.isAborted, this.task?.signal.aborted ? 1 : 0);
    Atomics.store(control, CONTROL.numBusy, this.threads.length);
    Atomics.add(control, CONTROL.call, 1);
    Atomics.notify(control, CONTROL.call);
    try {
      await this.leaves?.work(() => this.proceed());
    } catch (error) {
      Atomics.store(control, CONTROL.isAborted, 1);
      throw error;
    } finally {
      await this.join(SPIN_MS);
    }
  }

  /** Between micro-batches of its own: lets frames in. */
  private async proceed(): Promise<boolean> {
    this.answerDone();
    await this.clock.yield();
    return Atomics.load(this.state.control, CONTROL.isAborted) === 0;
  }

  /** Resolves when the other threads have done their part. */
  private async join(spinMs: number): Promise<void> {
    const { control } = this.state;
    const spinUntil = this.clock.now() + spinMs;
    while (Atomics.load(control, CONTROL.numBusy) > 0) {
      if (this.clock.now() < spinUntil) await this.clock.yield();
      else await this.sleep();
      if (this.failure) throw this.failure;
      this.answerDone();
    }
    this.answerDone();
    // What went wrong was said before, and is on its way.
    while (control[CONTROL.hasFailed] === 1 && !this.callError) {
      await new Promise<void>((resolve) => (this.wake = resolve));
      if (this.failure) throw this.failure;
    }
    if (this.callError) throw this.callError;
  }

  /** Until a thread has something to tell. */
  private async sleep(): Promise<void> {
    const { control } = this.state;
    const woken = new Promise<void>((resolve) => (this.wake = resolve));
    Atomics.store(control, CONTROL.isMainAsleep, 1);
    this.answerDone();
    if (Atomics.load(control, CONTROL.numBusy) > 0 && !this.failure) await woken;
    Atomics.store(control, CONTROL.isMainAsleep, 0);
  }

  private hear(message: ThreadMessage): void {
    if ('failed' in message) {
      const { failed, isProtocolError } = message;
      const error = isProtocolError ? new ProtocolError('unexpected', failed) : new Error(failed);
      this.callError ??= error;
    }
    this.wake();
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.wake();
  }
}

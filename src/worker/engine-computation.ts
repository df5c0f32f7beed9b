/** A computation by one engine, in the same thread: it yields to received frames between micro-batches. */
import type { Engine } from '../model/engine/engine.js';
import { proveEngine } from '../model/engine/proof.js';
import type { Regularizer } from '../model/regularizer.js';
import { TreeSum, type Batch } from '../model/engine/tree-sum.js';
import type { Clock } from '../shared/clock.js';
import type { Range } from '../shared/protocol.js';
import { maximalNodes } from '../shared/tree.js';
import type { Answers, Computation } from './computation.js';
import type { SampleCache } from './sample-cache.js';
import { indicesOf, type EvaluationTask, type StepTask, type Task } from './task.js';

export interface EngineComputationOptions {
  readonly clock: Clock;
  readonly regularizer: Regularizer;
  /** Overrides the proof, a gradient (P,) of the micro-batch determined by the seed. */
  readonly prove?: (engine: Engine, proofSeed: number) => Promise<Float32Array>;
}

export class EngineComputation implements Computation {
  readonly model;
  readonly regularizer;
  readonly name;
  readonly fingerprint;
  readonly isExact;
  readonly device;
  private readonly engine: Engine;
  private readonly clock: Clock;
  private readonly proveEngine: (engine: Engine, proofSeed: number) => Promise<Float32Array>;
  private readonly treeSum: TreeSum;
  /** Two buffers (P,), used in turn: one sum is computed while the previous one is being sent. */
  private readonly sums: readonly { readonly gradient: Float32Array; left: Promise<void> }[];
  private numSums = 0;
  /** The task whose θ is loaded in the engine. */
  private task: Task | null = null;
  private batch = { images: new Uint8Array(0), labels: new Uint16Array(0) };

  constructor(engine: Engine, { clock, regularizer, prove }: EngineComputationOptions) {
    ({
      model: this.model,
      name: this.name,
      fingerprint: this.fingerprint,
      isExact: this.isExact,
      device: this.device,
    } = engine);
    this.engine = engine;
    this.clock = clock;
    this.regularizer = regularizer;
    this.proveEngine = prove ?? (async (of, proofSeed) => proveEngine(of, proofSeed, regularizer));
    this.treeSum = new TreeSum(engine);
    this.sums = Array.from({ length: 2 }, () => ({
      gradient: engine.allocateGradient(),
      left: Promise.resolve(),
    }));
  }

  prove(proofSeed: number): Promise<Float32Array> {
    this.task = null;
    return this.proveEngine(this.engine, proofSeed);
  }

  async run(task: Task, samples: SampleCache, answers: Answers): Promise<void> {
    if (this.task !== task) {
      this.engine.setParams(task.params);
      this.task = task;
    }
    for (;;) {
      const range = task.ranges.shift();
      if (!range) return;
      const isWanted =
        task.kind === 'step'
          ? await this.sumGradients(task, range, samples, answers)
          : await this.evaluate(task, range, samples, answers);
      if (!isWanted) return;
    }
  }

  async dispose(): Promise<void> {
    await this.engine.dispose();
  }

  /** @returns false if abandoned */
  private async sumGradients(
    task: StepTask,
    range: Range,
    samples: SampleCache,
    answers: Answers,
  ): Promise<boolean> {
    const { clock, engine, regularizer, treeSum } = this;
    const batchOf = (units: Range) => {
      const indices = indicesOf(task, units);
      return regularizer.apply(this.gather(samples, indices), indices, task.epoch);
    };
    const proceed = () => this.proceed(task);
    for (const node of engine.isExact ? maximalNodes(range, task.numUnits) : [range]) {
      const sum = this.sums[this.numSums++ % this.sums.length];
      await sum.left;
      if (isSuperseded(task)) return false;
      const startedAt = clock.now();
      const partial = engine.isExact
        ? await treeSum.sum(node, batchOf, proceed, sum.gradient)
        : await treeSum.sumAtOnce(node, batchOf, sum.gradient);
      if (!partial || isSuperseded(task)) return false;
      const timing = { startedAt, computeMs: clock.now() - startedAt };
      sum.left = answers.partial(node, partial, timing);
      if (!(await proceed())) return false;
    }
    return true;
  }

  /** @returns false if abandoned */
  private async evaluate(
    task: EvaluationTask,
    range: Range,
    samples: SampleCache,
    answers: Answers,
  ): Promise<boolean> {
    const { clock, engine } = this;
    const [lo, hi] = range;
    const startedAt = clock.now();
    const lossSums = new Float32Array(hi - lo);
    const predictions = new Uint16Array(indicesOf(task, range).length);
    for (let unit = lo; unit < hi; unit++) {
      const { images, labels } = this.gather(samples, indicesOf(task, [unit, unit + 1]));
      const evaluation = await engine.evaluate(images, labels);
      lossSums[unit - lo] = evaluation.lossSum;
      predictions.set(evaluation.predictions, (unit - lo) * task.unitSize);
      if (!(await this.proceed(task))) return false;
    }
    answers.evaluation(range, lossSums, predictions, {
      startedAt,
      computeMs: clock.now() - startedAt,
    });
    return true;
  }

  /** Yields to received frames. @returns whether the task is still current */
  private async proceed({ signal }: Task): Promise<boolean> {
    await this.clock.yield();
    return !signal.aborted;
  }

  /** The samples, in a buffer that the next call reuses. */
  private gather(samples: SampleCache, indices: Uint32Array): Batch {
    if (this.batch.labels.length < indices.length) {
      this.batch = samples.createBatch(indices.length);
    }
    return samples.gather(indices, this.batch);
  }
}

/** A function, so that TypeScript does not narrow `aborted`, which may change during an await. */
function isSuperseded({ signal }: Task): boolean {
  return signal.aborted;
}

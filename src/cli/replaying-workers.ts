/**
 * The program of the workers for `lockstep bench coordinator`, any number in one process. They are real workers, each with
 * its own socket, except that they compute nothing: each answers at once with the gradient by which it was admitted, and so
 * takes little processor time.
 *
 *   node replaying-workers.js ws://127.0.0.1:7700 64
 */
import type { Engine } from '../model/engine/engine.js';
import { proveEngine } from '../model/engine/proof.js';
import { createSimdEngine } from '../model/engine/simd/node.js';
import type { Model } from '../model/lenet.js';
import type { Regularizer } from '../model/regularizer.js';
import { systemClock } from '../shared/clock.js';
import { createRandom } from '../shared/random.js';
import { maximalNodes } from '../shared/tree.js';
import type { Answers, Computation } from '../worker/computation.js';
import { dial } from '../worker/connection.js';
import type { SampleCache } from '../worker/sample-cache.js';
import { indicesOf, type EvaluationTask, type StepTask, type Task } from '../worker/task.js';
import { Worker, type WorkerOutcome } from '../worker/worker.js';
import { keepYoungSmall, letHeapGrow, youngCollector } from './v8.js';
import { followParent } from './signals.js';

/**
 * What each unit is said to have taken, ms: waits for a processor are short beside it, so that the coordinator goes on
 * dividing the units evenly and takes nobody for late.
 */
const MS_PER_UNIT = 100;
const MAX_MEMORY_BYTES = 4e9;
/** A machine that is busy with something else may break a connection. */
const RETRY_FOR_MS = 60_000;

class ReplayedComputation implements Computation {
  readonly model: Model;
  readonly regularizer: Regularizer;
  readonly name = 'replayed';
  readonly fingerprint: string;
  readonly isExact = true;
  readonly device = 'none';
  /** Makes the proof. */
  private readonly engine: Engine;
  /** (P,) the proof */
  private gradient: Float32Array = new Float32Array(0);

  constructor(engine: Engine, regularizer: Regularizer) {
    ({ model: this.model, fingerprint: this.fingerprint } = engine);
    this.engine = engine;
    this.regularizer = regularizer;
  }

  async prove(proofSeed: number): Promise<Float32Array> {
    return (this.gradient = await proveEngine(this.engine, proofSeed, this.regularizer));
  }

  async run(task: Task, _samples: SampleCache, answers: Answers): Promise<void> {
    if (task.kind === 'step') await this.sumGradients(task, answers);
    else this.evaluate(task, answers);
  }

  async dispose(): Promise<void> {
    await Promise.resolve();
  }

  private async sumGradients(task: StepTask, answers: Answers): Promise<void> {
    const nodes = task.ranges.splice(0).flatMap((range) => maximalNodes(range, task.numUnits));
    await Promise.all(
      nodes.map((node) => {
        const sums = { lossSum: 0, numCorrect: 0, numImages: indicesOf(task, node).length };
        const partial = { gradient: this.gradient, ...sums };
        return answers.partial(node, partial, timing(node[1] - node[0]));
      }),
    );
  }

  private evaluate(task: EvaluationTask, answers: Answers): void {
    for (const range of task.ranges.splice(0)) {
      const numBlocks = range[1] - range[0];
      const predictions = new Uint16Array(indicesOf(task, range).length);
      answers.evaluation(range, new Float32Array(numBlocks), predictions, timing(numBlocks));
    }
  }
}

function timing(numUnits: number) {
  return { startedAt: systemClock.now(), computeMs: MS_PER_UNIT * numUnits };
}

/** Of all of them: its model is the run's. */
let engine: Engine | null = null;
/** What each of them says it has: nothing at first, then every sample. */
let samples: SampleCache | null = null;

function work(name: string, signal: AbortSignal, onWelcome: () => void): Promise<WorkerOutcome> {
  const worker = new Worker({
    dial: () => dial(url, null, signal),
    session: {
      createComputation: (model, regularizer) => {
        engine ??= createSimdEngine(model, { numGradients: 1 });
        return Promise.resolve(new ReplayedComputation(engine, regularizer));
      },
      engineName: 'simd',
      name,
      host: 'bench',
      token: null,
      maxMemoryBytes: MAX_MEMORY_BYTES,
      clock: systemClock,
      collectGarbage,
      keepsake: {
        identity: null,
        samples,
        keepWelcome: (_identity, empty) => {
          samples ??= empty;
          onWelcome();
        },
        keepSamples: () => undefined,
      },
      log: (level, message) => {
        if (level === 'warn') console.error(`${name}: ${message}`);
      },
    },
    random: createRandom(process.pid, name),
    retryForMs: RETRY_FOR_MS,
  });
  return worker.work(signal);
}

followParent();
letHeapGrow();
keepYoungSmall();
const collectGarbage = youngCollector();
const [url, numWorkers] = process.argv.slice(2);
// One comes and goes before it is of use, to learn which samples there are.
const known = new AbortController();
await work('scout', known.signal, () => known.abort());
samples!.memory.cached.fill(0xff);
const ends: Promise<WorkerOutcome>[] = [];
// One after the other: of connections that have not said hello, a coordinator takes so many and no more.
for (let i = 1; i <= Number(numWorkers); i++) {
  await new Promise<void>((resolve) => {
    const end = work(`worker-${i}`, new AbortController().signal, resolve);
    ends.push(end);
    void end.then(() => resolve());
  });
}
const { outcome } = await Promise.race(ends);
console.error(`A replaying worker ended: ${outcome}`);
process.exit(1);

/** A whole run in one process: the coordinator and a worker of some threads, with a channel in memory between them. */
import { availableParallelism, hostname } from 'node:os';
import { randomBytes } from 'node:crypto';
import * as z from 'zod';
import { Coordinator } from '../coordinator/coordinator.js';
import type { RunEvent, RunResult } from '../coordinator/events.js';
import { createSamples } from '../coordinator/samples.js';
import { writeCheckpoint, type Checkpoint } from '../model/checkpoint.js';
import type { Dataset } from '../model/data/dataset.js';
import { loadDataset } from '../model/data/load.js';
import { createProofJudge } from '../model/engine/proof.js';
import { createReferenceEngine } from '../model/engine/reference.js';
import { createSimdEngine } from '../model/engine/simd/node.js';
import { createVectorOps } from '../model/engine/simd/node.js';
import { buildModel } from '../model/lenet.js';
import { Regularizer } from '../model/regularizer.js';
import { systemClock } from '../shared/clock.js';
import { float32From } from '../shared/codec.js';
import { parseRunConfig, regularizationOf, type runConfigSchema } from '../shared/config.js';
import { UserError, fromUser } from '../shared/errors.js';
import { memoryChannels } from '../shared/memory-channel.js';
import { fileStorage } from '../shared/node/storage.js';
import { createRandom } from '../shared/random.js';
import { MAX_DEFAULT_THREADS, MAX_THREADS } from '../worker/computation.js';
import { EngineComputation } from '../worker/engine-computation.js';
import { startThreads } from '../worker/threads/thread-computation.js';
import { Worker } from '../worker/worker.js';

/** Nobody can be cut off in one process; a debugger may hold it up. */
const HEARTBEAT_TIMEOUT_MS = 60_000;
/** Between checkpoints in a folder, besides each epoch, ms. */
const CHECKPOINT_EVERY_MS = 2_000;

export interface TrainOptions {
  /** What differs from the defaults of `lockstep train`, as in `--config FILE`: `{ epochs: 5, lr: 0.004 }`. */
  readonly config?: z.input<typeof runConfigSchema>;
  /** In place of the one that `config.dataset` names; its own name is recorded unless that is given too. */
  readonly dataset?: Dataset;
  /** Threads that compute gradients; the bits do not depend on it. One a core by default, at most 8. */
  readonly threads?: number;
  /** Stops as soon as an evaluation reaches it, 0 to 1. */
  readonly targetAccuracy?: number;
  /** Stops after as many epochs without a better accuracy on the validation set, else the test set. */
  readonly patience?: number;
  /** Called with each event of the run, in order; is not waited for. What it throws, or rejects with, ends the run. */
  readonly onEvent?: (event: RunEvent) => unknown;
  /** Finishes the step, and returns. */
  readonly signal?: AbortSignal;
  /** Goes on from the state of a run with the same configuration, or with fewer epochs. */
  readonly resumeFrom?: Checkpoint;
  /** θ₀ (P,) in place of that of the seed. */
  readonly initialParams?: Float32Array;
  /** Folder that checkpoints are written to, with none of another run in it; none by default. */
  readonly checkpointsPath?: string;
}

export interface TrainOutcome {
  readonly result: RunResult;
  /** The state at the end. */
  readonly last: Checkpoint;
  /** The state at the best evaluation; null if there was none better than those before `resumeFrom`. */
  readonly best: Checkpoint | null;
}

/**
 * Trains to the end, or until the signal aborts: then `result.outcome` is `stopped`, and `last` can be resumed from.
 * The weights are those of `lockstep train` with the same configuration, to the bit.
 *
 * @throws {UserError} if the configuration or the dataset is wrong, or the training diverged
 */
export async function train(options: TrainOptions = {}): Promise<TrainOutcome> {
  const { onEvent, resumeFrom = null, checkpointsPath } = options;
  const name = options.dataset && { dataset: options.dataset.name };
  const config = parseRunConfig({ ...name, ...options.config });
  checkOptions(options);
  if (checkpointsPath !== undefined && resumeFrom === null) await refuseOthers(checkpointsPath);
  const dataset = options.dataset ?? (await loadDataset(config.dataset, config));
  const samples = createSamples(dataset, config.validationSize);
  const model = fromUser(() => buildModel(config.hyperparameters, samples));
  const numGiven = options.initialParams?.length ?? model.numParams;
  if (numGiven !== model.numParams) {
    throw new UserError(
      `Cannot start from ${numGiven} parameters: the model has ${model.numParams}`,
    );
  }
  const arbiter = createSimdEngine(model);
  const regularizer = new Regularizer(model, regularizationOf(config));
  const judge = createProofJudge(arbiter, createReferenceEngine(model), regularizer);

  // What goes wrong outside of the coordinator ends its run; what went wrong first is told.
  const failed = new AbortController();
  const fail = (error: unknown) => failed.abort(error);
  let last = resumeFrom;
  let best: Checkpoint | null = null;
  const coordinator = new Coordinator({
    runId: `library-${randomBytes(3).toString('hex')}`,
    name: 'library',
    config,
    samples,
    clock: systemClock,
    random: createRandom(randomBytes(4).readUInt32LE(), 'coordinator'),
    auditRandom: createRandom(randomBytes(4).readUInt32LE(), 'audit'),
    workerKey: randomBytes(32),
    report(event) {
      try {
        const answer = failed.signal.aborted ? null : onEvent?.(event);
        if (answer instanceof Promise) answer.catch(fail);
        // Nobody can be cut off in one process: it would fail again.
        if (event.type === 'workerLost' && !event.isGraceful) fail(new Error(event.message));
      } catch (error) {
        fail(error);
      }
    },
    arbiter,
    vectors: createVectorOps(model.numParams),
    judge: ({ fingerprint, proof }, proofSeed) =>
      judge({ fingerprint, gradient: float32From(proof, model.numParams, 'proof') }, proofSeed),
    isTokenRight: () => true,
    minWorkers: 1,
    maxWorkers: 1,
    audit: 0,
    heartbeatTimeoutMs: HEARTBEAT_TIMEOUT_MS,
    checkpointEveryMs: checkpointsPath === undefined ? Infinity : CHECKPOINT_EVERY_MS,
    checkpointEverySteps: 0,
    targetAccuracy: options.targetAccuracy ?? null,
    patience: options.patience ?? null,
    verifyLedger: false,
    resumeFrom,
    initialParams: options.initialParams ?? null,
    async save(checkpoint, isBest) {
      if (last === null || checkpoint.globalStep >= last.globalStep) last = checkpoint;
      if (isBest) best = checkpoint;
      if (checkpointsPath === undefined) return { path: '', bytes: 0 };
      return writeCheckpoint(fileStorage, checkpointsPath, checkpoint, isBest);
    },
  });

  const isOver = new AbortController();
  const working = createWorker(coordinator, options.threads ?? defaultThreads(), fail)
    .work(isOver.signal)
    .then((ending) => {
      if (ending.outcome === 'refused' || ending.outcome === 'unable') {
        fail(new Error(`Cannot train: ${ending.reason}`));
      }
    }, fail);
  try {
    const signals = [failed.signal, ...(options.signal ? [options.signal] : [])];
    const result = await coordinator.run(AbortSignal.any(signals));
    failed.signal.throwIfAborted();
    if (last === null) throw new Error('The run ended without a checkpoint');
    return { result, last, best };
  } finally {
    isOver.abort();
    await working;
    arbiter.dispose();
  }
}

const optionsSchema = z.object({
  threads: z.number().int().min(1).max(MAX_THREADS).optional(),
  targetAccuracy: z.number().gt(0).max(1).optional(),
  patience: z.number().int().min(1).optional(),
});

/** @throws {UserError} if one of the options besides `config` is wrong */
function checkOptions(options: TrainOptions): void {
  const { error } = optionsSchema.safeParse(options);
  if (error) throw new UserError(`${error.issues[0].path.join('.')}: ${error.issues[0].message}`);
}

/** @throws {UserError} if the folder has checkpoints */
async function refuseOthers(path: string): Promise<void> {
  const names = await fileStorage.list(path);
  if (!names.some((name) => name.endsWith('.safetensors'))) return;
  throw new UserError(
    `Cannot write checkpoints to ${path}: it has those of another run; choose another folder, or resume from one of them`,
  );
}

/** @param fail called when the worker gives its connection up: it would fail again */
function createWorker(
  coordinator: Coordinator,
  numThreads: number,
  fail: (error: Error) => void,
): Worker {
  return new Worker({
    dial() {
      const [near, far] = memoryChannels();
      coordinator.accept(far, 'this process');
      return Promise.resolve(near);
    },
    session: {
      createComputation: async (model, regularizer) =>
        numThreads > 1
          ? startThreads(model, regularizer, numThreads, systemClock)
          : new EngineComputation(createSimdEngine(model), { clock: systemClock, regularizer }),
      engineName: 'simd',
      name: 'library',
      host: hostname(),
      token: null,
      maxMemoryBytes: Infinity,
      clock: systemClock,
      collectGarbage: () => undefined,
      log: (level, message) => {
        if (level === 'warn') fail(new Error(`Cannot train: ${message}`));
      },
    },
    random: createRandom(process.pid, 'worker', Date.now()),
    retryForMs: Infinity,
  });
}

function defaultThreads(): number {
  return Math.min(availableParallelism(), MAX_DEFAULT_THREADS);
}

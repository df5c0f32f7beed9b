/**
 * One connection of a worker, from hello to its end: it computes what the coordinator asks for, and nothing else.
 */
import type { Engine } from '../model/engine/engine.js';
import { IMAGE_BYTES, buildModel, type Model } from '../model/lenet.js';
import { TreeSum, type Batch } from '../model/engine/tree-sum.js';
import type { Channel, ChannelHandler } from '../shared/channel.js';
import type { Clock, Timer } from '../shared/clock.js';
import {
  bytesOf,
  copyFloat32,
  decodeCoordinatorMessage,
  encode,
  uint32From,
} from '../shared/codec.js';
import { CLOSE_CODES, ProtocolError, UserError, messageOf } from '../shared/errors.js';
import {
  PROTOCOL_VERSION,
  type CoordinatorMessage,
  type EvaluationSet,
  type Message,
  type Range,
  type WorkerMessage,
} from '../shared/protocol.js';
import { maximalNodes } from '../shared/tree.js';
import { SampleCache } from './sample-cache.js';

/** Frames that a worker reads and sends before it collects their memory, bytes. */
const GARBAGE_BYTES = 4 * 1024 * 1024;
/** How long a worker that leaves waits for the coordinator to close, ms. */
const GOODBYE_MS = 500;

export interface SessionOptions {
  readonly createEngine: (model: Model) => Promise<Engine>;
  /** The (P,) gradient of the known micro-batch that the seed gives. */
  readonly prove: (engine: Engine, proofSeed: number) => Promise<Float32Array>;
  readonly engineName: string;
  readonly name: string;
  readonly host: string;
  readonly pid: number;
  readonly token: string | null;
  readonly clock: Clock;
  /** Frees the memory of frames that have been read or sent; called while there is nothing to compute. */
  readonly collectGarbage: () => void;
  readonly log: (level: 'info' | 'warn' | 'debug', message: string) => void;
}

/** What ends a worker's part in a run, where a connection ends it. */
export type Outcome =
  | { readonly outcome: 'finished'; readonly reason: string }
  | { readonly outcome: 'left' }
  | { readonly outcome: 'refused'; readonly reason: string }
  /** This machine has not the engine that it was to use. */
  | { readonly outcome: 'unable'; readonly reason: string };

/** What is known of the run since a welcome. */
interface Run {
  readonly workerId: string;
  readonly welcome: Message<'welcome'>;
  readonly engine: Engine;
  /** (P,) θ as it came last. */
  readonly params: Float32Array;
  readonly treeSum: TreeSum;
  readonly samples: SampleCache;
}

/** What outlives a connection. */
export interface Memory {
  run: Run | null;
  /** Settles when the engine has nothing to do any more for the connections so far. */
  idle: Promise<void>;
}

/** Work under one θ: micro-batches of a step, or blocks of an evaluation. */
type Task = {
  readonly globalStep: number;
  /** Ranges not begun. */
  readonly ranges: Range[];
  readonly numUnits: number;
} & (
  | { readonly kind: 'step'; readonly indices: Uint32Array }
  | {
      readonly kind: 'evaluation';
      readonly set: EvaluationSet;
      readonly first: number;
      readonly numImages: number;
    }
);

/** How one connection ended. */
type Ending =
  Outcome | { readonly outcome: 'lost'; readonly reason: string; readonly retryAfterMs: number };

/** One connection, from hello to its end. Only `Worker` makes one. */
export class Session implements ChannelHandler {
  wasReady = false;
  private readonly options: SessionOptions;
  private readonly channel: Channel;
  private readonly memory: Memory;
  private task: Task | null = null;
  private isComputing = false;
  private isOver = false;
  private isLeaving = false;
  private lastHeardAt: number;
  private heartbeatTimeoutMs = 10_000;
  private watchdog: Timer | null = null;
  /** Memory that frames have taken since it was last collected; what arrives is copied together out of pieces. */
  private garbageBytes = 0;
  private patience: Timer | null = null;
  private end: (ending: Ending) => void = () => undefined;
  private batch = { images: new Uint8Array(0), labels: new Uint8Array(0) };

  constructor(options: SessionOptions, channel: Channel, memory: Memory) {
    this.options = options;
    this.channel = channel;
    this.memory = memory;
    this.lastHeardAt = options.clock.now();
    channel.handler = this;
  }

  async work(signal: AbortSignal): Promise<Ending> {
    const { engineName, name, host, pid, token } = this.options;
    const { run } = this.memory;
    const ended = new Promise<Ending>((resolve) => (this.end = resolve));
    const leave = () => {
      this.isLeaving = true;
      this.task = null;
      this.send({ type: 'leave' });
      this.channel.close(CLOSE_CODES.left, 'leave');
      // A process that ends before the other side has closed may take its goodbye with it: what is sent to it then
      // resets the connection.
      this.patience = this.options.clock.schedule(GOODBYE_MS, () => this.end({ outcome: 'left' }));
    };
    signal.addEventListener('abort', leave, { once: true });
    this.send({
      type: 'hello',
      protocolVersion: PROTOCOL_VERSION,
      workerId: run?.workerId ?? null,
      token,
      engine: engineName,
      name,
      host,
      pid,
      datasetId: run?.samples.datasetId ?? null,
      cached: run?.samples.cached ?? new Uint8Array(0),
    });
    this.watch();
    const ending = await ended;
    this.isOver = true;
    this.task = null;
    this.watchdog?.cancel();
    this.patience?.cancel();
    signal.removeEventListener('abort', leave);
    return ending;
  }

  received(frame: Uint8Array): void {
    if (this.isOver || this.isLeaving) return;
    this.garbageBytes += 2 * frame.length;
    this.lastHeardAt = this.options.clock.now();
    try {
      this.dispatch(decodeCoordinatorMessage(frame));
    } catch (error) {
      this.fail(error);
    }
  }

  closed(code: number, reason: string): void {
    if (this.isLeaving) {
      this.end({ outcome: 'left' });
      return;
    }
    const said = reason === '' ? `code ${code}` : reason;
    this.end({ outcome: 'lost', reason: `connection closed: ${said}`, retryAfterMs: 0 });
  }

  private dispatch(message: CoordinatorMessage): void {
    switch (message.type) {
      case 'welcome':
        this.queue(() => this.prepare(message));
        break;
      case 'samples':
        this.joined().samples.store(message);
        break;
      case 'step':
      case 'evaluate':
        this.accept(message);
        break;
      case 'ping':
        this.send({ type: 'pong', sentAt: message.sentAt, workerTime: this.options.clock.now() });
        break;
      case 'finished':
        this.channel.close(CLOSE_CODES.finished, '');
        this.end(
          message.isFinal
            ? { outcome: 'finished', reason: message.reason }
            : { outcome: 'lost', reason: `the coordinator ${message.reason}`, retryAfterMs: 0 },
        );
        break;
      case 'refused': {
        const { reason, retryAfterMs } = message;
        this.end(
          retryAfterMs === null
            ? { outcome: 'refused', reason }
            : { outcome: 'lost', reason, retryAfterMs },
        );
        break;
      }
    }
  }

  /** Builds the engine that the welcome asks for, or keeps that of the same run, and proves it. */
  private async prepare(welcome: Message<'welcome'>): Promise<void> {
    if (this.isOver) return;
    const { createEngine, prove, log } = this.options;
    const model = buildModel(welcome.hyperparameters);
    if (model.numParams !== welcome.numParams) {
      throw new ProtocolError(
        'malformed',
        `Welcome with ${welcome.numParams} parameters, the model has ${model.numParams}`,
      );
    }
    const before = this.memory.run;
    const isSameModel =
      before !== null &&
      JSON.stringify(before.welcome.hyperparameters) === JSON.stringify(welcome.hyperparameters);
    const engine = isSameModel ? before.engine : await createEngine(model);
    if (before && !isSameModel) await before.engine.dispose();
    const isSameData =
      before?.samples.datasetId === welcome.datasetId &&
      before.samples.numSamples === welcome.numSamples;
    this.memory.run = {
      workerId: welcome.workerId,
      welcome,
      engine,
      params: isSameModel ? before.params : new Float32Array(model.numParams),
      treeSum: isSameModel ? before.treeSum : new TreeSum(engine),
      samples: isSameData ? before.samples : new SampleCache(welcome.datasetId, welcome.numSamples),
    };
    this.heartbeatTimeoutMs = welcome.heartbeatTimeoutMs;
    const proof = await prove(engine, welcome.proofSeed);
    if (this.hasEnded()) return;
    this.wasReady = true;
    this.send({
      type: 'ready',
      fingerprint: engine.fingerprint,
      isExact: engine.isExact,
      device: engine.device,
      proof: bytesOf(proof),
    });
    log(
      'info',
      `Joined run ${welcome.runId} as ${welcome.workerId}: ${engine.name} on ${engine.device}`,
    );
  }

  /** Takes new work, in place of any under an older θ, or more of the same. */
  private accept(message: Message<'step'> | Message<'evaluate'>): void {
    const { workerId, engine, welcome, params } = this.joined();
    const ranges: Range[] = message.shards[workerId] ?? [];
    const { globalStep } = message;
    if (message.params === null) {
      const { task } = this;
      const kind = message.type === 'step' ? 'step' : 'evaluation';
      // Work of a step that is over by now, sent before the coordinator knew.
      if (task?.kind !== kind || task.globalStep !== globalStep) return;
      task.ranges.push(...ranges);
    } else {
      copyFloat32(message.params, params, 'params');
      engine.setParams(params);
      if (message.type === 'step') {
        const indices = uint32From(message.indices, 'indices');
        const numUnits = Math.ceil(indices.length / welcome.microBatch);
        this.task = { kind: 'step', globalStep, ranges, numUnits, indices };
      } else {
        const { set, first, numImages } = message;
        const numUnits = Math.ceil(numImages / welcome.evaluationBlock);
        this.task = { kind: 'evaluation', globalStep, ranges, numUnits, set, first, numImages };
      }
    }
    if (this.isComputing) return;
    this.isComputing = true;
    this.queue(() => this.compute());
  }

  /** Does something with the engine once it is free: a call for an earlier connection may be under way. */
  private queue(work: () => Promise<void>): void {
    this.memory.idle = this.memory.idle.then(work).catch((error: unknown) => this.fail(error));
  }

  /** Computes as long as there is something to compute. */
  private async compute(): Promise<void> {
    try {
      for (;;) {
        const { task } = this;
        const range = task?.ranges.shift();
        if (!task || !range) {
          this.collectGarbage();
          return;
        }
        if (range[1] > task.numUnits) {
          throw new ProtocolError('malformed', `Work on [${range.join(', ')}) of ${task.numUnits}`);
        }
        if (task.kind === 'step') await this.computeGradients(task, range);
        else await this.computeEvaluation(task, range);
      }
    } finally {
      this.isComputing = false;
    }
  }

  private collectGarbage(): void {
    if (this.garbageBytes < GARBAGE_BYTES) return;
    this.garbageBytes = 0;
    this.options.collectGarbage();
  }

  private async computeGradients(task: Task & { kind: 'step' }, range: Range): Promise<void> {
    const { clock } = this.options;
    const { engine, treeSum, welcome, samples } = this.joined();
    const batchOf = ([lo, hi]: Range): Batch => {
      const indices = task.indices.subarray(lo * welcome.microBatch, hi * welcome.microBatch);
      return samples.gather(indices, this.batchMemory(indices.length));
    };
    for (const node of engine.isExact ? maximalNodes(range, task.numUnits) : [range]) {
      const startedAt = clock.now();
      const partial = engine.isExact
        ? await treeSum.sum(node, batchOf, () => this.proceed(task))
        : await treeSum.sumAtOnce(node, batchOf);
      if (!partial || this.task !== task) return;
      const { gradient, lossSum, numCorrect, numImages } = partial;
      this.send({
        type: 'partial',
        globalStep: task.globalStep,
        range: [node[0], node[1]],
        gradient: bytesOf(gradient),
        lossSum,
        numCorrect,
        numImages,
        startedAt,
        computeMs: clock.now() - startedAt,
      });
      if (!(await this.proceed(task))) return;
    }
  }

  private async computeEvaluation(
    task: Task & { kind: 'evaluation' },
    range: Range,
  ): Promise<void> {
    const { clock } = this.options;
    const { engine, welcome, samples } = this.joined();
    const { evaluationBlock } = welcome;
    const [lo, hi] = range;
    const startedAt = clock.now();
    const lossSums = new Float32Array(hi - lo);
    const end = Math.min(hi * evaluationBlock, task.numImages);
    const predictions = new Uint8Array(end - lo * evaluationBlock);
    for (let block = lo; block < hi; block++) {
      const begin = block * evaluationBlock;
      const length = Math.min(evaluationBlock, task.numImages - begin);
      const indices = Uint32Array.from({ length }, (_, i) => task.first + begin + i);
      const { images, labels } = samples.gather(indices, this.batchMemory(length));
      const evaluation = await engine.evaluate(images, labels);
      lossSums[block - lo] = evaluation.lossSum;
      predictions.set(evaluation.predictions, begin - lo * evaluationBlock);
      if (!(await this.proceed(task))) return;
    }
    this.send({
      type: 'evaluation',
      globalStep: task.globalStep,
      set: task.set,
      range: [lo, hi],
      lossSums: bytesOf(lossSums),
      predictions,
      startedAt,
      computeMs: clock.now() - startedAt,
    });
  }

  /** Lets frames in. @returns whether the task is still the one to work on */
  private async proceed(task: Task): Promise<boolean> {
    await this.options.clock.yield();
    return this.task === task;
  }

  private batchMemory(numImages: number): { images: Uint8Array; labels: Uint8Array } {
    if (this.batch.labels.length < numImages) {
      this.batch = {
        images: new Uint8Array(numImages * IMAGE_BYTES),
        labels: new Uint8Array(numImages),
      };
    }
    return this.batch;
  }

  /** A call, as the flag may have changed while something was awaited. */
  private hasEnded(): boolean {
    return this.isOver;
  }

  private joined(): Run {
    const { run } = this.memory;
    if (!run) throw new ProtocolError('unexpected', 'Expected a welcome first');
    return run;
  }

  private send(message: WorkerMessage): void {
    const frame = encode(message);
    this.garbageBytes += frame.length;
    this.channel.send(frame);
  }

  /** Ends the connection for what the coordinator, or the engine, did wrong. */
  private fail(error: unknown): void {
    if (this.isOver) return;
    const reason = messageOf(error);
    const code = error instanceof ProtocolError ? error.closeCode : 1011;
    this.channel.close(code, reason.slice(0, 100));
    if (error instanceof UserError) {
      this.end({ outcome: 'unable', reason });
      return;
    }
    this.options.log('warn', `Connection given up: ${reason}`);
    this.end({ outcome: 'lost', reason, retryAfterMs: 1_000 });
  }

  /** Takes a coordinator that is silent for too long for gone. */
  private watch(): void {
    const { clock } = this.options;
    const checkedAt = clock.now();
    const everyMs = this.heartbeatTimeoutMs / 4;
    this.watchdog = clock.schedule(everyMs, () => {
      const now = clock.now();
      // Where this process itself was held up, what the coordinator said meanwhile is still waiting to be read.
      if (now - checkedAt > 2 * everyMs) this.lastHeardAt = now;
      const silentMs = now - this.lastHeardAt;
      if (silentMs < this.heartbeatTimeoutMs) {
        this.watch();
        return;
      }
      this.channel.terminate();
      const reason = `the coordinator was silent for ${(silentMs / 1000).toFixed(1)} s`;
      this.end({ outcome: 'lost', reason, retryAfterMs: 0 });
    });
  }
}

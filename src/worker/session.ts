/**
 * One connection of a worker, from hello to its end: it computes what the coordinator asks for, and nothing else.
 */
import { buildModel, imageBytes, type Model } from '../model/lenet.js';
import { Regularizer } from '../model/regularizer.js';
import { frameBytes, type Channel, type ChannelHandler, type Frame } from '../shared/channel.js';
import type { Clock, Timer } from '../shared/clock.js';
import { bytesOf, decodeCoordinatorMessage, encode, float32From } from '../shared/codec.js';
import { DEADLINES } from '../shared/deadlines.js';
import { CLOSE_CODES, ProtocolError, UserError, messageOf } from '../shared/errors.js';
import {
  PROTOCOL_VERSION,
  type CoordinatorMessage,
  type Message,
  type RunProgress,
  type WorkerMessage,
} from '../shared/protocol.js';
import { formatBytes } from '../shared/format.js';
import { Assembly, Slices } from '../shared/slices.js';
import { answersTo } from './answers.js';
import type { Computation, CreateComputation } from './computation.js';
import type { Keepsake } from './keepsake.js';
import type { Memory } from './memory.js';
import { memoryNeeded } from './needs.js';
import { SampleCache } from './sample-cache.js';
import { addRanges, taskOf, type Task } from './task.js';
import { Watchdog } from './watchdog.js';

/** Frames that a worker reads and sends before it collects their memory, bytes. */
const GARBAGE_BYTES = 4 * 1024 * 1024;

export interface SessionOptions {
  readonly createComputation: CreateComputation;
  readonly engineName: string;
  readonly name: string;
  readonly host: string;
  readonly token: string | null;
  /** A run that would take more memory than this is not joined, bytes. */
  readonly maxMemoryBytes: number;
  /** How many threads will compute; 1 by default. */
  readonly threadsFor?: (model: Model, welcome: Message<'welcome'>) => number;
  readonly clock: Clock;
  /** Frees the memory of frames that have been read or sent; called while there is nothing to compute. */
  readonly collectGarbage: () => void;
  readonly log: (level: 'info' | 'warn' | 'debug', message: string) => void;
  /** Keeps identity and samples beyond this process; by default nothing does. */
  readonly keepsake?: Keepsake;
  /** Of a worker in a browser: whether its page is out of sight. */
  readonly isHidden?: () => boolean;
  /** Is told with each ping how the run is going. @param sentAt by the coordinator's clock, ms */
  readonly onProgress?: (progress: RunProgress, sentAt: number) => void;
}

/** What ends a worker's part in a run, where a connection ends it. */
export type Outcome =
  | { readonly outcome: 'finished'; readonly reason: string }
  | { readonly outcome: 'left' }
  | { readonly outcome: 'refused'; readonly reason: string }
  /** This machine has not the engine that it was to use, or not the memory. */
  | { readonly outcome: 'unable'; readonly reason: string };

/** How one connection ended. */
type Ending =
  Outcome | { readonly outcome: 'lost'; readonly reason: string; readonly retryAfterMs: number };

interface Joined {
  readonly welcome: Message<'welcome'>;
  readonly computation: Computation;
  readonly samples: SampleCache;
  readonly slices: Slices;
  /** Where slices of θ are put together: one is the task's, the other takes the next θ. */
  readonly params: [next: Assembly, last: Assembly] | null;
}

/** One connection, from hello to its end. Only `Worker` makes one. */
export class Session implements ChannelHandler {
  wasReady = false;
  /** As the welcome names them; null before it. */
  alternates: readonly string[] | null = null;
  private readonly options: SessionOptions;
  private readonly channel: Channel;
  private readonly memory: Memory;
  /** Once the worker has proved itself on this connection. */
  private joined: Joined | null = null;
  private task: Task | null = null;
  /** Whose θ the slices that have arrived are of; null before the first. */
  private assembledStep: number | null = null;
  /** Aborts the task. */
  private superseded = new AbortController();
  private isWelcome = false;
  private isComputing = false;
  private isOver = false;
  private isLeaving = false;
  /** For the run that it has been welcomed to. */
  private numThreads = 1;
  private readonly watchdog: Watchdog;
  /** Memory that frames have taken since it was last collected; what arrives is copied together out of pieces. */
  private garbageBytes = 0;
  private patience: Timer | null = null;
  private end: (ending: Ending) => void = () => undefined;

  constructor(options: SessionOptions, channel: Channel, memory: Memory) {
    this.options = options;
    this.channel = channel;
    this.memory = memory;
    this.watchdog = new Watchdog(options.clock, DEADLINES.welcomeMs, (ms) => this.silent(ms));
    channel.handler = this;
  }

  async work(signal: AbortSignal): Promise<Ending> {
    const { engineName, name, host, token, onProgress } = this.options;
    const { identity, samples } = this.memory;
    const ended = new Promise<Ending>((resolve) => (this.end = resolve));
    const leave = () => {
      this.isLeaving = true;
      this.supersede();
      this.send({ type: 'leave' });
      this.channel.close(CLOSE_CODES.left, 'leave');
      // A process that ends before the other side has closed may take its goodbye with it: what is sent to it then
      // resets the connection.
      this.patience = this.options.clock.schedule(DEADLINES.goodbyeMs, () =>
        this.end({ outcome: 'left' }),
      );
    };
    signal.addEventListener('abort', leave, { once: true });
    this.send({
      type: 'hello',
      protocolVersion: PROTOCOL_VERSION,
      workerId: identity?.workerId ?? null,
      secret: identity?.secret ?? null,
      token,
      engine: engineName,
      name,
      host,
      datasetId: samples?.datasetId ?? null,
      cached: samples?.cached ?? new Uint8Array(0),
      ...(onProgress && { wantsProgress: true }),
    });
    this.watchdog.watch();
    const ending = await ended;
    this.isOver = true;
    this.supersede();
    this.watchdog.cancel();
    this.patience?.cancel();
    signal.removeEventListener('abort', leave);
    return ending;
  }

  received(frame: Frame): void {
    if (this.isOver || this.isLeaving) return;
    this.garbageBytes += 2 * frameBytes(frame);
    this.watchdog.heard();
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
    // Whoever has the id now, such as a copy of this tab, keeps it: two that come back in turn would never end.
    if (code === CLOSE_CODES.replaced) this.memory.identity = null;
    const said = reason === '' ? `code ${code}` : reason;
    this.end({ outcome: 'lost', reason: `connection closed: ${said}`, retryAfterMs: 0 });
  }

  private dispatch(message: CoordinatorMessage): void {
    switch (message.type) {
      case 'welcome':
        // Each is worth a proof, which a coordinator that is hostile could ask for by the thousand.
        if (this.isWelcome) throw new ProtocolError('unexpected', 'A second welcome');
        this.isWelcome = true;
        this.queue(() => this.prepare(message));
        break;
      case 'samples': {
        const { samples, welcome } = this.expectJoined(message);
        samples.store(message, welcome.numClasses);
        this.options.keepsake?.keepSamples(message);
        break;
      }
      case 'paramsSlice':
        this.takeSlice(message);
        break;
      case 'step':
      case 'evaluate':
        this.accept(message);
        break;
      case 'ping':
        this.answerPing(message);
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

  /** Builds what the welcome asks for, or keeps what an earlier one of the same model asked for, and proves it. */
  private async prepare(welcome: Message<'welcome'>): Promise<void> {
    if (this.isOver) return;
    // A relay may have to wait long for its first worker, and lose whom it works for meanwhile.
    this.alternates = welcome.alternates;
    const { memory } = this;
    const model = modelOf(welcome);
    if (model.numParams !== welcome.numParams) {
      throw new ProtocolError(
        'malformed',
        `Welcome with ${welcome.numParams} parameters, the model has ${model.numParams}`,
      );
    }
    const { datasetId, numSamples } = welcome;
    const { maxMemoryBytes } = this.options;
    this.numThreads = this.options.threadsFor?.(model, welcome) ?? 1;
    const neededBytes = memoryNeeded(model, welcome, this.numThreads);
    if (neededBytes > maxMemoryBytes) {
      throw new UserError(
        `The run needs ${formatBytes(neededBytes)} of memory, ` +
          `more than the ${formatBytes(maxMemoryBytes)} that --max-memory allows${this.threadsHint}`,
      );
    }
    const numBytes = imageBytes(model.input);
    if (!memory.samples?.holds(datasetId, numSamples, numBytes)) {
      memory.samples = await this.fitting(() =>
        SampleCache.create(datasetId, numSamples, numBytes),
      );
    }
    memory.identity = { workerId: welcome.workerId, secret: welcome.secret };
    this.options.keepsake?.keepWelcome(memory.identity, memory.samples);
    this.watchdog.timeoutMs = welcome.heartbeatTimeoutMs;
    const regularizer = new Regularizer(model, welcome.regularization);
    const { createComputation } = this.options;
    const computation = await this.fitting(() =>
      memory.computationFor(model, regularizer, welcome, createComputation),
    );
    computation.welcomed?.(welcome);
    const proof = await computation.prove(welcome.proofSeed).catch(async (error: unknown) => {
      await this.forget(computation);
      throw error;
    });
    if (this.hasEnded()) return;
    const slices = new Slices(model.numParams, welcome.sliceValues);
    const assembly = () => new Assembly(slices, new Float32Array(model.numParams));
    this.joined = {
      welcome,
      computation,
      samples: memory.samples,
      slices,
      params: slices.isWhole ? null : [assembly(), assembly()],
    };
    this.wasReady = true;
    this.send({
      type: 'ready',
      fingerprint: computation.fingerprint,
      device: computation.device,
      proof: bytesOf(proof),
    });
    this.options.log(
      'info',
      `Joined run ${welcome.runId} as ${welcome.workerId}: ${computation.name} on ${computation.device}`,
    );
  }

  /**
   * Makes something whose memory is reserved at once.
   *
   * @throws {UserError} if there is not so much, or it cannot be addressed: the next connection would find no more
   */
  private async fitting<T>(make: () => T | Promise<T>): Promise<T> {
    try {
      return await make();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new UserError(
        `Cannot hold the run's model and samples in memory (${error.message})${this.threadsHint}`,
        { cause: error },
      );
    }
  }

  private get threadsHint(): string {
    return this.numThreads > 1 ? '; try fewer --threads' : '';
  }

  /** Takes new work, in place of any under an older θ, or more of the same. */
  private accept(message: Message<'step'> | Message<'evaluate'>): void {
    const { welcome } = this.expectJoined(message);
    const { globalStep } = message;
    if (message.params === null) {
      const { task } = this;
      const kind = message.type === 'step' ? 'step' : 'evaluation';
      // Work of a step that is over by now, sent before the coordinator knew.
      if (task?.kind !== kind || task.globalStep !== globalStep) return;
    } else {
      const params = this.completeParams(message, message.params);
      this.supersede();
      this.task = taskOf(message, welcome, params, this.superseded.signal);
    }
    addRanges(this.task!, message);
    if (this.isComputing) return;
    this.isComputing = true;
    this.queue(() => this.compute());
  }

  /** θ (P,), of which the last slice has come. */
  private completeParams(
    message: Message<'step'> | Message<'evaluate'>,
    bytes: Uint8Array,
  ): Float32Array {
    const { welcome, slices, params } = this.expectJoined(message);
    if (!params) return float32From(bytes, welcome.numParams, 'params');
    this.checkAssembled(message.globalStep);
    const [next] = params;
    next.take(slices.last[0], bytes, 'params');
    params.reverse();
    return next.values;
  }

  /** Takes a slice of the next θ, but not the last; a relay sends it on at once. */
  private takeSlice(message: Message<'paramsSlice'>): void {
    const { computation, params } = this.expectJoined(message);
    if (!params) throw new ProtocolError('unexpected', 'A slice of params, which come as a whole');
    const { globalStep, first, values } = message;
    if (first === 0) this.assembledStep = globalStep;
    this.checkAssembled(globalStep);
    const [next] = params;
    const index = next.take(first, values, 'params');
    computation.forwardSlice?.(globalStep, next.values, index);
  }

  /** @throws {ProtocolError} if the slices of θ that have arrived are of another step */
  private checkAssembled(globalStep: number): void {
    const { assembledStep } = this;
    if (assembledStep === globalStep) return;
    const message = `A slice of params of step ${globalStep} after one of step ${assembledStep}`;
    throw new ProtocolError('malformed', message);
  }

  /** Gives up the task under way, if there is one. */
  private supersede(): void {
    this.task = null;
    // Without a reason of its own each abort makes an exception, with its stack.
    this.superseded.abort('superseded');
    this.superseded = new AbortController();
  }

  private queue(work: () => Promise<void>): void {
    this.memory.queue(work, (error) => this.fail(error));
  }

  /** Computes as long as there is something to compute. */
  private async compute(): Promise<void> {
    const { computation, samples, slices } = this.joined!;
    const send = this.send.bind(this);
    try {
      for (;;) {
        const { task } = this;
        if (!task || task.ranges.length === 0) {
          this.collectGarbage();
          return;
        }
        await computation.run(task, samples, answersTo(task, slices, send));
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) await this.forget(computation);
      throw error;
    } finally {
      this.isComputing = false;
    }
  }

  private async forget(computation: Computation): Promise<void> {
    try {
      await this.memory.forget(computation);
    } catch (error) {
      this.options.log('debug', `The engine did not end well: ${messageOf(error)}`);
    }
  }

  private answerPing({ sentAt, progress }: Message<'ping'>): void {
    const { clock, isHidden, onProgress } = this.options;
    const numWorkers = this.memory.computation?.numWorkers;
    this.send({
      type: 'pong',
      sentAt,
      workerTime: clock.now(),
      ...(isHidden && { isHidden: isHidden() }),
      ...(numWorkers !== undefined && { numWorkers }),
    });
    if (progress) onProgress?.(progress, sentAt);
  }

  private collectGarbage(): void {
    if (this.garbageBytes < GARBAGE_BYTES) return;
    this.garbageBytes = 0;
    this.options.collectGarbage();
  }

  /** A call, as the flag may have changed while something was awaited. */
  private hasEnded(): boolean {
    return this.isOver;
  }

  private expectJoined({ type }: CoordinatorMessage): Joined {
    if (!this.joined) throw new ProtocolError('unexpected', `A ${type} before the welcome`);
    return this.joined;
  }

  /** @param left called when the message's memory may change */
  private send(message: WorkerMessage, left?: () => void): void {
    this.channel.send(encode(message), left);
  }

  /** Ends the connection for what the coordinator, or the engine, did wrong. */
  private fail(error: unknown): void {
    if (this.isOver) return;
    const reason = messageOf(error);
    const code = error instanceof ProtocolError ? error.closeCode : 1011;
    this.channel.close(code, reason);
    if (error instanceof UserError) {
      this.end({ outcome: 'unable', reason });
      return;
    }
    this.options.log('warn', `Connection given up: ${reason}`);
    this.end({ outcome: 'lost', reason, retryAfterMs: 1_000 });
  }

  /** Takes a coordinator that is silent for too long for gone. */
  private silent(silentMs: number): void {
    this.channel.terminate();
    const reason = `the coordinator was silent for ${(silentMs / 1000).toFixed(1)} s`;
    this.end({ outcome: 'lost', reason, retryAfterMs: 0 });
  }
}

/** @throws {ProtocolError} if there is no such model */
function modelOf(welcome: Message<'welcome'>): Model {
  try {
    return buildModel(welcome.hyperparameters, welcome);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ProtocolError('malformed', error.message, { cause: error });
  }
}

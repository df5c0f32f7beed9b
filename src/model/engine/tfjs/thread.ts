/**
 * An engine on a separate thread, for those that would block the event loop: a TensorFlow call returns when it is
 * done, and a GPU driver may compile shaders for seconds.
 *
 * Here is the near side, which looks like any engine; thread-main.ts is the far side. Arrays are copied once and
 * moved, never cloned.
 */
import { existsSync } from 'node:fs';
import { SHARE_ENV, Worker } from 'node:worker_threads';
import { DEADLINES } from '../../../shared/deadlines.js';
import { UserError } from '../../../shared/errors.js';
import {
  PLAIN_LOSS,
  type Engine,
  type Evaluation,
  type LossSum,
  type TrainingLoss,
} from '../engine.js';
import { checkBatch, checkImages, checkLength, checkLoss } from '../checks.js';
import type { DataShape, Hyperparameters, Model } from '../../lenet.js';
import type { TfjsEngineName } from './packages.js';

/** What the thread is started with. */
export interface ThreadStart extends DataShape {
  readonly name: TfjsEngineName;
  readonly hyperparameters: Hyperparameters;
  readonly device: number | null;
}

/** What the thread is asked; it answers in the same order. */
export type ThreadRequest =
  | { readonly kind: 'setParams'; readonly params: Float32Array }
  | ({
      readonly kind: 'gradient';
      readonly images: Uint8Array;
      readonly labels: Uint16Array;
    } & TrainingLoss)
  | { readonly kind: 'evaluate'; readonly images: Uint8Array; readonly labels: Uint16Array }
  | { readonly kind: 'predict'; readonly images: Uint8Array }
  | { readonly kind: 'dispose' };

export type ThreadReply =
  | { readonly kind: 'ready'; readonly fingerprint: string; readonly device: string }
  | { readonly kind: 'done'; readonly result: unknown }
  | { readonly kind: 'failed'; readonly message: string; readonly isUserError: boolean };

export interface GradientResult extends LossSum {
  readonly gradient: Float32Array;
}

export interface EngineThreadOptions {
  readonly device?: number | null;
  /** To load the library and open the device. */
  readonly startTimeoutMs?: number;
  /** For one call: a device that hangs is given up. */
  readonly callTimeoutMs?: number;
}

/** Always the built program: a thread of Node 20 cannot run TypeScript. Right from src/ and from dist/. */
const MAIN = new URL('../../../../dist/model/engine/tfjs/thread-main.js', import.meta.url);

/**
 * Starts the thread and waits until its engine is ready.
 *
 * @throws {UserError} if the engine cannot be had here, with the cure
 */
export async function startEngineThread(
  name: TfjsEngineName,
  model: Model,
  options: EngineThreadOptions = {},
): Promise<Engine> {
  if (!existsSync(MAIN)) throw new UserError(`Cannot start ${name}: run "npm run build" first`);
  const start: ThreadStart = {
    name,
    hyperparameters: model.hyperparameters,
    input: model.input,
    numClasses: model.numClasses,
    device: options.device ?? null,
  };
  const thread = new EngineThread(name, start, options.callTimeoutMs ?? DEADLINES.engineCallMs);
  try {
    const ready = await thread.ready(options.startTimeoutMs ?? DEADLINES.engineStartMs);
    return proxyOf(name, model, ready, thread);
  } catch (error) {
    await thread.stop();
    throw error;
  }
}

function proxyOf(
  name: TfjsEngineName,
  model: Model,
  { fingerprint, device }: { readonly fingerprint: string; readonly device: string },
  thread: EngineThread,
): Engine {
  /** The last parameters on their way: what goes wrong with them, the next call tells. */
  let setting: Promise<unknown> = Promise.resolve();
  const ask = async <T>(request: ThreadRequest): Promise<T> => {
    const [, result] = await Promise.all([setting, thread.ask(request)]);
    return result as T;
  };
  return {
    name,
    fingerprint,
    isExact: false,
    device,
    model,
    allocateGradient: () => new Float32Array(model.numParams),
    setParams(params) {
      checkLength('parameters', params, model.numParams);
      setting = thread.ask({ kind: 'setParams', params: params.slice() });
      // Reported by the next call.
      setting.catch(() => undefined);
    },
    async gradient(images, labels, out, loss = PLAIN_LOSS): Promise<LossSum> {
      const numImages = checkBatch(model, images, labels);
      checkLoss(model, loss, numImages);
      checkLength('gradient values', out, model.numParams);
      const { gradient, lossSum, numCorrect } = await ask<GradientResult>({
        kind: 'gradient',
        images: images.slice(),
        labels: labels.slice(),
        labelSmoothing: loss.labelSmoothing,
        masks: loss.masks?.slice() ?? null,
      });
      out.set(gradient);
      return { lossSum, numCorrect };
    },
    add(sum, term) {
      checkLength('values to add', term, sum.length);
      for (let i = 0; i < sum.length; i++) sum[i] += term[i];
    },
    async evaluate(images, labels) {
      checkBatch(model, images, labels);
      return ask<Evaluation>({
        kind: 'evaluate',
        images: images.slice(),
        labels: labels.slice(),
      });
    },
    async predict(images) {
      checkImages(model, images);
      return ask<Float32Array>({ kind: 'predict', images: images.slice() });
    },
    dispose: () => thread.close(),
  };
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** The thread and what it has not answered yet. */
class EngineThread {
  private readonly name: string;
  private readonly callTimeoutMs: number;
  private readonly worker: Worker;
  /** Those that wait for a reply, oldest first. */
  private readonly waiting: Waiting[] = [];
  /** Why it can answer no more. */
  private failure: Error | null = null;

  constructor(name: string, start: ThreadStart, callTimeoutMs: number) {
    this.name = name;
    this.callTimeoutMs = callTimeoutMs;
    // The environment is shared, not copied, as native libraries read the process's own.
    this.worker = new Worker(MAIN, { workerData: start, env: SHARE_ENV });
    this.worker.on('message', (reply: ThreadReply) => this.answer(reply));
    this.worker.on('error', (error) => this.fail(error));
    this.worker.on('exit', (code) => {
      this.fail(new Error(`The ${name} engine's thread ended with code ${code}`));
    });
  }

  async ready(timeoutMs: number): Promise<Extract<ThreadReply, { kind: 'ready' }>> {
    return (await this.wait(timeoutMs)) as Extract<ThreadReply, { kind: 'ready' }>;
  }

  async ask(request: ThreadRequest, timeoutMs = this.callTimeoutMs): Promise<unknown> {
    const reply = this.wait(timeoutMs);
    if (this.failure === null) this.worker.postMessage(request, buffersOf(request));
    return reply;
  }

  /** Lets the engine free what it holds, then ends the thread, in any case. */
  async close(): Promise<void> {
    try {
      await this.ask({ kind: 'dispose' }, DEADLINES.engineDisposeMs);
    } catch {
      // A thread that is gone or hangs has nothing left to free.
    } finally {
      await this.stop();
    }
  }

  async stop(): Promise<void> {
    this.fail(new Error(`The ${this.name} engine is disposed`));
    await this.worker.terminate();
  }

  private wait(timeoutMs: number): Promise<unknown> {
    if (this.failure !== null) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      // The process must not end while a reply is due, and must not stay for an idle thread.
      this.worker.ref();
      const timer = setTimeout(() => {
        this.fail(new Error(`The ${this.name} engine did not answer within ${timeoutMs / 1000} s`));
      }, timeoutMs);
      const settle = (): void => {
        clearTimeout(timer);
        if (this.waiting.length === 0) this.worker.unref();
      };
      this.waiting.push({
        resolve: (result) => {
          settle();
          resolve(result);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      });
    });
  }

  private answer(reply: ThreadReply): void {
    const oldest = this.waiting.shift();
    switch (reply.kind) {
      case 'ready':
        oldest?.resolve(reply);
        break;
      case 'done':
        oldest?.resolve(reply.result);
        break;
      case 'failed':
        oldest?.reject(reply.isUserError ? new UserError(reply.message) : new Error(reply.message));
        break;
    }
  }

  private fail(error: Error): void {
    this.failure ??= error;
    for (const call of this.waiting.splice(0)) call.reject(this.failure);
  }
}

function buffersOf(request: ThreadRequest): ArrayBuffer[] {
  return Object.values(request).flatMap((value) =>
    ArrayBuffer.isView(value) ? [value.buffer as ArrayBuffer] : [],
  );
}

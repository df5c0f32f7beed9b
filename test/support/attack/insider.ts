/** A real worker in this process: what is recorded, who comes newly, and who turns on the coordinator once it is in. */
import type { WebSocket } from 'ws';
import { createSimdEngine } from '../../../src/model/engine/simd/node.js';
import type { Channel, ChannelHandler, Frame } from '../../../src/shared/channel.js';
import { systemClock } from '../../../src/shared/clock.js';
import { createRandom } from '../../../src/shared/random.js';
import { EngineComputation } from '../../../src/worker/engine-computation.js';
import { Worker, type WorkerOutcome } from '../../../src/worker/worker.js';
import { dialFrom, type Door } from './target.js';

export interface InsiderOptions {
  readonly name: string;
  readonly address: string;
  /** Hears each frame that passes, before it is passed on. */
  readonly onFrame?: (frame: Frame, from: 'worker' | 'coordinator', socket: WebSocket) => void;
}

/** Works until the signal aborts, or it is sent away. */
export function startInsider(
  target: Door,
  { name, address, onFrame = () => undefined }: InsiderOptions,
  signal: AbortSignal,
): Promise<WorkerOutcome> {
  const worker = new Worker({
    dial: async () => {
      const [channel, webSocket] = await dialFrom(target, address);
      return new HeardChannel(channel, (frame, from) => onFrame(frame, from, webSocket));
    },
    session: {
      createComputation: (model, regularizer) =>
        Promise.resolve(
          new EngineComputation(createSimdEngine(model), { clock: systemClock, regularizer }),
        ),
      engineName: 'simd',
      name,
      host: 'attack',
      token: target.token,
      maxMemoryBytes: Infinity,
      clock: systemClock,
      collectGarbage: () => undefined,
      log: () => undefined,
    },
    random: createRandom(1, 'insider', name),
    retryForMs: Infinity,
  });
  return worker.work(signal);
}

/** A channel, and somebody who listens. */
class HeardChannel implements Channel {
  private readonly channel: Channel;
  private readonly hear: (frame: Frame, from: 'worker' | 'coordinator') => void;

  constructor(channel: Channel, hear: HeardChannel['hear']) {
    this.channel = channel;
    this.hear = hear;
  }

  get bufferedBytes(): number {
    return this.channel.bufferedBytes;
  }

  get isReceiving(): boolean {
    return this.channel.isReceiving;
  }

  get handler(): ChannelHandler {
    return this.channel.handler;
  }

  set handler(handler: ChannelHandler) {
    this.channel.handler = {
      received: (frame) => {
        this.hear(frame, 'coordinator');
        handler.received(frame);
      },
      drained: () => handler.drained?.(),
      closed: (code, reason) => handler.closed(code, reason),
    };
  }

  send(frame: Frame, left?: () => void): void {
    this.hear(frame, 'worker');
    this.channel.send(frame, left);
  }

  close(code: number, reason: string): void {
    this.channel.close(code, reason);
  }

  terminate(): void {
    this.channel.terminate();
  }
}

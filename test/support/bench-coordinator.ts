/**
 * What a step costs the coordinator, without its workers: its own code, over channels that answer at once. Decoding,
 * planning, reducing, updating and sending are counted; what the channels take for their answers is left out.
 *
 *   npm run bench:coordinator -- [--workers 4,16,64,256] [--steps 150]
 */
import { parseArgs } from 'node:util';
import { createSamples } from '../../src/coordinator/samples.js';
import { DIGITS, MNIST, imageBytes } from '../../src/model/lenet.js';
import type { Channel, ChannelHandler, Frame } from '../../src/shared/channel.js';
import { systemClock } from '../../src/shared/clock.js';
import { bytesOf, decodeCoordinatorMessage, encode } from '../../src/shared/codec.js';
import {
  PROTOCOL_VERSION,
  type CoordinatorMessage,
  type WorkerMessage,
} from '../../src/shared/protocol.js';
import { maximalNodes } from '../../src/shared/tree.js';
import { createHarness } from './coordinator-harness.js';
import { allTrainings } from './simulator/training.js';

const { values } = parseArgs({
  options: {
    workers: { type: 'string', default: '4,16,64,256' },
    steps: { type: 'string', default: '150' },
  },
});
const UNITS_PER_WORKER = 2;

/** What all channels of a bench share: answers under way, and the time that making them took. */
class Replay {
  replayMs = 0;
  readonly numUnits: number;
  private readonly gradient: Uint8Array;
  private queue: (() => void)[] = [];
  private lastFrame: Frame | null = null;
  private lastMessage: CoordinatorMessage | null = null;

  constructor(numUnits: number, numParams: number) {
    this.numUnits = numUnits;
    this.gradient = bytesOf(new Float32Array(numParams));
  }

  take(channel: ReplayChannel, frame: Frame): void {
    const from = performance.now();
    // One frame goes to many.
    if (frame !== this.lastFrame) this.lastMessage = decodeCoordinatorMessage(frame);
    this.lastFrame = frame;
    this.reply(channel, this.lastMessage!);
    this.replayMs += performance.now() - from;
  }

  say(channel: ReplayChannel, message: WorkerMessage): void {
    const frame = encode(message);
    this.queue.push(() => channel.handler.received(frame));
  }

  deliver(): void {
    for (const receive of this.queue.splice(0)) receive();
  }

  private reply(channel: ReplayChannel, message: CoordinatorMessage): void {
    if (message.type === 'welcome') {
      channel.workerId = message.workerId;
      const proof = new Uint8Array(4);
      this.say(channel, {
        ...{ type: 'ready', fingerprint: 'replay/1', device: 'none', proof },
      });
    } else if (message.type === 'step') {
      const ranges = message.shards[channel.workerId] ?? [];
      for (const [lo, hi] of ranges.flatMap((range) => maximalNodes(range, this.numUnits))) {
        this.say(channel, {
          type: 'partial',
          globalStep: message.globalStep,
          range: [lo, hi],
          gradient: this.gradient,
          ...{ lossSum: 0, numCorrect: 0, numImages: hi - lo, startedAt: 0, computeMs: 1 },
        });
      }
    }
  }
}

class ReplayChannel implements Channel {
  handler: ChannelHandler = { received: () => undefined, closed: () => undefined };
  workerId = '';
  readonly bufferedBytes = 0;
  readonly isReceiving = false;
  private readonly replay: Replay;

  constructor(replay: Replay) {
    this.replay = replay;
  }

  send(frame: Frame, left?: () => void): void {
    this.replay.take(this, frame);
    left?.();
  }

  close(): void {
    this.handler.closed(1000, '');
  }

  terminate(): void {
    this.handler.closed(1006, '');
  }
}

/** @returns of the median step, ms */
async function bench(numWorkers: number, numSteps: number): Promise<number> {
  const numUnits = UNITS_PER_WORKER * numWorkers;
  const { config, model } = allTrainings()[0];
  const replay = new Replay(numUnits, model.numParams);
  const blank = (count: number) => ({
    images: new Uint8Array(imageBytes(MNIST.input) * count),
    labels: new Uint16Array(count),
  });
  const stepMs: number[] = [];
  let stepFrom = 0;
  const { coordinator, run, stop } = createHarness({
    clock: systemClock,
    config: { ...config, batchSize: numUnits, microBatch: 1, epochs: 1 },
    samples: createSamples(
      {
        input: MNIST.input,
        classNames: DIGITS,
        train: blank(numUnits * numSteps),
        test: blank(10),
      },
      0,
    ),
    minWorkers: numWorkers,
    maxWorkers: numWorkers,
    heartbeatTimeoutMs: 600_000,
    verifyLedger: false,
    report(event) {
      if (event.type !== 'step') return;
      const now = performance.now();
      stepMs.push(now - stepFrom - replay.replayMs);
      stepFrom = now;
      replay.replayMs = 0;
    },
  });
  const ended = run();
  for (let i = 0; i < numWorkers; i++) {
    const channel = new ReplayChannel(replay);
    coordinator.accept(channel, 'bench');
    replay.say(channel, {
      type: 'hello',
      protocolVersion: PROTOCOL_VERSION,
      ...{ workerId: null, secret: null, token: 'secret', engine: 'simd' },
      ...{ name: `worker-${i}`, host: 'bench' },
      ...{ datasetId: null, cached: new Uint8Array(0) },
    });
  }
  while (stepMs.length < numSteps - 1) {
    replay.deliver();
    await systemClock.yield();
  }
  stop.abort();
  replay.deliver();
  await ended;
  const warm = stepMs.slice(Math.floor(numSteps / 3)).sort((a, b) => a - b);
  return warm[Math.floor(warm.length / 2)];
}

for (const numWorkers of values.workers.split(',').map(Number)) {
  const ms = await bench(numWorkers, Number(values.steps));
  const each = (1000 * ms) / numWorkers;
  const [workers, step] = [String(numWorkers).padStart(4), ms.toFixed(2).padStart(7)];
  console.log(`${workers} workers  ${step} ms a step  ${each.toFixed(0).padStart(4)} µs a worker`);
}

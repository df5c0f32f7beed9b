/** A worker that reads slowly, over real sockets: what waits for it is bounded, and eventually reaches it. */
import { once } from 'node:events';
import { expect, it, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import { MAX_QUEUED_BYTES } from '../../../src/coordinator/round/peer.js';
import { createSamples } from '../../../src/coordinator/samples.js';
import { defaultServerLimits, listen } from '../../../src/coordinator/server.js';
import { DIGITS, MNIST } from '../../../src/model/lenet.js';
import { systemClock } from '../../../src/shared/clock.js';
import { joinFrame } from '../../../src/shared/channel.js';
import { decodeCoordinatorMessage, encode } from '../../../src/shared/codec.js';
import { PROTOCOL_VERSION, type WorkerMessage } from '../../../src/shared/protocol.js';
import { createHarness } from '../../support/coordinator-harness.js';
import { allTrainings } from '../../support/simulator/training.js';

/** A step's images: 31 MB, more than any system buffers for a connection. */
const NUM_IMAGES = 40_000;
const LONGEST_FRAME_BYTES = 200_000;

it('a worker that stops reading is sent only what its queue takes, and the rest once it reads again', async () => {
  const noImages = (count: number) => ({
    images: new Uint8Array(784 * count),
    labels: new Uint16Array(count),
  });
  const { config } = allTrainings()[0];
  const { coordinator, run, stop } = createHarness({
    clock: systemClock,
    config: { ...config, batchSize: NUM_IMAGES, microBatch: 1_000, epochs: 1 },
    samples: createSamples(
      { input: MNIST.input, classNames: DIGITS, train: noImages(NUM_IMAGES), test: noImages(10) },
      0,
    ),
    heartbeatTimeoutMs: 600_000,
    verifyLedger: false,
  });
  let mostQueuedBytes = 0;
  let queued: () => void = () => undefined;
  const hasQueued = new Promise<void>((resolve) => (queued = resolve));
  const server = await listen({
    host: '127.0.0.1',
    port: 0,
    tls: null,
    longestFrameBytes: 100_000,
    limits: defaultServerLimits(100_000, 1),
    clock: systemClock,
    warn: () => undefined,
    handle: () => false,
    accept(channel, address) {
      const send = channel.send.bind(channel);
      channel.send = (frame) => {
        send(frame);
        mostQueuedBytes = Math.max(mostQueuedBytes, channel.bufferedBytes);
        if (channel.bufferedBytes > 0) queued();
      };
      coordinator.accept(channel, address);
    },
  });
  const ended = run();
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}`);
  onTestFinished(async () => {
    socket.terminate();
    stop.abort();
    await ended.catch(() => undefined);
    await server.close();
  });
  const say = (message: WorkerMessage) => socket.send(joinFrame(encode(message)));
  let numSamples = 0;
  const stepCame = new Promise<void>((resolve) => {
    socket.on('message', (data) => {
      const message = decodeCoordinatorMessage([data as Buffer]);
      if (message.type === 'welcome') {
        socket.pause();
        const proof = new Uint8Array(4);
        say({ type: 'ready', fingerprint: 'test/1', device: 'a test', proof });
      } else if (message.type === 'samples') numSamples += message.indices.length / 4;
      else if (message.type === 'step') resolve();
    });
  });
  await once(socket, 'open');
  say({
    type: 'hello',
    protocolVersion: PROTOCOL_VERSION,
    workerId: null,
    secret: null,
    token: 'secret',
    engine: 'reference',
    name: 'anna',
    host: 'box',
    datasetId: null,
    cached: new Uint8Array(0),
  });
  await hasQueued;
  socket.resume();
  await stepCame;
  expect(numSamples).toBe(NUM_IMAGES);
  expect(mostQueuedBytes).toBeLessThan(MAX_QUEUED_BYTES + LONGEST_FRAME_BYTES);
});

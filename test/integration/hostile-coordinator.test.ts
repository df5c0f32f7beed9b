/** A worker of whom a coordinator asks too much: it refuses, or computes, and a signal ends it whatever it does. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { WebSocketServer, type WebSocket } from 'ws';
import { initParams } from '../../src/model/init.js';
import { LENET5, MNIST, buildModel, type InputShape } from '../../src/model/lenet.js';
import { NO_REGULARIZATION } from '../../src/model/regularizer.js';
import { joinFrame } from '../../src/shared/channel.js';
import { bytesOf, decodeWorkerMessage, encode } from '../../src/shared/codec.js';
import type { CoordinatorMessage, Message, WorkerMessage } from '../../src/shared/protocol.js';
import { start } from '../support/lockstep.js';

/** What a worker is asked to end within is two seconds; a busy machine may take as long to run it at all. */
const MAX_END_MS = 5_000;
const NUM_SAMPLES = 4096;

/** A model whose micro-batches take minutes if there are enough images in them. */
function welcomeTo(
  channels: number[],
  input: InputShape,
  changes: Partial<Message<'welcome'>> = {},
): Message<'welcome'> {
  const hyperparameters = { ...LENET5, channels, hidden: [] };
  const { numParams } = buildModel(hyperparameters, { ...MNIST, input });
  return {
    type: 'welcome',
    ...{ workerId: 'w1', secret: 'ab'.repeat(32), runId: 'hostile', hyperparameters, input },
    ...{ numClasses: 10, regularization: NO_REGULARIZATION, microBatch: 1, evaluationBlock: 1 },
    ...{ numParams, datasetId: 'd1', numSamples: 1, proofSeed: 1, heartbeatTimeoutMs: 600_000 },
    sliceValues: 1e9,
    alternates: [],
    ...changes,
  };
}

/** Says the welcome to whoever says hello. @returns how to wait for a message of the worker, and to answer it */
async function coordinate(welcome: Message<'welcome'>) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  onTestFinished(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });
  const heard: WorkerMessage[] = [];
  let wake: () => void = () => undefined;
  let socket: WebSocket | null = null;
  const say = (...messages: CoordinatorMessage[]) => {
    for (const message of messages) socket!.send(joinFrame(encode(message)));
  };
  server.on('connection', (connection) => {
    socket = connection;
    connection.on('message', (frame: Buffer) => {
      const message = decodeWorkerMessage([frame]);
      heard.push(message);
      if (message.type === 'hello') say(welcome);
      wake();
    });
  });
  const hears = async (type: WorkerMessage['type']) => {
    while (!heard.some((message) => message.type === type)) {
      await new Promise<void>((resolve) => (wake = resolve));
    }
    heard.length = 0;
  };
  const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, say, hears };
}

const SMALL = { channels: 1, height: 28, width: 28 };
const LARGE = { channels: 4, height: 96, width: 96 };
const HEAVY = welcomeTo([256, 256], SMALL, {
  ...{ microBatch: NUM_SAMPLES, evaluationBlock: NUM_SAMPLES, numSamples: NUM_SAMPLES },
});
const WORKER = ['--engine', 'simd', '--max-memory', '4096'];

const params = () =>
  bytesOf(initParams(buildModel(HEAVY.hyperparameters, { ...MNIST, input: SMALL }), 1));
const allIndices = () => bytesOf(Uint32Array.from({ length: NUM_SAMPLES }, (_, index) => index));
const samples = (): Message<'samples'> => ({
  type: 'samples',
  indices: allIndices(),
  labels: bytesOf(new Uint16Array(NUM_SAMPLES)),
  pixels: new Uint8Array(NUM_SAMPLES * 784).fill(99),
});

test.each<[string, Message<'welcome'>, () => CoordinatorMessage[]]>([
  ['a proof that takes minutes', welcomeTo([512, 512], LARGE), () => []],
  [
    'a micro-batch that takes minutes',
    HEAVY,
    () => [
      samples(),
      {
        type: 'step',
        ...{ globalStep: 0, epoch: 0, params: params(), numImages: NUM_SAMPLES },
        ...{ ranges: [[0, 1]], indices: allIndices() },
      },
    ],
  ],
  [
    'an evaluation that takes minutes',
    HEAVY,
    () => [
      samples(),
      {
        type: 'evaluate',
        ...{ globalStep: 0, set: 'test', params: params(), first: 0, numImages: NUM_SAMPLES },
        ranges: [[0, 1]],
      },
    ],
  ],
])('SIGTERM ends a worker in %s, and pings are answered', async (_, welcome, work) => {
  const coordinator = await coordinate(welcome);
  const worker = start(['worker', coordinator.url, ...WORKER]);
  const messages = work();
  await coordinator.hears('hello');
  if (messages.length > 0) await coordinator.hears('ready');
  // By the second answer the worker has begun with what came before the first ping.
  for (let i = 0; i < 2; i++) {
    coordinator.say(...(i === 0 ? messages : []), { type: 'ping', sentAt: i });
    await coordinator.hears('pong');
  }
  worker.kill('SIGTERM');
  await coordinator.hears('leave');
  const { code, stderr, lastedMs } = await worker.ended;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(lastedMs).toBeLessThan(MAX_END_MS);
});

test('a worker refuses a run whose layers do not fit into its memory, with a sentence', async () => {
  const coordinator = await coordinate(welcomeTo([512, 512], LARGE));
  const worker = start(['worker', coordinator.url, '--engine', 'simd', '--max-memory', '1000']);
  const { code, stderr } = await worker.ended;
  expect(stderr).toMatch(
    /^lockstep: The run needs 2\.\d GB of memory, more than the 1\.0 GB that --max-memory allows\n$/,
  );
  expect(code).toBe(1);
});

test('a worker on the reference engine refuses what it would compute for minutes', async () => {
  const coordinator = await coordinate(HEAVY);
  const worker = start(['worker', coordinator.url, '--engine', 'reference']);
  const { code, stderr } = await worker.ended;
  expect(stderr).toBe(
    'lockstep: The reference engine is too slow for this model: use --engine simd\n',
  );
  expect(code).toBe(1);
});

/**
 * What a step costs the coordinator, without its workers: its own code, over channels that answer at once with partials
 * prepared for it. Decoding, planning, reducing, updating and sending are its own; what the channels take is left out.
 *
 *   node scripts/bench-coordinator.mjs [--workers 4,16,64,256] [--steps 300] [--dist DIR]
 */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    workers: { type: 'string', default: '4,16,64,256' },
    steps: { type: 'string', default: '300' },
    dist: { type: 'string', default: 'dist' },
  },
});
const load = (path) => import(pathToFileURL(resolve(values.dist, path)).href);
const [{ Coordinator }, { createSamples }, { buildModel }, { createReferenceEngine }] =
  await Promise.all([
    load('coordinator/coordinator.js'),
    load('coordinator/samples.js'),
    load('model/lenet.js'),
    load('model/engine/reference.js'),
  ]);
const [{ createVectorOps }, { parseRunConfig }, { PROTOCOL_VERSION }, codec, tree, clocks, random] =
  await Promise.all([
    load('model/engine/simd/vector.js'),
    load('shared/config.js'),
    load('shared/protocol.js'),
    load('shared/codec.js'),
    load('shared/tree.js'),
    load('shared/clock.js'),
    load('shared/random.js'),
  ]);

const UNITS_PER_WORKER = 2;
/** Few parameters: a frame of them costs next to nothing, a step is what it takes to run it. */
const hyperparameters = {
  kernelSize: 5,
  channels: [1],
  padding: 2,
  stride: 3,
  hidden: [4],
  activation: 'tanh',
  pool: 'avg',
};

/** A worker that answers at once. */
class ReplayChannel {
  bufferedBytes = 0;
  isReceiving = false;
  handler = null;
  workerId = null;

  constructor(bench) {
    this.bench = bench;
  }

  send(frame) {
    this.bench.replay(() => {
      const message = this.bench.decode(frame);
      if (message.type === 'welcome') {
        this.workerId = message.workerId;
        const proof = new Uint8Array(4);
        this.answer({
          type: 'ready',
          fingerprint: 'replay/1',
          isExact: true,
          device: 'none',
          proof,
        });
      } else if (message.type === 'ping') {
        this.answer({ type: 'pong', sentAt: message.sentAt, workerTime: message.sentAt });
      } else if (message.type === 'step') {
        for (const range of message.shards[this.workerId] ?? []) {
          for (const node of tree.maximalNodes(range, this.bench.numUnits)) {
            this.answer(this.bench.partial(message.globalStep, node));
          }
        }
      }
    });
  }

  answer(message) {
    const frame = codec.encode(message);
    this.bench.queue.push(() => this.handler.received(frame));
  }

  close() {}
  terminate() {}
}

/** @returns milliseconds of the median step */
async function bench(numWorkers) {
  const numUnits = UNITS_PER_WORKER * numWorkers;
  const numSteps = Number(values.steps);
  const config = parseRunConfig({
    hyperparameters,
    dataset: 'replay',
    epochs: 1,
    batchSize: numUnits,
    microBatch: 1,
  });
  const model = buildModel(config.hyperparameters);
  const gradient = codec.bytesOf(new Float32Array(model.numParams));
  let replayMs = 0;
  let lastFrame = null;
  let lastMessage = null;
  const channelsOwn = {
    numUnits,
    queue: [],
    /** Takes the time of what is not the coordinator's. */
    replay(work) {
      const from = performance.now();
      work();
      replayMs += performance.now() - from;
    },
    decode(frame) {
      if (frame !== lastFrame) lastMessage = codec.decodeCoordinatorMessage(frame);
      lastFrame = frame;
      return lastMessage;
    },
    partial: (globalStep, range) => ({
      type: 'partial',
      globalStep,
      range,
      gradient,
      lossSum: 0,
      numCorrect: 0,
      numImages: range[1] - range[0],
      startedAt: 0,
      computeMs: 1,
    }),
  };
  const images = (n) => ({ images: new Uint8Array(784 * n), labels: new Uint8Array(n) });
  const arbiter = createReferenceEngine(model);
  const stepMs = [];
  let stepFrom = 0;
  const coordinator = new Coordinator({
    runId: 'bench',
    name: 'bench',
    config,
    samples: createSamples(images(numUnits * numSteps), images(10), 0),
    clock: clocks.systemClock,
    random: random.createRandom(1, 'bench'),
    auditRandom: random.createRandom(1, 'bench', 'audit'),
    workerKey: new Uint8Array(32),
    report(event) {
      if (event.type !== 'step') return;
      const now = performance.now();
      stepMs.push(now - stepFrom - replayMs);
      stepFrom = now;
      replayMs = 0;
    },
    arbiter,
    vectors: createVectorOps(model.numParams),
    judge: () => ({ isAccepted: true, isExact: true }),
    isTokenRight: () => true,
    minWorkers: numWorkers,
    maxWorkers: numWorkers,
    heartbeatTimeoutMs: 60_000,
    checkpointEveryMs: 1e9,
    checkpointEverySteps: 0,
    targetAccuracy: null,
    audit: 0,
    verifyLedger: false,
    resumeFrom: null,
    save: () => Promise.resolve({ path: '', bytes: 0 }),
  });
  const stop = new AbortController();
  const run = coordinator.run(stop.signal);
  for (let i = 0; i < numWorkers; i++) {
    const channel = new ReplayChannel(channelsOwn);
    coordinator.accept(channel, 'bench');
    channel.answer({
      type: 'hello',
      protocolVersion: PROTOCOL_VERSION,
      workerId: null,
      secret: null,
      token: null,
      engine: 'simd',
      name: `worker-${i}`,
      host: 'bench',
      pid: i,
      datasetId: null,
      cached: new Uint8Array(0),
    });
  }
  while (stepMs.length < numSteps - 1) {
    for (const receive of channelsOwn.queue.splice(0)) receive();
    await new Promise((resolve) => setImmediate(resolve));
  }
  stop.abort();
  await run;
  const warm = stepMs.slice(Math.floor(stepMs.length / 3)).sort((a, b) => a - b);
  return warm[Math.floor(warm.length / 2)];
}

for (const numWorkers of values.workers.split(',').map(Number)) {
  const ms = await bench(numWorkers);
  const each = (1000 * ms) / numWorkers;
  console.log(
    `${String(numWorkers).padStart(4)} workers  ${ms.toFixed(2).padStart(7)} ms a step  ${each.toFixed(0).padStart(4)} µs a worker`,
  );
}

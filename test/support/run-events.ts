/**
 * Events of a run for the tests of its observers: two workers, one step of 64 images each 4 ms.
 */
import type {
  CheckpointDone,
  EvaluationDone,
  Notice,
  PartialTrace,
  RunFinished,
  RunResult,
  RunStarted,
  StepDone,
  StepTimes,
  WorkerJoined,
  WorkerLost,
  WorkerPinged,
  WorkerShare,
} from '../../src/coordinator/events.js';
import { parseRunConfig } from '../../src/shared/config.js';
import { DIGITS, MNIST } from '../../src/model/lenet.js';

/** 2026-01-02 03:04:05 UTC */
export const START = Date.UTC(2026, 0, 2, 3, 4, 5);
export const NUM_PARAMS = 61_706;
const PARAMS = new Float32Array(NUM_PARAMS);
export const WORKERS = ['anna', 'bert'] as const;

export function started(changes: Partial<RunStarted> = {}): RunStarted {
  return {
    type: 'started',
    time: START,
    runId: 'run-1',
    name: 'first',
    config: parseRunConfig({ epochs: 12, microBatch: 16 }),
    input: MNIST.input,
    classNames: DIGITS,
    numParams: NUM_PARAMS,
    numTrain: 60_000,
    numValidation: 0,
    numTest: 10_000,
    stepsPerEpoch: 938,
    totalSteps: 11_256,
    globalStep: 0,
    isResumed: false,
    secondsBefore: 0,
    params: null,
    ...changes,
  };
}

export function times(changes: Partial<Omit<StepTimes, 'totalMs'>> = {}): StepTimes {
  const parts = {
    planMs: 0.1,
    broadcastMs: 0.2,
    computeMs: 3,
    wireMs: 0.4,
    reduceMs: 0.1,
    updateMs: 0.2,
    waitMs: 0,
    ...changes,
  };
  return { ...parts, totalMs: Object.values(parts).reduce((sum, part) => sum + part, 0) };
}

export function share(workerId: string, changes: Partial<WorkerShare> = {}): WorkerShare {
  return {
    workerId,
    name: workerId,
    numMicroBatches: 2,
    numImages: 32,
    computeMs: 3,
    roundTripMs: 3.6,
    ...changes,
  };
}

/** The partial of a worker that began 0.3 ms after the step, took 3 ms, and `wireMs` to be there. */
export function partial(
  workerId: string,
  startedAt: number,
  wireMs = 0.4,
  changes: Partial<PartialTrace> = {},
): PartialTrace {
  return {
    workerId,
    range: [0, 2],
    startedAt: startedAt + 0.3,
    computeMs: 3,
    receivedAt: startedAt + 3.3 + wireMs,
    wasUsed: true,
    ...changes,
  };
}

export function step(globalStep: number, changes: Partial<StepDone> = {}): StepDone {
  const startedAt = START + 4 * globalStep;
  return {
    type: 'step',
    time: startedAt + 4,
    globalStep,
    epoch: Math.floor(globalStep / 938),
    numImages: 64,
    loss: 0.5,
    accuracy: 0.875,
    learningRate: 0.006,
    worldSize: WORKERS.length,
    times: times(),
    workers: WORKERS.map((workerId) => share(workerId)),
    queuedBytes: new Map(),
    startedAt,
    partials: WORKERS.map((workerId) => partial(workerId, startedAt)),
    params: PARAMS,
    ...changes,
  };
}

export function evaluation(changes: Partial<EvaluationDone> = {}): EvaluationDone {
  return {
    type: 'evaluation',
    time: START + 4000,
    set: 'test',
    globalStep: 938,
    epoch: 1,
    loss: 0.0921,
    accuracy: 0.9731,
    seconds: 0.31,
    numImages: 10_000,
    predictions: new Uint16Array(0),
    labels: new Uint16Array(0),
    images: new Uint8Array(0),
    params: PARAMS,
    ...changes,
  };
}

export function joined(name: string, changes: Partial<WorkerJoined> = {}): WorkerJoined {
  return {
    type: 'workerJoined',
    time: START,
    workerId: name,
    name,
    host: 'box',
    engine: 'simd',
    device: 'WebAssembly SIMD',
    isExact: true,
    worldSize: 1,
    isReturn: false,
    ...changes,
  };
}

export function lost(name: string, changes: Partial<WorkerLost> = {}): WorkerLost {
  return {
    type: 'workerLost',
    time: START + 50,
    workerId: name,
    name,
    worldSize: 1,
    isGraceful: false,
    phase: 'computing',
    lastSeen: START + 40,
    message: `Lost ${name} while computing; its 2 micro-batches went to the others`,
    ...changes,
  };
}

export function pinged(workerId: string, changes: Partial<WorkerPinged> = {}): WorkerPinged {
  return {
    type: 'workerPinged',
    time: START,
    workerId,
    roundTripMs: 0.5,
    clockOffsetMs: 1.5,
    isHidden: null,
    ...changes,
  };
}

export function checkpoint(changes: Partial<CheckpointDone> = {}): CheckpointDone {
  return {
    type: 'checkpoint',
    time: START + 4010,
    globalStep: 938,
    path: 'runs/first/checkpoints/step-938.safetensors',
    bytes: 741_000,
    seconds: 0.008,
    ...changes,
  };
}

export function notice(message: string, level: Notice['level'] = 'info'): Notice {
  return { type: 'notice', time: START, level, message };
}

export function finished(changes: Partial<RunResult> = {}): RunFinished {
  return {
    type: 'finished',
    time: START + 45_000,
    result: {
      outcome: 'finished',
      testAccuracy: 0.9914,
      testLoss: 0.0271,
      best: { set: 'test', accuracy: 0.9916, globalStep: 10_318 },
      weightsSha256: 'ab'.repeat(32),
      globalStep: 11_256,
      epochs: 12,
      imagesPerSecond: 16_000,
      seconds: 45,
      workers: WORKERS.map((workerId) => ({
        workerId,
        name: workerId,
        engine: 'simd',
        device: 'WebAssembly SIMD',
        isExact: true,
        numImages: 360_000,
      })),
      reproducible: true,
      engineFingerprint: 'simd/1',
      faults: {},
      ...changes,
    },
  };
}

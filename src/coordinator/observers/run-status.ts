/** The state behind the live status: updated by events, formatted by status-lines.ts. Pure. */
import { printable } from '../../shared/printable.js';
import type { RunEvent, RunStarted, StepDone } from '../events.js';
import { addToHistory, createHistory, type History } from './sparkline.js';

interface WorkerStatus {
  readonly workerId: string;
  readonly name: string;
  engine: string;
  readonly isExact: boolean;
  state: 'ready' | 'working' | 'idle' | 'left' | 'lost';
  /** Fraction of the last step's images. */
  share: number;
  /** Compute time of a step, smoothed, ms. */
  computeMs: number | null;
  /** Of the last ping. */
  roundTripMs: number | null;
  lostAt: number | null;
}

/** What is known of the run, and smoothed over the last steps. */
export interface RunStatus {
  run: RunStarted | null;
  /** Updates made. */
  globalStep: number;
  numStepsSeen: number;
  lastStepAt: number;
  loss: number;
  accuracy: number;
  readonly losses: History;
  readonly accuracies: History;
  testAccuracy: number | null;
  imagesPerStep: number;
  stepMs: number;
  computeMs: number;
  wireMs: number;
  /** From one step to the next, with evaluations between them. */
  cycleMs: number;
  worldSize: number;
  isPaused: boolean;
  /** For as many workers as it is to have, though some may be there. */
  isWaiting: boolean;
  readonly workers: Map<string, WorkerStatus>;
}

export function createRunStatus(): RunStatus {
  return {
    run: null,
    globalStep: 0,
    numStepsSeen: 0,
    lastStepAt: 0,
    loss: 0,
    accuracy: 0,
    losses: createHistory(),
    accuracies: createHistory(),
    testAccuracy: null,
    imagesPerStep: 0,
    stepMs: 0,
    computeMs: 0,
    wireMs: 0,
    cycleMs: 0,
    worldSize: 0,
    isPaused: false,
    isWaiting: false,
    workers: new Map(),
  };
}

/** Workers gone for longer are forgotten, ms; they are shown for less. */
const FORGET_MS = 60_000;
/** Steps over which figures are averaged. */
const SMOOTHING = 50;

/** Takes an event into the state. */
export function updateRunStatus(status: RunStatus, event: RunEvent): void {
  switch (event.type) {
    case 'started':
      status.run = event;
      status.globalStep = event.globalStep;
      break;
    case 'step':
      updateStep(status, event);
      break;
    case 'evaluation':
      if (event.set === 'test') status.testAccuracy = event.accuracy;
      break;
    case 'workerJoined':
      status.worldSize = event.worldSize;
      status.workers.set(event.workerId, {
        workerId: event.workerId,
        name: printable(event.name),
        engine: printable(event.engine),
        isExact: event.isExact,
        state: 'ready',
        share: 0,
        computeMs: null,
        roundTripMs: null,
        lostAt: null,
      });
      break;
    case 'workerLost': {
      status.worldSize = event.worldSize;
      const worker = status.workers.get(event.workerId);
      if (worker === undefined) break;
      for (const [id, { lostAt }] of status.workers) {
        if (lostAt !== null && event.time - lostAt > FORGET_MS) status.workers.delete(id);
      }
      worker.state = event.isGraceful ? 'left' : 'lost';
      worker.share = 0;
      worker.lostAt = event.time;
      break;
    }
    case 'workerPinged': {
      const worker = status.workers.get(event.workerId);
      if (worker === undefined) break;
      worker.roundTripMs = event.roundTripMs;
      if (event.numWorkers !== undefined) worker.engine = `relay of ${event.numWorkers}`;
      break;
    }
    case 'waiting':
      status.isWaiting = true;
      break;
    case 'paused':
      status.isPaused = event.isPaused;
      // The pause is no part of the pace.
      status.lastStepAt = event.time;
      break;
    case 'checkpoint':
    case 'notice':
    case 'finished':
      break;
  }
}

function updateStep(status: RunStatus, event: StepDone): void {
  const numSeen = status.numStepsSeen;
  const smooth = (mean: number, value: number, numSteps = SMOOTHING) =>
    mean + (value - mean) / Math.min(numSteps, numSeen + 1);
  status.loss = smooth(status.loss, event.loss);
  status.accuracy = smooth(status.accuracy, event.accuracy);
  status.imagesPerStep = smooth(status.imagesPerStep, event.numImages);
  const { totalMs, waitMs } = event.times;
  // Waiting for workers is no part of the pace.
  status.stepMs = smooth(status.stepMs, totalMs - waitMs);
  status.computeMs = smooth(status.computeMs, event.times.computeMs);
  status.wireMs = smooth(status.wireMs, event.times.wireMs);
  const cycleMs = (numSeen === 0 ? totalMs : event.time - status.lastStepAt) - waitMs;
  status.cycleMs = smooth(
    status.cycleMs,
    cycleMs,
    Math.max(SMOOTHING, status.run?.stepsPerEpoch ?? 0),
  );
  // A loss falls by orders of magnitude: its logarithm makes the curve that one can see.
  addToHistory(status.losses, Math.log(event.loss));
  addToHistory(status.accuracies, event.accuracy);
  status.globalStep = event.globalStep + 1;
  status.isWaiting = false;
  status.numStepsSeen++;
  status.lastStepAt = event.time;
  status.worldSize = event.worldSize;

  const shares = new Map(event.workers.map((share) => [share.workerId, share]));
  for (const worker of status.workers.values()) {
    if (worker.lostAt !== null) continue;
    const share = shares.get(worker.workerId);
    worker.state = share === undefined ? 'idle' : 'working';
    worker.share = share === undefined ? 0 : share.numImages / event.numImages;
    if (share !== undefined) {
      worker.computeMs ??= share.computeMs;
      worker.computeMs += (share.computeMs - worker.computeMs) / 10;
    }
  }
}

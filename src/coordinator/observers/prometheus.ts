/** A run as Prometheus metrics, and health checks. The series of a worker disappear with it. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Registry, collectDefaultMetrics } from 'prom-client';
import type { Observer, RunEvent, StepDone, StepTimes, WorkerJoined } from '../events.js';
import {
  createMetrics,
  startCounters,
  type InfoLabel,
  type Metrics,
  type WorkerLabel,
} from './prometheus-metrics.js';

export interface Prometheus {
  readonly observe: Observer;
  /** The metrics in the text format of `contentType`. */
  metrics(): Promise<string>;
  readonly contentType: string;
  /** Null when steps are made or could be; else why not, in a few words. */
  whyNotReady(): string | null;
  /**
   * Answers `/metrics`, `/healthz` and `/readyz`.
   *
   * @returns false if the request is for something else; it has not been touched then
   */
  handle(request: IncomingMessage, response: ServerResponse): boolean;
}

const PARTS = {
  plan: 'planMs',
  broadcast: 'broadcastMs',
  compute: 'computeMs',
  wire: 'wireMs',
  reduce: 'reduceMs',
  update: 'updateMs',
  wait: 'waitMs',
} as const satisfies Record<string, keyof StepTimes>;
type Part = keyof typeof PARTS;

/** A worker that is here: its labels, and what it did since the metrics were last set. */
interface PresentWorker {
  readonly labels: Record<WorkerLabel, string>;
  readonly info: Record<InfoLabel, string>;
  numImages: number;
  computeMs: number;
  share: number;
  queuedBytes: number;
}

/** What the metrics of an event depend on besides it. */
interface Recording {
  readonly metrics: Metrics;
  readonly workers: Map<string, PresentWorker>;
  stepsPerEpoch: number;
  /** Steps since the metrics were last set; setting them at each step would cost more than all other observers. */
  numSteps: number;
  numImages: number;
  lastStep: StepDone | null;
}

export function createPrometheus(): Prometheus {
  const registry = new Registry();
  const recording: Recording = {
    metrics: createMetrics(registry),
    workers: new Map(),
    stepsPerEpoch: 1,
    numSteps: 0,
    numImages: 0,
    lastStep: null,
  };
  startCounters(recording.metrics);
  collectDefaultMetrics({ register: registry, prefix: 'lockstep_' });
  // Gauges that end like counters; there are others, by type, without that ending.
  for (const name of ['handles', 'requests', 'resources']) {
    registry.removeSingleMetric(`lockstep_nodejs_active_${name}_total`);
  }
  let state: 'starting' | 'training' | 'finished' = 'starting';

  /** For as many workers as it is to have, though some may be there. */
  let isWaiting = false;
  const observe: Observer = (event) => {
    if (event.type === 'started') state = 'training';
    if (event.type === 'finished') state = 'finished';
    if (event.type === 'waiting') isWaiting = true;
    if (event.type === 'step') isWaiting = false;
    record(recording, event);
  };
  const whyNotReady = () => {
    if (state !== 'training') return state;
    return isWaiting || recording.workers.size === 0 ? 'waiting for workers' : null;
  };

  const metrics = () => {
    setStepMetrics(recording);
    return registry.metrics();
  };

  return {
    observe,
    metrics,
    contentType: registry.contentType,
    whyNotReady,
    handle(request, response) {
      const path = request.url?.split('?')[0];
      if (path !== '/metrics' && path !== '/healthz' && path !== '/readyz') return false;
      const send = (status: number, body: string, contentType = 'text/plain; charset=utf-8') => {
        response.writeHead(status, {
          'content-type': contentType,
          'content-length': Buffer.byteLength(body),
          'cache-control': 'no-store',
          'x-content-type-options': 'nosniff',
          ...(status === 405 && { allow: 'GET, HEAD' }),
        });
        response.end(request.method === 'HEAD' ? undefined : body);
      };
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        send(405, 'Only GET and HEAD\n');
      } else if (path === '/healthz') {
        send(200, 'ok\n');
      } else if (path === '/readyz') {
        // No more is revealed.
        if (whyNotReady() === null) send(200, 'ok\n');
        else send(503, 'not ready\n');
      } else {
        metrics().then(
          (text) => send(200, text, registry.contentType),
          () => send(500, 'Cannot collect the metrics\n'),
        );
      }
      return true;
    },
  };
}

function record(recording: Recording, event: RunEvent): void {
  const { metrics, workers } = recording;
  if (event.type !== 'step') setStepMetrics(recording);
  switch (event.type) {
    case 'started': {
      const { runId, name, config } = event;
      metrics.runInfo.set(
        {
          run_id: runId,
          run: name,
          dataset: config.dataset,
          optimizer: config.optimizer,
          seed: String(config.seed),
        },
        1,
      );
      metrics.plannedSteps.set(event.totalSteps);
      metrics.globalStep.set(event.globalStep);
      recording.stepsPerEpoch = event.stepsPerEpoch;
      metrics.epoch.set(event.globalStep / event.stepsPerEpoch);
      break;
    }
    case 'step':
      recordStep(recording, event);
      break;
    case 'evaluation':
      metrics.loss.set({ set: event.set }, event.loss);
      metrics.accuracy.set({ set: event.set }, event.accuracy);
      metrics.evaluationSeconds.observe({ set: event.set }, event.seconds);
      break;
    case 'checkpoint':
      metrics.checkpointSeconds.observe(event.seconds);
      metrics.checkpointBytes.set(event.bytes);
      metrics.checkpointTime.set(event.time / 1000);
      metrics.checkpointStep.set(event.globalStep);
      break;
    case 'workerJoined':
      metrics.joins.inc();
      metrics.workers.set(event.worldSize);
      removeWorker(recording, event.workerId);
      addWorker(recording, event);
      break;
    case 'workerLost':
      if (event.isGraceful) metrics.leaves.inc();
      else metrics.losses.inc({ phase: event.phase });
      metrics.workers.set(event.worldSize);
      removeWorker(recording, event.workerId);
      break;
    case 'workerPinged': {
      const worker = workers.get(event.workerId);
      if (worker === undefined) break;
      metrics.workerPing.set(worker.labels, event.roundTripMs / 1000);
      if (event.numWorkers !== undefined) metrics.workerBehind.set(worker.labels, event.numWorkers);
      metrics.workerClockOffset.set(worker.labels, event.clockOffsetMs / 1000);
      if (event.isHidden !== null) metrics.workerHidden.set(worker.labels, Number(event.isHidden));
      break;
    }
    case 'paused':
      metrics.paused.set(Number(event.isPaused));
      break;
    case 'notice':
      metrics.notices.inc({ level: event.level });
      break;
    case 'finished':
      metrics.finished.set(1);
      break;
    // Of interest to `whyNotReady` only.
    case 'waiting':
      break;
  }
}

const PART_NAMES = Object.keys(PARTS) as Part[];
const PART_LABELS = Object.fromEntries(PART_NAMES.map((part) => [part, { part }])) as Record<
  Part,
  { part: Part }
>;

function recordStep(recording: Recording, event: StepDone): void {
  const { metrics, workers } = recording;
  const { times, numImages } = event;
  recording.numSteps++;
  recording.numImages += numImages;
  recording.lastStep = event;
  metrics.stepSeconds.observe(times.totalMs / 1000);
  for (const part of PART_NAMES) {
    metrics.stepPartSeconds.observe(PART_LABELS[part], times[PARTS[part]] / 1000);
  }
  for (const [workerId, worker] of workers) {
    worker.share = 0;
    worker.queuedBytes = event.queuedBytes.get(workerId) ?? 0;
  }
  for (const share of event.workers) {
    // A worker that was lost during the step may still have done a part of it; its labels are gone.
    const worker = workers.get(share.workerId);
    if (worker === undefined) continue;
    worker.numImages += share.numImages;
    worker.computeMs += share.computeMs;
    worker.share = share.numImages / numImages;
  }
}

/** Sets what steps since the last time changed. */
function setStepMetrics(recording: Recording): void {
  const { metrics, workers, stepsPerEpoch, lastStep } = recording;
  if (lastStep === null) return;
  const { globalStep, loss, accuracy, learningRate, worldSize } = lastStep;
  metrics.globalStep.set(globalStep + 1);
  metrics.epoch.set((globalStep + 1) / stepsPerEpoch);
  metrics.steps.inc(recording.numSteps);
  metrics.images.inc(recording.numImages);
  metrics.loss.set({ set: 'training' }, loss);
  metrics.accuracy.set({ set: 'training' }, accuracy);
  metrics.learningRate.set(learningRate);
  metrics.workers.set(worldSize);
  recording.numSteps = 0;
  recording.numImages = 0;
  recording.lastStep = null;
  for (const worker of workers.values()) {
    metrics.workerImages.inc(worker.labels, worker.numImages);
    metrics.workerComputeSeconds.inc(worker.labels, worker.computeMs / 1000);
    metrics.workerShare.set(worker.labels, worker.share);
    metrics.workerQueuedBytes.set(worker.labels, worker.queuedBytes);
    worker.numImages = 0;
    worker.computeMs = 0;
  }
}

function addWorker({ metrics, workers }: Recording, event: WorkerJoined): void {
  const { workerId, name, host, engine, device, isExact } = event;
  const labels = { worker: workerId, name };
  const info = { ...labels, host, engine, device, exact: String(isExact) };
  workers.set(workerId, { labels, info, numImages: 0, computeMs: 0, share: 0, queuedBytes: 0 });
  metrics.workerInfo.set(info, 1);
  metrics.workerShare.set(labels, 0);
  metrics.workerQueuedBytes.set(labels, 0);
  metrics.workerImages.inc(labels, 0);
  metrics.workerComputeSeconds.inc(labels, 0);
}

function removeWorker({ metrics, workers }: Recording, workerId: string): void {
  const worker = workers.get(workerId);
  if (worker === undefined) return;
  workers.delete(workerId);
  metrics.workerInfo.remove(worker.info);
  metrics.workerImages.remove(worker.labels);
  metrics.workerComputeSeconds.remove(worker.labels);
  metrics.workerShare.remove(worker.labels);
  metrics.workerQueuedBytes.remove(worker.labels);
  metrics.workerHidden.remove(worker.labels);
  metrics.workerPing.remove(worker.labels);
  metrics.workerBehind.remove(worker.labels);
  metrics.workerClockOffset.remove(worker.labels);
}

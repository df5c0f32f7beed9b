/**
 * What the pages show of a run, kept in bounded memory: takes the run's events, gives updates. No I/O, no timers.
 */
import { formatBytes, formatNoun } from '../../shared/format.js';
import type { EvaluationDone, RunEvent, RunResult, RunStarted, StepDone } from '../events.js';
import { confusionOf } from './confusion.js';
import { StepSeries } from './step-series.js';
import type {
  Confusion,
  EvaluationRow,
  EventRow,
  FilterFrame,
  Mistakes,
  RunInfo,
  RunState,
  Update,
  WorkerRow,
} from './update.js';

const MAX_POINTS = 4000;
const MAX_EVALUATIONS = 4000;
const MAX_EVENTS = 500;
/** Workers remembered; those gone longest are forgotten first. */
const MAX_WORKERS = 256;
/** Times that a worker was here which are remembered; the page gets all of them with each change. */
const MAX_STAYS = 16;
const MAX_FRAMES = 64;
/** Weights of one frame: as many whole filters as fit. */
const MAX_FRAME_WEIGHTS = 2048;
const MAX_FILTERS = 32;
/** Time in steps over which shares and rates of workers are taken. */
const WINDOW_MS = 1000;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface WorkerEntry {
  readonly row: Mutable<WorkerRow>;
  /** In the window that is open. */
  images: number;
  computeMs: number;
  steps: number;
}

/** The last evaluation, with what its mistakes are looked up in. */
export type EvaluationDetail = Pick<
  EvaluationDone,
  'set' | 'globalStep' | 'images' | 'labels' | 'predictions'
>;

export class RunHistory {
  private readonly capabilities: { readonly canPredict: boolean; readonly isLive: boolean };
  private run: RunInfo | null = null;
  private state: RunState = 'starting';
  private globalStep = 0;
  private readonly series = new StepSeries(MAX_POINTS);
  private evaluations: EvaluationRow[] = [];
  private events: EventRow[] = [];
  private readonly workers = new Map<string, WorkerEntry>();
  private windowMs = 0;
  private windowImages = 0;
  private filterShape: { numFilters: number; channels: number; kernelSize: number } | null = null;
  private frames: FilterFrame[] = [];
  private frameInterval = 1;
  private currentFilters = new Float32Array();
  private hasFilters = false;
  private confusion: Confusion | null = null;
  private mistakes: Mistakes | null = null;
  private result: Update['result'] = undefined;

  /** What has changed since the last delta. */
  private dirty = noChanges();

  constructor(capabilities: { canPredict: boolean; isLive: boolean }) {
    this.capabilities = capabilities;
  }

  /** The last evaluation; of the test set where there is one. */
  detail: EvaluationDetail | null = null;

  get hasChanges(): boolean {
    return this.dirty.any;
  }

  observe(event: RunEvent): void {
    this.dirty.any = true;
    switch (event.type) {
      case 'started':
        this.started(event);
        break;
      case 'step':
        this.step(event);
        break;
      case 'evaluation':
        this.evaluation(event);
        break;
      case 'workerJoined': {
        const { workerId, name, host, engine, device, isExact, time, isReturn } = event;
        const known = this.workers.get(workerId)?.row;
        this.workers.set(workerId, {
          images: 0,
          computeMs: 0,
          steps: 0,
          row: {
            workerId,
            name,
            host,
            engine,
            device,
            isExact,
            state: 'here',
            joinedAt: time,
            lastSeenAt: time,
            lostInPhase: null,
            share: 0,
            imagesPerSecond: 0,
            computeMs: 0,
            roundTripMs: null,
            isHidden: null,
            numImages: known?.numImages ?? 0,
            stays: [...(known?.stays ?? []), { from: time, to: null, wasLost: false }].slice(
              -MAX_STAYS,
            ),
          },
        });
        this.forgetWorkers();
        this.dirty.workers = true;
        const engineText = isExact ? engine : `${engine}, approximate`;
        const verb = isReturn ? 'is back' : 'joined';
        const from = host === '' ? '' : ` from ${host}`;
        this.addEvent('joined', 'info', time, `${name} ${verb}${from} (${engineText})`);
        break;
      }
      case 'workerLost': {
        const row = this.workers.get(event.workerId)?.row;
        if (row) {
          row.state = event.isGraceful ? 'left' : 'lost';
          row.lastSeenAt = event.lastSeen;
          row.lostInPhase = event.isGraceful ? null : event.phase;
          row.share = row.imagesPerSecond = 0;
          row.stays = row.stays.map((stay) =>
            stay.to === null ? { ...stay, to: event.time, wasLost: !event.isGraceful } : stay,
          );
        }
        if (event.worldSize === 0 && !['finished', 'paused'].includes(this.state))
          this.state = 'waiting';
        this.dirty.workers = true;
        this.addEvent('lost', event.isGraceful ? 'info' : 'warn', event.time, event.message);
        break;
      }
      case 'workerPinged': {
        const row = this.workers.get(event.workerId)?.row;
        if (!row) break;
        row.roundTripMs = event.roundTripMs;
        if (event.numWorkers !== undefined) row.engine = `relay of ${event.numWorkers}`;
        row.isHidden = event.isHidden;
        row.lastSeenAt = event.time;
        this.dirty.workers = true;
        break;
      }
      case 'checkpoint':
        this.addEvent(
          'checkpoint',
          'info',
          event.time,
          `Checkpoint after ${formatNoun(event.globalStep, 'step')} (${formatBytes(event.bytes)})`,
        );
        break;
      case 'paused':
        this.state = event.isPaused ? 'paused' : 'waiting';
        this.addEvent('run', 'info', event.time, event.isPaused ? 'Paused' : 'Goes on');
        break;
      case 'notice':
        this.addEvent('notice', event.level, event.time, event.message);
        break;
      case 'finished':
        this.state = 'finished';
        this.result = event.result;
        this.dirty.result = true;
        this.addEvent('run', 'info', event.time, finishedMessage(event.result.outcome));
        break;
    }
  }

  /** Takes in what was found about the mistakes of `detail`. */
  setMistakes(mistakes: Mistakes): void {
    this.mistakes = mistakes;
    this.dirty.mistakes = this.dirty.any = true;
  }

  /** Everything, for a page that opens. */
  snapshot(now: number): Update {
    const { run, confusion, mistakes, result } = this;
    const filters = this.filters(this.frames);
    return {
      ...this.head(now),
      ...(run && { run }),
      points: this.points(0),
      evaluations: this.evaluations,
      events: this.events,
      workers: this.workerRows(),
      ...(filters && { filters }),
      ...(confusion && { confusion }),
      ...(mistakes && { mistakes }),
      ...(result && { result }),
    };
  }

  /** What has changed since the last call. */
  takeDelta(now: number): Update {
    const { dirty, run, confusion, mistakes, result } = this;
    this.dirty = noChanges();
    const filters = dirty.filters ? this.filters(dirty.frames) : null;
    return {
      ...this.head(now),
      ...(dirty.run && run && { run }),
      ...(dirty.fromStep < Infinity && { points: this.points(dirty.fromStep) }),
      ...(dirty.evaluations.length > 0 && { evaluations: dirty.evaluations }),
      ...(dirty.events.length > 0 && { events: dirty.events }),
      ...(dirty.workers && { workers: this.workerRows() }),
      ...(filters && { filters }),
      ...(dirty.confusion && confusion && { confusion }),
      ...(dirty.mistakes && mistakes && { mistakes }),
      ...(dirty.result && result && { result }),
    };
  }

  private head(now: number) {
    const { state, globalStep } = this;
    return { now, state, globalStep, ...this.capabilities };
  }

  private started(event: RunStarted): void {
    const { runId, name, config, input, classNames, numParams, numTrain, numValidation, numTest } =
      event;
    const { stepsPerEpoch, totalSteps, time, isResumed, globalStep } = event;
    this.run = {
      runId,
      name,
      config,
      input,
      classNames,
      numParams,
      numTrain,
      numValidation,
      numTest,
      stepsPerEpoch,
      totalSteps,
      // A history that was there before the event began earlier.
      startedAt: this.run?.startedAt ?? time,
      isResumed,
    };
    this.state = 'waiting';
    this.globalStep = globalStep;
    this.series.truncate(globalStep);
    this.dirty.fromStep = Math.min(this.dirty.fromStep, globalStep);
    this.evaluations = this.evaluations.filter((row) => row.globalStep <= globalStep);
    const [numChannels] = config.hyperparameters.channels;
    const { kernelSize } = config.hyperparameters;
    const fitting = Math.floor(MAX_FRAME_WEIGHTS / (input.channels * kernelSize ** 2));
    const numFilters = Math.min(numChannels, fitting, MAX_FILTERS);
    const { channels } = input;
    this.filterShape = numFilters > 0 ? { numFilters, channels, kernelSize } : null;
    this.currentFilters = new Float32Array(numFilters * channels * kernelSize ** 2);
    this.hasFilters = false;
    if (event.params) this.keepFilters(event.params);
    this.dirty.run = true;
    const message = isResumed ? `Resumed after ${formatNoun(globalStep, 'step')}` : 'Run started';
    this.addEvent('run', 'info', time, message);
  }

  private step(event: StepDone): void {
    const { times, globalStep, loss, accuracy, learningRate, numImages, worldSize, time } = event;
    this.state = 'training';
    this.globalStep = globalStep + 1;
    this.series.add({
      globalStep,
      seconds: this.secondsAt(time),
      loss,
      accuracy,
      learningRate,
      numImages,
      worldSize,
      planMs: times.planMs,
      wireMs: times.wireMs + times.broadcastMs,
      computeMs: times.computeMs,
      reduceMs: times.reduceMs,
      updateMs: times.updateMs,
      waitMs: times.waitMs,
    });
    this.dirty.fromStep = Math.min(this.dirty.fromStep, globalStep);

    for (const share of event.workers) {
      const entry = this.workers.get(share.workerId);
      if (!entry) continue;
      entry.images += share.numImages;
      entry.computeMs += share.computeMs;
      entry.steps += 1;
      entry.row.numImages += share.numImages;
      entry.row.lastSeenAt = time;
    }
    this.windowImages += numImages;
    this.windowMs += times.totalMs;
    if (this.windowMs >= WINDOW_MS) this.closeWindow();
    this.keepFilters(event.params);
  }

  /** Rates and shares of the window that ends now; the next one begins. */
  private closeWindow(): void {
    const seconds = this.windowMs / 1000;
    for (const entry of this.workers.values()) {
      const { row, images, computeMs, steps } = entry;
      row.imagesPerSecond = images / seconds;
      row.share = this.windowImages > 0 ? images / this.windowImages : 0;
      row.computeMs = steps > 0 ? computeMs / steps : 0;
      entry.images = entry.computeMs = entry.steps = 0;
    }
    this.windowMs = this.windowImages = 0;
    this.dirty.workers = true;
  }

  private keepFilters(params: Float32Array): void {
    if (!this.filterShape) return;
    const { length } = this.currentFilters;
    if (params.length < length) return;
    // The weights of the first convolution open θ: (numFilters, C, K, K).
    this.currentFilters.set(params.subarray(0, length));
    this.hasFilters = true;
    this.dirty.filters = true;
    const isKnown = this.frames.at(-1)?.globalStep === this.globalStep;
    if (isKnown || this.globalStep % this.frameInterval !== 0) return;
    const frame = this.currentFrame();
    this.frames.push(frame);
    this.dirty.frames.push(frame);
    if (this.frames.length <= MAX_FRAMES) return;
    this.frameInterval *= 2;
    const isKept = ({ globalStep }: FilterFrame) => globalStep % this.frameInterval === 0;
    this.frames = this.frames.filter(isKept);
    this.dirty.frames = this.dirty.frames.filter(isKept);
  }

  private currentFrame(): FilterFrame {
    const { buffer, byteOffset, byteLength } = this.currentFilters;
    const bytes = Buffer.from(buffer, byteOffset, byteLength);
    return { globalStep: this.globalStep, weights: bytes.toString('base64') };
  }

  private filters(frames: readonly FilterFrame[]) {
    if (!this.filterShape || !this.hasFilters) return null;
    const { frameInterval: interval } = this;
    return { ...this.filterShape, interval, current: this.currentFrame(), frames };
  }

  private evaluation(event: EvaluationDone): void {
    const { set, globalStep, epoch, loss, accuracy, time, predictions, labels, images } = event;
    const row = { set, globalStep, epoch, loss, accuracy, seconds: this.secondsAt(time) };
    const last = this.evaluations.at(-1);
    // The same again, of a stored run whose checkpoint is evaluated once more, adds its pictures alone.
    if (last?.set !== set || last.globalStep !== globalStep) {
      this.evaluations.push(row);
      this.dirty.evaluations.push(row);
    }
    if (this.dirty.evaluations.length > MAX_EVALUATIONS) this.dirty.evaluations.shift();
    if (this.evaluations.length > MAX_EVALUATIONS) {
      this.evaluations = this.evaluations.filter((_, index) => index % 2 === 1);
    }
    // The first evaluation may come before the first step.
    this.keepFilters(event.params);
    if (labels.length === 0 || (set === 'validation' && this.detail?.set === 'test')) return;
    if (!this.run) return;
    this.detail = { set, globalStep, images, labels, predictions };
    this.confusion = confusionOf(this.detail, this.run.classNames.length);
    this.dirty.confusion = true;
  }

  private secondsAt(time: number): number {
    return this.run ? (time - this.run.startedAt) / 1000 : 0;
  }

  private addEvent(
    kind: EventRow['kind'],
    level: EventRow['level'],
    time: number,
    message: string,
  ): void {
    if (message === '') return;
    const row = { time, kind, level, globalStep: this.globalStep, message };
    this.events.push(row);
    if (this.events.length > MAX_EVENTS) {
      // Checkpoints come every few seconds; what else happened is worth more.
      const checkpoint = this.events.findIndex((event) => event.kind === 'checkpoint');
      this.events.splice(Math.max(0, checkpoint), 1);
    }
    this.dirty.events.push(row);
    if (this.dirty.events.length > MAX_EVENTS) this.dirty.events.shift();
  }

  private workerRows(): WorkerRow[] {
    return [...this.workers.values()].map(({ row }) => row);
  }

  private forgetWorkers(): void {
    if (this.workers.size <= MAX_WORKERS) return;
    const gone = this.workerRows().filter(({ state }) => state !== 'here');
    gone.sort((a, b) => a.lastSeenAt - b.lastSeenAt);
    const [oldest] = gone.length > 0 ? gone : this.workerRows();
    this.workers.delete(oldest.workerId);
  }

  private points(fromStep: number) {
    const { stride, numPoints, cells } = this.series.encode(fromStep);
    return { stride, numPoints, cells: Buffer.from(cells.buffer).toString('base64') };
  }
}

function noChanges() {
  return {
    any: false,
    run: false,
    fromStep: Infinity,
    evaluations: [] as EvaluationRow[],
    events: [] as EventRow[],
    workers: false,
    filters: false,
    frames: [] as FilterFrame[],
    confusion: false,
    mistakes: false,
    result: false,
  };
}

function finishedMessage(outcome: RunResult['outcome']): string {
  switch (outcome) {
    case 'finished':
      return 'Run finished';
    case 'targetReached':
      return 'Run finished: target accuracy reached';
    case 'stoppedEarly':
      return 'Run finished: no better accuracy for a while';
    case 'stopped':
      return 'Run stopped';
  }
}

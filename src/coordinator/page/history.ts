/**
 * The history of a run for its pages, in bounded memory: events in, updates out. No I/O, no timers.
 */
import { formatBytes, formatNoun } from '../../shared/format.js';
import type { EvaluationDone, RunEvent, RunResult, RunStarted, StepDone } from '../events.js';
import { confusionOf } from './confusion.js';
import { FilterHistory } from './filter-history.js';
import { StepSeries } from './step-series.js';
import type {
  Capabilities,
  Confusion,
  EvaluationRow,
  EventRow,
  Mistakes,
  RunInfo,
  RunState,
  Update,
} from './update.js';
import { WorkerHistory } from './worker-history.js';

const MAX_POINTS = 4000;
const MAX_EVALUATIONS = 4000;
const MAX_EVENTS = 500;
/** The parts of the last evaluation that its mistakes are found in. */
export type EvaluationDetail = Pick<
  EvaluationDone,
  'set' | 'globalStep' | 'images' | 'labels' | 'predictions'
>;

export class RunHistory {
  private readonly capabilities: Capabilities;
  private run: RunInfo | null = null;
  private state: RunState = 'starting';
  private globalStep = 0;
  private readonly series = new StepSeries(MAX_POINTS);
  private evaluations: EvaluationRow[] = [];
  private events: EventRow[] = [];
  private readonly workers = new WorkerHistory();
  private filters: FilterHistory | null = null;
  private confusion: Confusion | null = null;
  private mistakes: Mistakes | null = null;
  private result: Update['result'] = undefined;

  /** Which parts have changed since the last delta. */
  private dirty = noChanges();

  constructor(capabilities: Capabilities) {
    this.capabilities = capabilities;
  }

  /** The last evaluation, preferring the test set. */
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
        const { name, host, engine, isExact, time, isReturn } = event;
        this.workers.joined(event);
        this.dirty.workers = true;
        const engineText = isExact ? engine : `${engine}, approximate`;
        const verb = isReturn ? 'is back' : 'joined';
        const from = host === '' ? '' : ` from ${host}`;
        this.addEvent('joined', 'info', time, `${name} ${verb}${from} (${engineText})`);
        break;
      }
      case 'workerLost':
        this.workers.lost(event);
        if (event.worldSize === 0 && !['finished', 'paused'].includes(this.state))
          this.state = 'waiting';
        this.dirty.workers = true;
        this.addEvent('lost', event.isGraceful ? 'info' : 'warn', event.time, event.message);
        break;
      case 'workerPinged':
        if (this.workers.pinged(event)) this.dirty.workers = true;
        break;
      case 'checkpoint':
        this.addEvent(
          'checkpoint',
          'info',
          event.time,
          `Checkpoint after ${formatNoun(event.globalStep, 'step')} (${formatBytes(event.bytes)})`,
        );
        break;
      case 'waiting':
        if (this.state !== 'paused') this.state = 'waiting';
        break;
      case 'paused':
        this.state = event.isPaused ? 'paused' : 'waiting';
        this.addEvent('run', 'info', event.time, event.isPaused ? 'Paused' : 'Resumed');
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

  /** @param mistakes those found in `detail` */
  setMistakes(mistakes: Mistakes): void {
    this.mistakes = mistakes;
    this.dirty.mistakes = this.dirty.any = true;
  }

  /** Everything, for a new page. */
  snapshot(now: number): Update {
    const { run, confusion, mistakes, result } = this;
    const filters = this.filters?.all();
    return {
      ...this.head(now),
      ...(run && { run }),
      points: this.points(0),
      evaluations: this.evaluations,
      events: this.events,
      workers: this.workers.rows(),
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
    const filters = dirty.filters ? this.filters?.takeFresh() : null;
    return {
      ...this.head(now),
      ...(dirty.run && run && { run }),
      ...(dirty.fromStep < Infinity && { points: this.points(dirty.fromStep) }),
      ...(dirty.evaluations.length > 0 && { evaluations: dirty.evaluations }),
      ...(dirty.events.length > 0 && { events: dirty.events }),
      ...(dirty.workers && { workers: this.workers.rows() }),
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
      // A history replayed before this event has an earlier start.
      startedAt: this.run?.startedAt ?? time,
      resumedAt: time,
      secondsBefore: event.secondsBefore,
      isResumed,
    };
    this.state = 'waiting';
    this.globalStep = globalStep;
    this.series.truncate(globalStep);
    this.dirty.fromStep = Math.min(this.dirty.fromStep, globalStep);
    this.evaluations = this.evaluations.filter((row) => row.globalStep <= globalStep);
    this.filters = new FilterHistory(event, this.filters);
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

    if (this.workers.step(event)) this.dirty.workers = true;
    this.keepFilters(event.params);
  }

  private keepFilters(params: Float32Array): void {
    if (this.filters?.keep(params, this.globalStep)) this.dirty.filters = true;
  }

  private evaluation(event: EvaluationDone): void {
    const { set, globalStep, epoch, loss, accuracy, time, predictions, labels, images } = event;
    const row = { set, globalStep, epoch, loss, accuracy, seconds: this.secondsAt(time) };
    const last = this.evaluations.at(-1);
    // A stored run's checkpoint is evaluated again just for the pictures; it gets no second row.
    if (last?.set !== set || last.globalStep !== globalStep) {
      this.evaluations.push(row);
      this.dirty.evaluations.push(row);
    }
    if (this.dirty.evaluations.length > MAX_EVALUATIONS) this.dirty.evaluations.shift();
    if (this.evaluations.length > MAX_EVALUATIONS) this.evaluations = thinned(this.evaluations);
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
      // Checkpoints come every few seconds; other events are worth keeping longer.
      const checkpoint = this.events.findIndex((event) => event.kind === 'checkpoint');
      this.events.splice(Math.max(0, checkpoint), 1);
    }
    this.dirty.events.push(row);
    if (this.dirty.events.length > MAX_EVENTS) this.dirty.events.shift();
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
      return 'Run finished: accuracy stopped improving';
    case 'stopped':
      return 'Run stopped';
  }
}

/** Every other one of each set, the newest among them. */
function thinned(rows: readonly EvaluationRow[]): EvaluationRow[] {
  const numSeen = { validation: 0, test: 0 };
  return rows
    .toReversed()
    .filter(({ set }) => numSeen[set]++ % 2 === 0)
    .reverse();
}

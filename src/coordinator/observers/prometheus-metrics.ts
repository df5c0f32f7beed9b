/**
 * The metrics of a run by their names, which docs/monitoring.md lists.
 *
 * https://prometheus.io/docs/practices/naming/: base units, `_total` for counters, `_ratio` for fractions.
 */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** From 0.1 ms, a plan, to 10 s, a worker that hangs. */
const STEP_BUCKETS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];
const SLOW_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export type WorkerLabel = 'worker' | 'name';
export type InfoLabel = WorkerLabel | 'host' | 'engine' | 'device' | 'exact';

export function createMetrics(registry: Registry) {
  const registers = [registry];
  const gauge = <Label extends string = never>(
    name: string,
    help: string,
    ...labelNames: Label[]
  ) => new Gauge<Label>({ name: `lockstep_${name}`, help, labelNames, registers });
  const counter = <Label extends string = never>(
    name: string,
    help: string,
    ...labelNames: Label[]
  ) => new Counter<Label>({ name: `lockstep_${name}`, help, labelNames, registers });
  const histogram = <Label extends string = never>(
    name: string,
    help: string,
    buckets: number[],
    ...labelNames: Label[]
  ) => new Histogram<Label>({ name: `lockstep_${name}`, help, buckets, labelNames, registers });

  return {
    runInfo: gauge(
      'run_info',
      'The run, as labels; always 1',
      'run_id',
      'run',
      'dataset',
      'optimizer',
      'seed',
    ),
    plannedSteps: gauge('planned_steps', 'Steps of the whole run'),
    globalStep: gauge('global_step', 'Updates made, across all restarts of the run'),
    paused: gauge('run_paused', '1 while the run is paused'),
    finished: gauge('run_finished', '1 once the run has finished, 0 before'),
    epoch: gauge('epoch', 'Passes over the training set, including a fraction'),
    steps: counter('steps_total', 'Updates made by this process'),
    images: counter('images_total', 'Training images that updates of this process used'),
    loss: gauge('loss', 'Mean cross-entropy of the last batch or evaluation', 'set'),
    accuracy: gauge(
      'accuracy_ratio',
      'Fraction classified correctly in the last batch or evaluation',
      'set',
    ),
    learningRate: gauge('learning_rate', 'Learning rate of the last update'),
    stepSeconds: histogram('step_seconds', 'Time of a step', STEP_BUCKETS),
    stepPartSeconds: histogram<'part'>(
      'step_part_seconds',
      'Time of a step by part',
      STEP_BUCKETS,
      'part',
    ),
    evaluationSeconds: histogram<'set'>(
      'evaluation_seconds',
      'Time of an evaluation',
      SLOW_BUCKETS,
      'set',
    ),
    checkpointSeconds: histogram('checkpoint_seconds', 'Time to write a checkpoint', SLOW_BUCKETS),
    checkpointBytes: gauge('checkpoint_size_bytes', 'Size of the last checkpoint'),
    checkpointTime: gauge(
      'last_checkpoint_timestamp_seconds',
      'When the last checkpoint was written, Unix time',
    ),
    checkpointStep: gauge(
      'last_checkpoint_global_step',
      'Updates contained in the last checkpoint',
    ),
    workers: gauge('workers', 'Workers in the group'),
    joins: counter('worker_joins_total', 'Workers that joined or returned'),
    leaves: counter('worker_leaves_total', 'Workers that left'),
    losses: counter<'phase'>(
      'worker_losses_total',
      'Workers lost without leaving, by what they were doing',
      'phase',
    ),
    notices: counter<'level'>('notices_total', 'Messages to the user', 'level'),
    workerInfo: gauge<InfoLabel>(
      'worker_info',
      'A worker, as labels; always 1',
      'worker',
      'name',
      'host',
      'engine',
      'device',
      'exact',
    ),
    workerImages: counter<WorkerLabel>(
      'worker_images_total',
      'Training images of a worker that updates used',
      'worker',
      'name',
    ),
    workerComputeSeconds: counter<WorkerLabel>(
      'worker_compute_seconds_total',
      'Time a worker spent computing for steps',
      'worker',
      'name',
    ),
    workerShare: gauge<WorkerLabel>(
      'worker_share_ratio',
      "Fraction of the last step's images that a worker computed",
      'worker',
      'name',
    ),
    workerHidden: gauge<WorkerLabel>(
      'worker_hidden',
      '1 while the page of a browser worker is hidden, else 0; absent for other workers',
      'worker',
      'name',
    ),
    workerQueuedBytes: gauge<WorkerLabel>(
      'worker_queued_bytes',
      'Bytes waiting to be sent to a worker; above 0 for long means that the link is too slow',
      'worker',
      'name',
    ),
    workerPing: gauge<WorkerLabel>(
      'worker_ping_seconds',
      'Round trip of the last ping to a worker',
      'worker',
      'name',
    ),
    workerBehind: gauge<WorkerLabel>(
      'worker_behind_relay',
      'Workers behind a relay',
      'worker',
      'name',
    ),
    workerClockOffset: gauge<WorkerLabel>(
      'worker_clock_offset_seconds',
      "A worker's clock minus the coordinator's",
      'worker',
      'name',
    ),
  };
}
export type Metrics = ReturnType<typeof createMetrics>;

/** Counters begin at 0: `increase()` does not see the first count of a series that was not there before. */
export function startCounters({ losses, notices }: Metrics): void {
  for (const phase of ['waiting', 'computing', 'sending']) losses.inc({ phase }, 0);
  for (const level of ['info', 'warn', 'error']) notices.inc({ level }, 0);
}

/**
 * A run as log lines: an aggregated line every few steps, one per evaluation, and other events of interest. Related counts
 * are aligned in columns.
 */
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatNoun,
  formatPercent,
} from '../../shared/format.js';
import type { Logger } from '../../shared/node/log.js';
import {
  FAULT_KINDS,
  type EvaluationDone,
  type FaultKind,
  type Observer,
  type RunFinished,
  type RunStarted,
  type StepDone,
  type WorkerJoined,
  type BestEvaluation,
  type RunResult,
} from '../events.js';

export interface ConsoleObserverOptions {
  readonly log: Logger;
  /** Steps between two lines. */
  readonly logEvery: number;
  /** Where the time went, for the end (`createCriticalPath`). */
  readonly timeSummary?: () => string;
}

/** What the steps since the last line add up to. */
interface Window {
  numImages: number;
  lossSum: number;
  numCorrect: number;
  totalMs: number;
}

export function createConsoleObserver(options: ConsoleObserverOptions): Observer {
  const { log, logEvery, timeSummary } = options;
  let run: RunStarted | null = null;
  let window: Window = emptyWindow();

  const started = (event: RunStarted) => {
    run = event;
    window = emptyWindow();
    const { config } = event;
    const held = event.numValidation > 0 ? `, ${formatCount(event.numValidation)} held out` : '';
    log.info(
      `${event.isResumed ? `Resuming ${event.name} at step ${formatCount(event.globalStep)}` : event.name}: ` +
        `${config.dataset}, ${formatCount(event.numTrain)} training${held} and ` +
        `${formatCount(event.numTest)} test images, ${formatCount(event.numParams)} parameters`,
      { event: 'started', runId: event.runId, globalStep: event.globalStep, config },
    );
    log.info(
      `${formatNoun(config.epochs, 'epoch')} of ${formatNoun(event.stepsPerEpoch, 'step')}, batch ` +
        `${config.batchSize} in micro-batches of ${config.microBatch}, ${config.optimizer}, ` +
        `learning rate ${config.lr} (${config.schedule}), seed ${config.seed}`,
    );
  };

  const stepped = (event: StepDone) => {
    window.numImages += event.numImages;
    window.lossSum += event.loss * event.numImages;
    window.numCorrect += event.accuracy * event.numImages;
    window.totalMs += event.times.totalMs;
    const numSteps = event.globalStep + 1;
    if (numSteps % logEvery !== 0 && numSteps !== run?.totalSteps) return;
    const loss = window.lossSum / window.numImages;
    const accuracy = window.numCorrect / window.numImages;
    const imagesPerSecond = (1000 * window.numImages) / window.totalMs;
    window = emptyWindow();
    log.info(
      `${position(event.epoch + 1, numSteps, run)}  ${measures(loss, accuracy)}  ` +
        `${formatCount(imagesPerSecond).padStart(7)} images/s  ${formatNoun(event.worldSize, 'worker')}`,
      {
        event: 'steps',
        globalStep: event.globalStep,
        epoch: event.epoch,
        loss,
        accuracy,
        imagesPerSecond,
        worldSize: event.worldSize,
      },
    );
  };

  const evaluated = (event: EvaluationDone) => {
    const { set, globalStep, epoch, loss, accuracy, seconds, numImages } = event;
    log.info(
      `${position(epoch, globalStep, run)}  ${measures(loss, accuracy)}  ` +
        `${set} set, ${formatCount(numImages)} images in ${seconds.toFixed(2)} s`,
      { event: 'evaluation', set, globalStep, epoch, loss, accuracy, seconds, numImages },
    );
  };

  const joined = (event: WorkerJoined) => {
    const { workerId, name, host, engine, device, isExact, worldSize, isReturn } = event;
    log.info(
      `${name} ${isReturn ? 'is back' : 'joined'} from ${host} ` +
        `(${engine}${isExact ? '' : ', approximate'}, ${device}): ${formatNoun(worldSize, 'worker')}`,
      { event: 'workerJoined', workerId, name, host, engine, device, isExact, worldSize, isReturn },
    );
  };

  return (event) => {
    switch (event.type) {
      case 'started':
        started(event);
        break;
      case 'step':
        stepped(event);
        break;
      case 'evaluation':
        evaluated(event);
        break;
      case 'workerJoined':
        joined(event);
        break;
      case 'workerLost': {
        const { workerId, name, worldSize, isGraceful, phase, message } = event;
        const fields = { event: 'workerLost', workerId, name, worldSize, isGraceful, phase };
        if (isGraceful) log.info(message, fields);
        else log.warn(message, fields);
        break;
      }
      case 'checkpoint': {
        const { globalStep, path, bytes, seconds } = event;
        log.debug(
          `Checkpoint of step ${formatCount(globalStep)}: ${path}, ${formatBytes(bytes)} ` +
            `in ${(1000 * seconds).toFixed(0)} ms`,
          { event: 'checkpoint', globalStep, path, bytes, seconds },
        );
        break;
      }
      case 'paused': {
        const { isPaused, globalStep } = event;
        const text = isPaused ? `Paused after step ${formatCount(globalStep)}` : 'The run resumes';
        log.info(text, { event: 'paused', isPaused, globalStep });
        break;
      }
      case 'notice':
        log[event.level](event.message, { event: 'notice' });
        break;
      case 'finished':
        for (const line of summaryLines(event, timeSummary?.() ?? '')) log.info(line);
        break;
      case 'workerPinged':
      case 'waiting':
        break;
    }
  };
}

function emptyWindow(): Window {
  return { numImages: 0, lossSum: 0, numCorrect: 0, totalMs: 0 };
}

/** `epoch  3/12  step  2,400/11,256`, with the same width for every step of a run. */
function position(epoch: number, globalStep: number, run: RunStarted | null): string {
  const ofTotal = (value: number, total: number | undefined) =>
    total === undefined
      ? formatCount(value)
      : `${formatCount(value).padStart(formatCount(total).length)}/${formatCount(total)}`;
  return `epoch ${ofTotal(epoch, run?.config.epochs)}  step ${ofTotal(globalStep, run?.totalSteps)}`;
}

function measures(loss: number, accuracy: number): string {
  return `loss ${loss.toFixed(4)}  accuracy ${formatPercent(accuracy).padStart(8)}`;
}

const OUTCOME_WORDS = {
  finished: 'Finished',
  targetReached: 'Target reached',
  stoppedEarly: 'Stopped early, as --patience says,',
  stopped: 'Stopped',
} as const satisfies Record<RunResult['outcome'], string>;

const FAULT_WORDS: Readonly<Record<FaultKind, (count: number) => string>> = {
  workersLost: (count) => `${formatNoun(count, 'worker')} lost`,
  badNumbers: (count) => `${formatNoun(count, 'answer')} with NaN or Inf refused`,
  auditsFailed: (count) => `${formatNoun(count, 'answer')} with wrong bits refused`,
  checkpointFailures: (count) => `${formatNoun(count, 'checkpoint')} not written`,
  staleAnswers: (count) => `${formatNoun(count, 'answer')} too late`,
  duplicatePartials: (count) => `${formatNoun(count, 'gradient')} computed twice`,
  duplicateEvaluations: (count) => `${formatNoun(count, 'evaluation')} computed twice`,
  audits: (count) => `${formatNoun(count, 'answer')} audited`,
};

/** Which evaluation the best checkpoint is of, and what its figure is worth. */
function describeBest({ set, accuracy, globalStep }: BestEvaluation): string {
  const doubt = set === 'test' ? ', which chose it (see --validation-size)' : '';
  return `${formatPercent(accuracy)} at step ${formatCount(globalStep)} on the ${set} set${doubt}`;
}

/** The end of a run, one fact a line. */
function summaryLines({ result }: RunFinished, timeSummary: string): string[] {
  const fact = (label: string, value: string) => `  ${label.padEnd(14)}${value}`;
  const lines = [
    `${OUTCOME_WORDS[result.outcome]} after ${formatNoun(result.epochs, 'epoch')}, ` +
      `${formatNoun(result.globalStep, 'step')}, in ${formatDuration(result.seconds)}`,
  ];
  if (result.testAccuracy !== null) {
    const loss = result.testLoss === null ? '' : `, loss ${result.testLoss.toFixed(4)}`;
    lines.push(fact('test accuracy', formatPercent(result.testAccuracy) + loss));
  }
  if (result.best !== null) lines.push(fact('best', describeBest(result.best)));
  lines.push(fact('throughput', `${formatCount(result.imagesPerSecond)} images/s`));
  if (timeSummary !== '') lines.push(fact('time', timeSummary));
  const total = result.workers.reduce((sum, worker) => sum + worker.numImages, 0);
  result.workers.forEach((worker, index) => {
    const share =
      total === 0 ? '' : `, ${formatPercent(worker.numImages / total, 0)} of the images`;
    lines.push(
      fact(
        index === 0 ? 'workers' : '',
        `${worker.name} (${worker.engine}, ${worker.device})${share}`,
      ),
    );
  });
  const faults = FAULT_KINDS.flatMap((kind) => {
    const count = result.faults[kind] ?? 0;
    return count === 0 ? [] : [FAULT_WORDS[kind](count)];
  });
  if (faults.length > 0) lines.push(fact('faults', faults.join(', ')));
  lines.push(
    fact('weights', `sha256 ${result.weightsSha256}`),
    fact(
      'reproducible',
      result.reproducible
        ? `yes, engine ${result.engineFingerprint ?? 'unknown'}`
        : result.globalStep === 0
          ? 'unknown, no step was made'
          : 'no, an approximate engine took part',
    ),
  );
  return lines;
}

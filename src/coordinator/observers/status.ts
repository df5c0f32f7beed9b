/**
 * What the live status of a run shows, as lines of text. Pure: events make the state, the state makes the lines;
 * terminal-status.ts puts them on a screen.
 */
import stringWidth from 'string-width';
import { formatCount, formatDuration, formatNoun, formatPercent } from '../../shared/format.js';
import { printable } from '../../shared/printable.js';
import type { RunEvent, RunStarted, StepDone } from '../events.js';
import { addToHistory, createHistory, sparkline, type History } from './sparkline.js';

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
    workers: new Map(),
  };
}

/** Steps over which figures are averaged. */
const SMOOTHING = 50;
/** How long a worker that is gone stays on the screen. */
const GONE_MS = 10_000;

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
  status.stepMs = smooth(status.stepMs, event.times.totalMs);
  status.computeMs = smooth(status.computeMs, event.times.computeMs);
  status.wireMs = smooth(status.wireMs, event.times.wireMs);
  const cycleMs = numSeen === 0 ? event.times.totalMs : event.time - status.lastStepAt;
  status.cycleMs = smooth(
    status.cycleMs,
    cycleMs,
    Math.max(SMOOTHING, status.run?.stepsPerEpoch ?? 0),
  );
  // A loss falls by orders of magnitude: its logarithm makes the curve that one can see.
  addToHistory(status.losses, Math.log(event.loss));
  addToHistory(status.accuracies, event.accuracy);
  status.globalStep = event.globalStep + 1;
  status.numStepsSeen++;
  status.lastStepAt = event.time;
  status.worldSize = event.worldSize;

  for (const worker of status.workers.values()) {
    if (worker.lostAt !== null) continue;
    const share = event.workers.find(({ workerId }) => workerId === worker.workerId);
    worker.state = share === undefined ? 'idle' : 'working';
    worker.share = share === undefined ? 0 : share.numImages / event.numImages;
    if (share !== undefined) {
      worker.computeMs ??= share.computeMs;
      worker.computeMs += (share.computeMs - worker.computeMs) / 10;
    }
  }
}

export interface RenderOptions {
  /** No line is wider. */
  readonly columns: number;
  /** No more lines than this; workers that do not fit are counted. */
  readonly rows?: number;
  readonly hasColor?: boolean;
  readonly now: number;
}

type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red' | 'cyan';

/** A piece of a line. Of pieces that do not fit a line together, those with the lowest rank stay. */
interface Piece {
  readonly text: string;
  readonly style?: Style | undefined;
  readonly rank?: number;
}

/** The lines of the status, the first an empty one that sets it off from the log. */
export function renderStatus(status: RunStatus, options: RenderOptions): string[] {
  const { columns, rows = Infinity, hasColor = false, now } = options;
  const paint = hasColor ? colored : (piece: Piece) => piece.text;
  const head = [
    [],
    progressLine(status, columns),
    ...flow(measurePieces(status, columns), columns),
    ...flow(speedPieces(status), columns),
  ];
  const workers = workerLines(status, columns, now);
  const numFitting = Math.max(0, rows - head.length);
  const shown =
    workers.length <= numFitting
      ? workers
      : [
          ...workers.slice(0, Math.max(0, numFitting - 1)),
          [
            {
              text: `  … and ${formatCount(workers.length - numFitting + 1)} more`,
              style: 'dim',
            } as const,
          ],
        ];
  return [...head, ...shown]
    .slice(0, Math.max(1, rows))
    .map((line) => fit(line, columns).map(paint).join(''));
}

function progressLine(status: RunStatus, columns: number): Piece[] {
  const { run, globalStep, worldSize } = status;
  if (run === null) return [{ text: 'Starting', style: 'dim' }];
  const { epochs } = run.config;
  const epoch = Math.min(epochs - 1, Math.floor(globalStep / run.stepsPerEpoch));
  const done = Math.min(1, globalStep / run.stepsPerEpoch - epoch);
  const left = ((run.totalSteps - globalStep) * status.cycleMs) / 1000;
  const state: Piece = status.isPaused
    ? { text: 'paused', style: 'yellow', rank: 2 }
    : worldSize === 0
      ? { text: 'waiting for workers', style: 'yellow', rank: 2 }
      : { text: status.numStepsSeen === 0 ? '' : `${formatDuration(left)} left`, rank: 2 };
  const pieces: Piece[] = [
    {
      text: `epoch ${String(epoch + 1).padStart(String(epochs).length)}/${epochs}`,
      style: 'bold',
      rank: 0,
    },
    { text: BAR, rank: 3 },
    { text: `${Math.floor(100 * done)} %`.padStart(5), rank: 1 },
    {
      text: `step ${formatCount(globalStep)}/${formatCount(run.totalSteps)}`,
      style: 'dim',
      rank: 4,
    },
    state,
  ];
  const chosen = choose(pieces, columns);
  const room = columns - widthOf(chosen);
  return chosen.flatMap((piece) =>
    piece.text === BAR ? bar(done, BAR.length + Math.min(room, 30)) : [piece],
  );
}

/** Stands for the progress bar until its width is known; as wide as the narrowest one. */
const BAR = '##########';

function bar(done: number, width: number): Piece[] {
  const numDone = Math.round(done * width);
  return [
    { text: '━'.repeat(numDone), style: 'cyan' },
    { text: '─'.repeat(width - numDone), style: 'dim' },
  ];
}

function measurePieces(status: RunStatus, columns: number): Piece[][] {
  const { loss, accuracy, losses, accuracies, testAccuracy, numStepsSeen } = status;
  const width = columns < 30 ? 0 : columns < 60 ? 6 : 16;
  const groups: Piece[][] = [];
  if (numStepsSeen > 0) {
    groups.push(
      [
        { text: `loss ${loss.toFixed(4)}` },
        { text: width > 0 ? ' ' : '' },
        { text: sparkline(losses.points, width), style: 'cyan' },
      ],
      [
        { text: `accuracy ${formatPercent(accuracy)}` },
        { text: width > 0 ? ' ' : '' },
        { text: sparkline(accuracies.points, width), style: 'green' },
      ],
    );
  }
  if (testAccuracy !== null) {
    groups.push([{ text: `test ${formatPercent(testAccuracy)}`, style: 'bold' }]);
  }
  return groups;
}

function speedPieces(status: RunStatus): Piece[][] {
  const { imagesPerStep, stepMs, computeMs, wireMs, worldSize, numStepsSeen } = status;
  const workers: Piece[] = [{ text: formatNoun(worldSize, 'worker') }];
  if (numStepsSeen === 0) return [workers];
  return [
    [{ text: `${formatCount((1000 * imagesPerStep) / stepMs)} images/s`, style: 'bold' }],
    workers,
    [{ text: `${stepMs.toFixed(1)} ms a step` }],
    [{ text: `${formatPercent(computeMs / stepMs, 0)} compute`, style: 'dim' }],
    [{ text: `${formatPercent(wireMs / stepMs, 0)} wire`, style: 'dim' }],
  ];
}

const STATE_STYLES = {
  ready: 'cyan',
  working: 'green',
  idle: 'dim',
  left: 'dim',
  lost: 'red',
} as const;

function workerLines(status: RunStatus, columns: number, now: number): Piece[][] {
  const workers = [...status.workers.values()].filter(
    ({ lostAt }) => lostAt === null || now - lostAt < GONE_MS,
  );
  const widest = (texts: string[]) => Math.max(0, ...texts.map(textWidth));
  const nameWidth = Math.min(
    widest(workers.map(({ name }) => name)),
    Math.max(6, columns - 20),
    24,
  );
  const engines = workers.map(({ engine, isExact }) => (isExact ? engine : `${engine} ≈`));
  const engineWidth = widest(engines);
  return workers.map((worker, index) => {
    const { name, state, share, computeMs, roundTripMs, lostAt } = worker;
    const style = STATE_STYLES[state];
    const isGone = lostAt !== null;
    const ago = isGone ? `${Math.floor((now - lostAt) / 1000)} s ago` : '';
    const milliseconds = (value: number | null) => (value === null ? '' : `${value.toFixed(1)} ms`);
    return choose(
      [
        { text: isGone ? '○' : '●', style, rank: 0 },
        { text: padded(name, nameWidth), rank: 0 },
        { text: padded(engines[index], engineWidth), style: 'dim', rank: 4 },
        { text: (isGone ? '' : formatPercent(share, 0)).padStart(5), rank: 1 },
        { text: (isGone ? '' : milliseconds(computeMs)).padStart(8), rank: 3 },
        { text: state.padEnd(7), style, rank: 2 },
        { text: ago, style: 'dim', rank: 5 },
        {
          text: isGone || roundTripMs === null ? '' : `ping ${milliseconds(roundTripMs)}`,
          style: 'dim',
          rank: 6,
        },
      ],
      columns,
    );
  });
}

const GAP = '  ';

/** The pieces that fit the line, lowest rank first, in their order, with gaps between them. */
function choose(pieces: readonly Piece[], columns: number): Piece[] {
  const kept = new Set<Piece>();
  let width = 0;
  for (const piece of pieces.toSorted((a, b) => (a.rank ?? 0) - (b.rank ?? 0))) {
    if (piece.text === '') continue;
    const needed = textWidth(piece.text) + (kept.size > 0 ? GAP.length : 0);
    if (width + needed > columns && kept.size > 0) continue;
    kept.add(piece);
    width += needed;
  }
  return pieces
    .filter((piece) => kept.has(piece))
    .flatMap((piece, index) => (index === 0 ? [piece] : [{ text: GAP }, piece]));
}

/** Groups of pieces one after the other, in as many lines as they need. */
function flow(groups: readonly Piece[][], columns: number): Piece[][] {
  const lines: Piece[][] = [];
  for (const group of groups) {
    const line = lines.at(-1);
    if (line !== undefined && widthOf(line) + GAP.length + widthOf(group) <= columns) {
      line.push({ text: GAP }, ...group);
    } else {
      lines.push([...group]);
    }
  }
  return lines;
}

/** The line, cut with an ellipsis where it is wider than `columns`. */
function fit(line: readonly Piece[], columns: number): Piece[] {
  if (widthOf(line) <= columns) return [...line];
  const result: Piece[] = [];
  let room = columns - 1;
  for (const piece of line) {
    const text = cut(piece.text, room);
    result.push({ ...piece, text });
    room -= textWidth(text);
    if (text !== piece.text) break;
  }
  return columns > 0 ? [...result, { text: '…' }] : [];
}

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });

/** As much of the text as fits `width` columns. */
function cut(text: string, width: number): string {
  let result = '';
  let room = width;
  for (const { segment } of graphemes.segment(text)) {
    room -= textWidth(segment);
    if (room < 0) break;
    result += segment;
  }
  return result;
}

function padded(text: string, width: number): string {
  const fitting = textWidth(text) <= width ? text : `${cut(text, width - 1)}…`;
  return fitting + ' '.repeat(Math.max(0, width - textWidth(fitting)));
}

/** Columns that the text takes; `string-width` knows all of Unicode, and takes its time. */
function textWidth(text: string): number {
  return /^[ -~─-▟●○…≈]*$/.test(text) ? text.length : stringWidth(text);
}

function widthOf(line: readonly Piece[]): number {
  return line.reduce((sum, piece) => sum + textWidth(piece.text), 0);
}

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;

function colored({ text, style }: Piece): string {
  return style === undefined || text === '' ? text : `\x1b[${CODES[style]}m${text}\x1b[0m`;
}

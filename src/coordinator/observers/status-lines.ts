/** Formats the live status of a run as lines of text, which terminal-status.ts displays. Pure. */
import { formatCount, formatDuration, formatNoun, formatPercent } from '../../shared/format.js';
import { cutText, fitText, textWidth } from '../../shared/text-width.js';
import type { RunStatus } from './run-status.js';
import { sparkline } from './sparkline.js';

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
    : worldSize === 0 || status.isWaiting
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

/** How long a worker that is gone stays on the screen. */
const GONE_MS = 10_000;

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
        { text: fitText(name, nameWidth), rank: 0 },
        { text: fitText(engines[index], engineWidth), style: 'dim', rank: 4 },
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
    const text = cutText(piece.text, room);
    result.push({ ...piece, text });
    room -= textWidth(text);
    if (text !== piece.text) break;
  }
  return columns > 0 ? [...result, { text: '…' }] : [];
}

function widthOf(line: readonly Piece[]): number {
  return line.reduce((sum, piece) => sum + textWidth(piece.text), 0);
}

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;

function colored({ text, style }: Piece): string {
  return style === undefined || text === '' ? text : `\x1b[${CODES[style]}m${text}\x1b[0m`;
}

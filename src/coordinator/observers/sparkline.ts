/**
 * A curve as a row of block characters, and the history it is drawn from: of any length, in bounded memory.
 */

const BLOCKS = '▁▂▃▄▅▆▇█';

/** Halved when it is full, so a history holds at least half as many points. */
const MAX_POINTS = 128;

/** The values so far, thinned: each point is the mean of `stride` values, in order. */
export interface History {
  readonly points: number[];
  stride: number;
  /** Of the point that is not complete. */
  sum: number;
  count: number;
}

export function createHistory(): History {
  return { points: [], stride: 1, sum: 0, count: 0 };
}

/** Adds a value; one that is not finite is left out. */
export function addToHistory(history: History, value: number): void {
  if (!Number.isFinite(value)) return;
  history.sum += value;
  if (++history.count < history.stride) return;
  history.points.push(history.sum / history.count);
  history.sum = 0;
  history.count = 0;
  if (history.points.length < MAX_POINTS) return;
  const { points } = history;
  for (let index = 0; index < MAX_POINTS / 2; index++) {
    points[index] = (points[2 * index] + points[2 * index + 1]) / 2;
  }
  points.length = MAX_POINTS / 2;
  history.stride *= 2;
}

/**
 * The curve of the points, lowest value to highest, at most `width` characters: each is the mean of the points that
 * fall to it.
 */
export function sparkline(points: readonly number[], width: number): string {
  const numCells = Math.min(width, points.length);
  const cells = Array.from({ length: Math.max(0, numCells) }, (_, cell) => {
    const first = Math.floor((cell * points.length) / numCells);
    const end = Math.floor(((cell + 1) * points.length) / numCells);
    return points.slice(first, end).reduce((sum, point) => sum + point, 0) / (end - first);
  });
  const low = Math.min(...cells);
  const span = Math.max(...cells) - low;
  return cells
    .map((value) => BLOCKS[span > 0 ? Math.round(((value - low) / span) * (BLOCKS.length - 1)) : 0])
    .join('');
}

/** Prepares the values of a curve for drawing. */

/** Values over x; `undefined` where another curve alone has a point, null where there is a gap. */
export type Values = (number | null | undefined)[];

/** A curve with its noise averaged out: the mean of about `window` points around each, fewer at the ends. */
export function smooth(values: Values, window: number): Values {
  const reach = Math.floor(window / 2);
  const sums = new Float64Array(values.length + 1);
  const counts = new Uint32Array(values.length + 1);
  values.forEach((value, at) => {
    const isNumber = typeof value === 'number';
    sums[at + 1] = sums[at] + (isNumber ? value : 0);
    counts[at + 1] = counts[at] + (isNumber ? 1 : 0);
  });
  return values.map((value, at) => {
    if (typeof value !== 'number') return value;
    const [from, to] = [Math.max(0, at - reach), Math.min(values.length, at + reach + 1)];
    return (sums[to] - sums[from]) / (counts[to] - counts[from]);
  });
}

/** Smaller values are what rounding leaves of zero. */
const MIN_LOGARITHMIC = 1e-9;

/** What a logarithmic axis can show: nothing that is zero, or rounded to the other side of it. */
export function logarithmic(values: Values): Values {
  return values.map((value) =>
    typeof value === 'number' && !(value >= MIN_LOGARITHMIC) ? null : value,
  );
}

/**
 * The range of a logarithmic axis over values from `min` to `max`, with some room at both ends.
 *
 * It begins at one digit, such as 0.009: uPlot counts its lines from there in steps of 0.001 and rounds each to them, and
 * from 0.0096 it would never reach the next power of ten, and never end.
 */
export function logRange(min: number | null, max: number | null): [min: number, max: number] {
  if (min === null || max === null) return [0.1, 1];
  const [digit, exponent] = (min / 1.15).toExponential().split('e').map(Number);
  return [Number(`${Math.floor(digit)}e${exponent}`), max * 1.15];
}

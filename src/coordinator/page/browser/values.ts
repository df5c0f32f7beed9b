/** Prepares the values of a curve for drawing. */

/** Values over x; `undefined` where only another curve has a point, null where there is a gap. */
export type Values = (number | null | undefined)[];

/** A moving average: the mean of about `window` points around each point, fewer at the ends. */
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

/** Anything smaller is a rounding error of zero. */
const MIN_LOGARITHMIC = 1e-9;

/** Makes gaps of values that a logarithmic axis cannot show: zero, and rounding errors of it. */
export function logarithmic(values: Values): Values {
  return values.map((value) =>
    typeof value === 'number' && !(value >= MIN_LOGARITHMIC) ? null : value,
  );
}

/**
 * The range of a logarithmic axis over values from `min` to `max`, with some room at both ends.
 *
 * It begins at a value of one significant digit, such as 0.009: uPlot places its grid lines from there in steps of 0.001,
 * rounded to multiples; from 0.0096 it would never hit the next power of ten, and loop forever.
 */
export function logRange(min: number | null, max: number | null): [min: number, max: number] {
  if (min === null || max === null) return [0.1, 1];
  const [digit, exponent] = (min / 1.15).toExponential().split('e').map(Number);
  return [Number(`${Math.floor(digit)}e${exponent}`), max * 1.15];
}

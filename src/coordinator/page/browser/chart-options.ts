/** What a chart contains, and its options for uPlot: curves and axes in the theme's colours. */
import uPlot from 'uplot';
import { themeColor } from './element.js';
import { formatDuration, formatInteger } from './format.js';

export type Axis = 'step' | 'epoch' | 'time';

export interface Curve {
  readonly label: string;
  /** Name of a colour in the style sheet. */
  readonly color: string;
  /**
   * `line`; `faint` for the noisy values behind a smoothed line; `edge` bounds the band around the next curve; `points` for
   * the sparse values of evaluations; `area` filled down to zero; `steps` on a scale of its own.
   */
  readonly kind: 'line' | 'faint' | 'edge' | 'points' | 'area' | 'steps';
  /** Whether the curve is in the legend. */
  readonly isNamed?: boolean;
  readonly format?: (value: number) => string;
  readonly dash?: number[];
}

export interface ChartOptions {
  /** For screen readers. */
  readonly title: string;
  readonly curves: readonly Curve[];
  readonly format: (value: number) => string;
  /** For the labels of the vertical axis. */
  readonly formatAxis?: (value: number) => string;
  /** Whether the vertical axis starts at zero. */
  readonly fromZero?: boolean;
  /** Index of the curve that determines the range of the vertical axis, without its outliers. */
  readonly fitTo?: number;
  /** Whether the curves are stacked areas; the legend is then in reverse order. */
  readonly isStacked?: boolean;
}

/** @param isShown for each curve */
export function seriesOf(
  curves: readonly Curve[],
  isShown: readonly boolean[],
): Pick<uPlot.Options, 'series' | 'bands'> {
  const bands: uPlot.Band[] = [];
  const series = curves.map((curve, at): uPlot.Series => {
    const color = themeColor(curve.color);
    const shared = {
      show: isShown[at],
      points: { show: false },
      spanGaps: false,
      stroke: color,
    };
    switch (curve.kind) {
      case 'line':
        return { ...shared, width: 1.75 };
      case 'faint':
        return { ...shared, width: 1, stroke: themeColor(curve.color, 0.3) };
      case 'edge':
        if (at % 2 === 0)
          bands.push({ series: [at + 2, at + 1], fill: themeColor(curve.color, 0.12) });
        return { ...shared, width: 0, stroke: themeColor(curve.color, 0) };
      case 'points':
        return {
          ...shared,
          width: 1.75,
          ...(curve.dash && { dash: curve.dash }),
          points: {
            show: true,
            size: 6,
            fill: themeColor('surface'),
            stroke: color,
            width: 1.75,
          },
        };
      case 'area':
        return { ...shared, width: 0, fill: color };
      case 'steps':
        return {
          ...shared,
          width: 1.25,
          dash: [3, 3],
          scale: 'own',
          paths: uPlot.paths.stepped!({ align: -1 }),
        };
    }
  });
  return { series: [{}, ...series], bands };
}

/** The horizontal axis, the vertical axis, and one on the right for `steps` curves. */
export function axesOf(options: ChartOptions, unit: Axis, isLog: boolean): uPlot.Axis[] {
  const ink = themeColor('ink-2');
  const line = themeColor('line');
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const formatAxis = options.formatAxis ?? options.format;
  const axis = { stroke: ink, font, ticks: { show: false }, border: { show: false } };
  return [
    {
      ...axis,
      grid: { show: false },
      size: 26,
      gap: 4,
      space: 56,
      values: (_plot, splits) =>
        splits.map((v) =>
          unit === 'time'
            ? formatDuration(60 * v).replace('.0', '')
            : unit === 'step'
              ? formatInteger(v)
              : String(v),
        ),
      ...(unit !== 'time' && { incrs: ROUND_STEPS }),
    },
    {
      ...axis,
      grid: { stroke: line, width: 1, ...(isLog && { filter: roundSplits }) },
      ...(isLog && { filter: roundSplits }),
      size: (_plot, labels) => axisSize(labels),
      gap: 6,
      space: 34,
      values: (_plot, splits) =>
        (splits as (number | null)[]).map((v) => (v === null ? '' : formatAxis(v))),
    },
    ...options.curves
      .filter(({ kind }) => kind === 'steps')
      .map((curve): uPlot.Axis => ({
        ...axis,
        scale: 'own',
        // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- at the right, of an enum for types alone
        side: 1,
        grid: { show: false },
        size: (_plot, labels) => 12 + 6.5 * longest(labels),
        gap: 4,
        space: 24,
        incrs: ROUND_STEPS,
        values: (_plot, splits) => splits.map(curve.format ?? options.format),
      })),
  ];
}

/** Grid lines of a logarithmic axis: those at powers of ten and, over a short range, at 2 and 5 too. */
function roundSplits(_plot: uPlot, splits: readonly number[]): (number | null)[] {
  const isLong = Math.log10((splits.at(-1) ?? 1) / (splits.at(0) ?? 1)) > 2.2;
  const digits = isLong ? [1] : [1, 2, 5];
  return splits.map((split) => {
    const digit = split / 10 ** Math.floor(Math.log10(split) + 1e-9);
    return digits.some((wanted) => Math.abs(digit - wanted) < 1e-6) ? split : null;
  });
}

/** Space for the labels, in pixels; the same for most charts, so that they line up. */
function axisSize(labels: readonly string[] | null): number {
  return Math.max(46, 10 + 6.5 * longest(labels));
}

function longest(labels: readonly string[] | null): number {
  return Math.max(0, ...(labels ?? []).map((label) => label.length));
}

/** Allowed distances between labels: 1, 2, 5, 10, 20, 50, … */
const ROUND_STEPS = Array.from({ length: 8 }, (_, exponent) => 10 ** exponent).flatMap((unit) => [
  unit,
  2 * unit,
  5 * unit,
]);

/** Accuracy and loss in training and evaluations, over steps, epochs or time; throughput; where the time goes. */
import uPlot from 'uplot';
import type { StepColumn, StepFigure, StepSeries } from '../step-series.js';
import type { EvaluationRow } from '../update.js';
import type { Axis, Curve } from './chart-options.js';
import { Chart, ChartGroup } from './chart.js';
import { byId } from './element.js';
import { formatInteger, formatMs, formatPercent, formatSmall } from './format.js';
import type { RunStore } from './run-store.js';
import { smooth, type Values } from './values.js';

const ONE_TRAINING_CURVE: readonly Curve[] = [
  { label: 'minimum', color: 'train', kind: 'edge' },
  { label: 'maximum', color: 'train', kind: 'edge' },
  { label: 'each step', color: 'train', kind: 'faint' },
  { label: 'Training', color: 'train', kind: 'line', isNamed: true },
];
const EVALUATION_CURVES: readonly Curve[] = [
  { label: 'Validation', color: 'validation', kind: 'points', isNamed: true, dash: [5, 4] },
  { label: 'Test', color: 'test', kind: 'points', isNamed: true },
];

/** From the top of the stack to the bottom. */
const PARTS: readonly { label: string; color: string; figure: StepFigure }[] = [
  { label: 'Waiting', color: 'part-wait', figure: 'waitMs' },
  { label: 'Plan', color: 'part-plan', figure: 'planMs' },
  { label: 'Update', color: 'part-update', figure: 'updateMs' },
  { label: 'Reduce', color: 'part-reduce', figure: 'reduceMs' },
  { label: 'Wire', color: 'part-wire', figure: 'wireMs' },
  { label: 'Compute', color: 'part-compute', figure: 'computeMs' },
];

/**
 * Images per second: at each point, and averaged over about `window` points. The average is the ratio of mean images to mean
 * time, so that steps are weighted by how long they took.
 */
export function imagesPerSecond(series: StepSeries, window: number): [each: Values, mean: Values] {
  const images = Array.from(series.column('numImages'));
  const times = images.map((_, at) =>
    PARTS.reduce((sum, { figure }) => sum + series.column(figure)[at], 0),
  );
  const ratio = (numImages: Values, ms: Values): Values =>
    numImages.map((value, at) => (ms[at] ? (1000 * (value ?? 0)) / ms[at] : null));
  return [ratio(images, times), ratio(smooth(images, window), smooth(times, window))];
}

export class LearningPanel {
  private readonly store: RunStore;
  private readonly group: ChartGroup;
  private readonly accuracy: Chart;
  private readonly loss: Chart;
  private readonly throughput: Chart;
  private readonly times: Chart;
  private readonly rate: Chart;
  private isLog = false;

  constructor(store: RunStore) {
    this.store = store;
    const reset = byId('zoom-reset');
    this.group = new ChartGroup('run', (isZoomed) => (reset.hidden = !isZoomed));
    reset.addEventListener('click', () => this.group.zoom(null));
    const curves = [...ONE_TRAINING_CURVE, ...EVALUATION_CURVES];
    this.accuracy = new Chart(byId('chart-accuracy'), this.group, {
      title: 'Accuracy',
      curves,
      format: (value) => formatPercent(value),
      formatAxis: (value) => formatPercent(value, value > 0 && value < 0.01 ? 1 : 0),
    });
    this.loss = new Chart(byId('chart-loss'), this.group, {
      title: 'Loss',
      curves,
      format: formatSmall,
      formatAxis: (value) => String(Number(value.toPrecision(3))),
      fromZero: true,
    });
    this.throughput = new Chart(byId('chart-throughput'), this.group, {
      title: 'Images per second',
      curves: [
        { label: 'each step', color: 'speed', kind: 'faint' },
        { label: 'Images/s', color: 'speed', kind: 'line', isNamed: true },
        { label: 'Workers', color: 'ink-2', kind: 'steps', isNamed: true, format: formatInteger },
      ],
      format: formatInteger,
      formatAxis: (value) => (value >= 10_000 ? `${value / 1000}k` : formatInteger(value)),
      fromZero: true,
      fitTo: 1,
    });
    this.times = new Chart(byId('chart-times'), this.group, {
      title: 'Time of a step',
      curves: PARTS.map(({ label, color }) => ({ label, color, kind: 'area', isNamed: true })),
      format: formatMs,
      formatAxis: (value) => formatMs(value).replace(/\.0+(?=\D)/, ''),
      fromZero: true,
      fitTo: 0,
      isStacked: true,
    });
    this.rate = new Chart(byId('chart-rate'), this.group, {
      title: 'Learning rate',
      curves: [{ label: 'Learning rate', color: 'validation', kind: 'line', isNamed: true }],
      format: formatSmall,
      formatAxis: (value) => String(Number(value.toPrecision(3))),
      fromZero: true,
    });
    for (const input of document.querySelectorAll<HTMLInputElement>('input[name="axis"]')) {
      input.addEventListener('change', () => {
        this.group.axis = input.value as Axis;
        this.group.zoom(null);
        this.render();
      });
    }
    const log = byId('log-scale', HTMLInputElement);
    const takeScale = () => {
      this.isLog = log.checked;
      byId('title-accuracy').textContent = this.isLog ? 'Error rate' : 'Accuracy';
    };
    takeScale();
    log.addEventListener('change', () => {
      takeScale();
      this.render();
    });
  }

  recolor(): void {
    for (const chart of this.group.charts) chart.build();
  }

  /** Updates the descriptions for screen readers. */
  describe(): void {
    for (const chart of this.group.charts) chart.describe();
  }

  render(): void {
    const { series, evaluations } = this.store;
    const column = (name: StepColumn): Values =>
      Array.from(series.column(name), (value) => (Number.isFinite(value) ? value : null));
    const xs = Array.from(series.lastStep.subarray(0, series.length), (step, at) =>
      this.place(step + 1, series.column('seconds')[at]),
    );
    const window = Math.min(60, xs.length / 40);
    const asError = (values: Values) =>
      values.map((value) => (typeof value === 'number' && this.isLog ? 1 - value : value));

    const learn = (chart: Chart, name: 'loss' | 'accuracy') => {
      const convert = name === 'accuracy' ? asError : (values: Values) => values;
      const edges = [convert(column(`${name}Min`)), convert(column(`${name}Max`))];
      if (this.isLog && name === 'accuracy') edges.reverse();
      const mean = convert(column(name));
      const training = [xs, ...edges, mean, smooth(mean, window)] as uPlot.AlignedData;
      const tables = [training];
      const sets = [];
      for (const set of ['validation', 'test'] as const) {
        const rows = evaluations.filter((row) => row.set === set);
        sets.push(rows.length > 0);
        if (rows.length === 0) continue;
        const values = convert(rows.map((row) => row[name]));
        tables.push([rows.map((row) => this.placeEvaluation(row)), values]);
      }
      const [joinedX, ...joined] = uPlot.join(tables) as [number[], ...Values[]];
      // A set without evaluations still needs an empty series.
      sets.forEach((has, at) => {
        if (!has) joined.splice(4 + at, 0, new Array<null>(joinedX.length).fill(null));
      });
      chart.setData([joinedX, ...joined], this.isLog);
    };
    learn(this.accuracy, 'accuracy');
    learn(this.loss, 'loss');

    const totals = new Array<number>(xs.length).fill(0);
    const stack: Values[] = [];
    for (const { figure } of [...PARTS].reverse()) {
      smooth(column(figure), window).forEach((value, at) => (totals[at] += value ?? 0));
      stack.unshift([...totals]);
    }
    this.times.setData([xs, ...stack]);

    const [each, mean] = imagesPerSecond(series, window);
    this.throughput.setData([xs, each, mean, column('worldSize')]);
    this.rate.setData([xs, column('learningRate')]);
    this.group.show();
  }

  private place(globalStep: number, seconds: number): number {
    switch (this.group.axis) {
      case 'step':
        return globalStep;
      case 'epoch':
        return globalStep / (this.store.run?.stepsPerEpoch ?? 1);
      case 'time':
        return seconds / 60;
    }
  }

  private placeEvaluation({ globalStep, seconds }: EvaluationRow): number {
    return this.place(globalStep, seconds);
  }
}

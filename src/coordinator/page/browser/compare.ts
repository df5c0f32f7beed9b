/** Compares several finished runs: their results, their curves in the same charts, and differences in configuration. */
import uPlot from 'uplot';
import { StepSeries } from '../step-series.js';
import type { EvaluationRow, RunInfo, Update } from '../update.js';
import type { Axis, Curve } from './chart-options.js';
import { Chart, ChartGroup } from './chart.js';
import { bestOf } from './best.js';
import { byId, element, setText } from './element.js';
import { formatDuration, formatInteger, formatPercent, formatSmall, NOTHING } from './format.js';
import { imagesPerSecond } from './learning-panel.js';
import { configRows } from './run-header.js';
import { decodePoints } from './run-store.js';
import { setUpTheme } from './theme.js';
import { smooth, type Values } from './values.js';

interface ComparedRun {
  readonly run: RunInfo;
  readonly series: StepSeries;
  readonly evaluations: readonly EvaluationRow[];
  readonly result: Update['result'];
  readonly color: string;
  /** Link to the run's own page. */
  readonly href: string;
}

async function load(): Promise<ComparedRun[]> {
  const response = await fetch('api/runs');
  if (!response.ok) throw new Error(`The board answers ${response.status}`);
  const updates = (await response.json()) as Update[];
  return updates.map(({ run, points, evaluations = [], result }, at) => {
    const series = new StepSeries();
    if (points) series.apply(decodePoints(points));
    return { run: run!, series, evaluations, result, color: `run-${at}`, href: `runs/${at}/` };
  });
}

class Comparison {
  private readonly runs: readonly ComparedRun[];
  private readonly group: ChartGroup;
  private readonly testAccuracy: Chart;
  private readonly trainLoss: Chart;
  private readonly trainAccuracy: Chart;
  private readonly speed: Chart;
  private isLog = false;

  constructor(runs: readonly ComparedRun[]) {
    this.runs = runs;
    const reset = byId('zoom-reset');
    this.group = new ChartGroup('runs', (isZoomed) => (reset.hidden = !isZoomed));
    reset.addEventListener('click', () => this.group.zoom(null));
    const curves = (kind: Curve['kind']) =>
      runs.map(({ run, color }): Curve => ({ label: run.name, color, kind, isNamed: true }));
    const formatAxis = (value: number) => formatPercent(value, value > 0 && value < 0.01 ? 1 : 0);
    const accuracy = { format: formatPercent, formatAxis };
    this.testAccuracy = new Chart(byId('chart-test-accuracy'), this.group, {
      title: 'Test accuracy',
      curves: curves('points'),
      ...accuracy,
      formatAxis: (value) => formatPercent(value, 1),
    });
    this.trainLoss = new Chart(byId('chart-train-loss'), this.group, {
      title: 'Training loss',
      curves: curves('line'),
      format: formatSmall,
      formatAxis: (value) => String(Number(value.toPrecision(3))),
      fromZero: true,
    });
    this.trainAccuracy = new Chart(byId('chart-train-accuracy'), this.group, {
      title: 'Training accuracy',
      curves: curves('line'),
      ...accuracy,
    });
    this.speed = new Chart(byId('chart-speed'), this.group, {
      title: 'Images per second',
      curves: curves('line'),
      format: formatInteger,
      formatAxis: (value) => (value >= 10_000 ? `${value / 1000}k` : formatInteger(value)),
      fromZero: true,
    });
    for (const input of document.querySelectorAll<HTMLInputElement>('input[name="axis"]')) {
      input.addEventListener('change', () => {
        this.group.axis = input.value as Axis;
        this.group.zoom(null);
        this.draw();
      });
    }
    const log = byId('log-scale', HTMLInputElement);
    log.addEventListener('change', () => {
      this.isLog = log.checked;
      setText(byId('title-test-accuracy'), this.isLog ? 'Test error rate' : 'Test accuracy');
      setText(
        byId('title-train-accuracy'),
        this.isLog ? 'Training error rate' : 'Training accuracy',
      );
      this.draw();
    });
  }

  recolor(): void {
    for (const chart of this.group.charts) chart.build();
  }

  draw(): void {
    const { isLog } = this;
    const asError = (values: Values) =>
      values.map((value) => (typeof value === 'number' && isLog ? 1 - value : value));
    this.testAccuracy.setData(
      this.join((run) => {
        const tests = run.evaluations.filter(({ set }) => set === 'test');
        const rows = tests.length > 0 ? tests : run.evaluations;
        const xs = rows.map(({ globalStep, seconds }) => this.place(run, globalStep, seconds));
        return [xs, asError(rows.map(({ accuracy }) => accuracy))];
      }),
      isLog,
    );
    const ofSteps = (figure: (run: ComparedRun, window: number) => Values) =>
      this.join((run) => {
        const { lastStep, length } = run.series;
        const seconds = run.series.column('seconds');
        const xs = Array.from(lastStep.subarray(0, length), (step, at) =>
          this.place(run, step + 1, seconds[at]),
        );
        return [xs, figure(run, Math.min(80, length / 40))];
      });
    const column = ({ series }: ComparedRun, name: 'loss' | 'accuracy'): Values =>
      Array.from(series.column(name), (value) => (Number.isFinite(value) ? value : null));
    this.trainLoss.setData(
      ofSteps((run, window) => smooth(column(run, 'loss'), window)),
      isLog,
    );
    this.trainAccuracy.setData(
      ofSteps((run, window) => asError(smooth(column(run, 'accuracy'), window))),
      isLog,
    );
    this.speed.setData(ofSteps(({ series }, window) => imagesPerSecond(series, window)[1]));
    this.group.show();
    for (const chart of this.group.charts) chart.describe();
  }

  /** One curve per run, over the union of their x values. */
  private join(curve: (run: ComparedRun) => [number[], Values]): [number[], ...Values[]] {
    const tables = this.runs.map(curve);
    const filled = tables.filter(([xs]) => xs.length > 0) as uPlot.AlignedData[];
    const [xs, ...values] = (filled.length > 0 ? uPlot.join(filled) : [[]]) as [
      number[],
      ...Values[],
    ];
    const empty = new Array<null>(xs.length).fill(null);
    return [xs, ...tables.map(([own]) => (own.length > 0 ? values.shift()! : empty))];
  }

  private place({ run }: ComparedRun, globalStep: number, seconds: number): number {
    switch (this.group.axis) {
      case 'step':
        return globalStep;
      case 'epoch':
        return globalStep / run.stepsPerEpoch;
      case 'time':
        return seconds / 60;
    }
  }
}

function showResults(runs: readonly ComparedRun[]): void {
  const sameAs = (at: number) =>
    runs.findIndex(
      ({ result }) => result && result.weightsSha256 === runs[at].result?.weightsSha256,
    );
  byId('results').replaceChildren(
    ...runs.map(({ run, result, evaluations, color, href }, at) => {
      const swatch = element('span', { class: 'swatch swatch-area', 'aria-hidden': 'true' });
      swatch.style.setProperty('--color', `var(--${color})`);
      const tests = evaluations.filter(({ set }) => set === 'test');
      const last = tests.at(-1);
      const best = bestOf(evaluations)?.accuracy ?? NaN;
      const first = sameAs(at);
      const weights = element('td', { class: 'weights' });
      if (result) {
        const digest = result.weightsSha256;
        weights.append(element('code', { title: digest }, digest.slice(0, 12)));
        if (first !== at) {
          weights.append(
            ' ',
            element('span', { class: 'tag' }, `same bits as ${runs[first].run.name}`),
          );
        }
      } else {
        weights.append('not finished');
      }
      const cells = [
        formatPercent(last?.accuracy ?? NaN),
        formatPercent(best),
        formatSmall(last?.loss ?? NaN),
        formatInteger(result?.globalStep ?? NaN),
        formatInteger(result?.imagesPerSecond ?? NaN),
        formatDuration(result?.seconds ?? NaN),
        result ? formatInteger(result.workers.length) : NOTHING,
      ];
      return element(
        'tr',
        {},
        element('th', { scope: 'row' }, swatch, element('a', { href }, run.name)),
        ...cells.map((text) => element('td', {}, text)),
        weights,
      );
    }),
  );
}

function showDifferences(runs: readonly ComparedRun[]): void {
  byId('differences-head').append(
    ...runs.map(({ run }) => element('th', { scope: 'col' }, run.name)),
  );
  const tables = runs.map(({ run }) => new Map(configRows(run.config)));
  const names = [...new Set(tables.flatMap((table) => [...table.keys()]))];
  const differing = names.filter(
    (name) => new Set(tables.map((table) => table.get(name))).size > 1,
  );
  byId('differences').append(
    ...differing.map((name) =>
      element(
        'tr',
        {},
        element('th', { scope: 'row' }, name),
        ...tables.map((table) => element('td', {}, table.get(name) ?? NOTHING)),
      ),
    ),
  );
  byId('differences-none').hidden = differing.length > 0;
  setText(
    byId('same'),
    `${formatInteger(names.length - differing.length)} of ${formatInteger(names.length)} options are the same`,
  );
}

let comparison: Comparison | null = null;
setUpTheme(() => comparison?.recolor());
try {
  const runs = await load();
  comparison = new Comparison(runs);
  comparison.draw();
  showResults(runs);
  showDifferences(runs);
  setText(byId('title'), `${formatInteger(runs.length)} runs`);
  byId('state').dataset.kind = 'done';
  setText(byId('state'), 'Comparison');
} catch {
  byId('state').dataset.kind = 'bad';
  setText(byId('state'), 'Cannot read the runs; is the board still there?');
}

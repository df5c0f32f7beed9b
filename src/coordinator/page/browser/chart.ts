/**
 * A chart of curves over the run, based on uPlot: a legend that follows the cursor, zoom by mouse or keyboard, the theme's
 * colours. The charts of a group share the horizontal axis: zoom and cursor apply to all of them.
 */
import uPlot from 'uplot';
import { axesOf, seriesOf, type Axis, type ChartOptions } from './chart-options.js';
import { element, setText } from './element.js';
import { formatDuration, formatInteger } from './format.js';
import { logRange, logarithmic, type Values } from './values.js';

/** Charts that share their horizontal axis. */
export class ChartGroup {
  readonly charts: Chart[] = [];
  readonly key: string;
  axis: Axis = 'step';
  /** The zoomed range; null for everything. */
  range: readonly [number, number] | null = null;
  private readonly zoomed: (isZoomed: boolean) => void;

  constructor(key: string, zoomed: (isZoomed: boolean) => void) {
    this.key = key;
    this.zoomed = zoomed;
  }

  zoom(range: readonly [number, number] | null): void {
    this.range = range;
    this.zoomed(range !== null);
    this.show();
  }

  /** Shows the range in every chart; call this once all have their data. */
  show(): void {
    for (const chart of this.charts) chart.showRange();
  }

  /** From the first point of any chart to the last. */
  get extent(): readonly [number, number] {
    const filled = this.charts.map(({ xs }) => xs).filter((xs) => xs.length > 0);
    const first = Math.min(...filled.map((xs) => xs[0]));
    return [first, Math.max(...filled.map((xs) => xs[xs.length - 1]))];
  }

  formatX(value: number): string {
    if (this.axis === 'time') return formatDuration(60 * value);
    if (this.axis === 'epoch') return `epoch ${value.toFixed(2)}`;
    return `step ${formatInteger(value)}`;
  }
}

export class Chart {
  private readonly group: ChartGroup;
  private readonly options: ChartOptions;
  private readonly plotHost: HTMLElement;
  private readonly position: HTMLElement;
  private readonly summary: HTMLElement;
  private readonly legend: {
    readonly at: number;
    readonly value: HTMLElement;
    readonly button: HTMLElement;
  }[] = [];
  private readonly isShown: boolean[];
  private data: readonly [number[], ...Values[]];
  private isLog = false;
  private plot: uPlot | null = null;

  constructor(host: HTMLElement, group: ChartGroup, options: ChartOptions) {
    this.group = group;
    this.options = options;
    this.isShown = options.curves.map(() => true);
    this.data = [[], ...options.curves.map((): Values => [])];
    const legend = element('div', { class: 'legend' });
    options.curves.forEach((curve, at) => {
      if (!curve.isNamed) return;
      const value = element('span', { class: 'legend-value' });
      const swatch = element('span', { class: `swatch swatch-${curve.kind}` });
      swatch.style.setProperty('--color', `var(--${curve.color})`);
      const button = element(
        'button',
        { type: 'button', class: 'legend-item', 'aria-pressed': 'true' },
        swatch,
        element('span', {}, curve.label),
        value,
      );
      button.addEventListener('click', () => this.toggle(at, button));
      legend.append(button);
      this.legend.push({ at, value, button });
    });
    if (options.isStacked) legend.append(...[...legend.children].reverse());
    this.position = element('span', { class: 'legend-position' });
    legend.append(this.position);
    this.summary = element('p', { class: 'unseen' });
    this.plotHost = element('div', {
      class: 'plot',
      tabindex: '0',
      role: 'group',
      'aria-label': `${options.title}; left and right move, plus and minus zoom, 0 shows all`,
    });
    host.append(legend, this.plotHost, this.summary);
    this.plotHost.addEventListener('keydown', (event) => this.key(event));
    group.charts.push(this);
    new ResizeObserver(() => this.resize()).observe(this.plotHost);
  }

  /** @param data x, then the values of each curve; shown when the group's `show` is called */
  setData(data: readonly [number[], ...Values[]], isLog = false): void {
    this.data = data;
    for (const { at, button } of this.legend) {
      button.hidden = data[at + 1].every((value) => typeof value !== 'number');
    }
    if (isLog !== this.isLog || !this.plot) {
      this.isLog = isLog;
      this.build();
    } else {
      this.plot.setData(this.plotData(), false);
    }
  }

  /** Redraws everything, in the theme's colours. */
  build(): void {
    this.plot?.destroy();
    this.plot = null;
    const { clientWidth: width, clientHeight: height } = this.plotHost;
    if (width === 0 || this.data[0].length === 0) return;
    this.plot = new uPlot(this.plotOptions(width, height), this.plotData(), this.plotHost);
    this.showRange();
  }

  get xs(): readonly number[] {
    return this.data[0];
  }

  showRange(): void {
    const { plot, group } = this;
    if (!plot || this.xs.length === 0) return;
    const [min, max] = group.range ?? group.extent;
    plot.setScale('x', { min, max: max > min ? max : min + 1 });
    this.showLegend();
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.plotHost;
    if (!this.plot) this.build();
    else if (width > 0) this.plot.setSize({ width, height });
  }

  private toggle(at: number, button: HTMLElement): void {
    this.isShown[at] = !this.isShown[at];
    button.setAttribute('aria-pressed', String(this.isShown[at]));
    // The unnamed curves before it belong to it.
    for (let other = at - 1; other >= 0 && !this.options.curves[other].isNamed; other -= 1) {
      this.isShown[other] = this.isShown[at];
    }
    this.build();
  }

  private key(event: KeyboardEvent): void {
    const { plot, group } = this;
    if (!plot) return;
    const { xs } = this;
    const [first, last] = group.extent;
    const min = plot.scales.x.min ?? first;
    const max = plot.scales.x.max ?? last;
    const idx = plot.cursor.idx ?? plot.valToIdx((min + max) / 2);
    const zoomBy = (factor: number) => {
      const half = ((max - min) * factor) / 2;
      const middle = xs[idx];
      const [from, to] = [Math.max(first, middle - half), Math.min(last, middle + half)];
      group.zoom(from <= first && to >= last ? null : [from, to]);
    };
    const moveBy = (sign: number) => {
      const step = Math.max(1, Math.round((plot.valToIdx(max) - plot.valToIdx(min)) / 60));
      const to = Math.min(plot.valToIdx(max), Math.max(plot.valToIdx(min), idx + sign * step));
      plot.setCursor({ left: plot.valToPos(xs[to], 'x'), top: plot.over.clientHeight / 2 });
    };
    switch (event.key) {
      case 'ArrowLeft':
        moveBy(-1);
        break;
      case 'ArrowRight':
        moveBy(1);
        break;
      case '+':
      case '=':
        zoomBy(0.5);
        break;
      case '-':
        zoomBy(2);
        break;
      case '0':
      case 'Escape':
        group.zoom(null);
        break;
      default:
        return;
    }
    event.preventDefault();
  }

  /** Shows values in the legend: those at the cursor, or the last ones. */
  private showLegend(): void {
    const xs = this.data[0];
    // Where the points have become fewer, the cursor is told only later.
    const cursor = this.plot?.cursor.idx ?? null;
    const at = cursor === null ? null : Math.min(cursor, xs.length - 1);
    for (const { at: curve, value } of this.legend) {
      const values = this.data[curve + 1];
      let index = at ?? xs.length - 1;
      while (index > 0 && typeof values[index] !== 'number') index -= 1;
      const here = this.valueAt(curve, index);
      const format = this.options.curves[curve].format ?? this.options.format;
      setText(value, typeof here === 'number' ? format(here) : '');
    }
    setText(this.position, at === null ? '' : this.group.formatX(xs[at]));
  }

  /** A curve's value at a point; for stacked curves their own part, without those below. */
  private valueAt(curve: number, index: number): number | null | undefined {
    const value = this.data[curve + 1][index];
    if (!this.options.isStacked || typeof value !== 'number') return value;
    const below = this.data.at(curve + 2)?.[index];
    return value - (curve + 2 < this.data.length && typeof below === 'number' ? below : 0);
  }

  /** Describes the chart in words, for screen readers. */
  describe(): void {
    const parts = this.legend.map(({ at, value }) =>
      value.textContent ? `${this.options.curves[at].label} ${value.textContent}` : '',
    );
    setText(this.summary, `${this.options.title}: ${parts.filter(Boolean).join(', ')}`);
  }

  private plotData(): uPlot.AlignedData {
    const values = this.data.slice(1) as Values[];
    if (!this.isLog) return [this.data[0], ...values];
    return [this.data[0], ...values.map(logarithmic)];
  }

  private plotOptions(width: number, height: number): uPlot.Options {
    const { options, group, isLog } = this;
    return {
      width,
      height,
      padding: [10, 8, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: group.key },
        drag: { x: true, y: false, setScale: false },
        points: { size: 7, width: 1.5 },
        focus: { prox: -1 },
      },
      scales: {
        x: { time: false, auto: false },
        // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- logarithmic, of an enum for types alone
        y: isLog
          ? { distr: 3, range: (_plot, min, max) => logRange(min, max) }
          : { range: (_plot, min, max) => this.yRange(min, max) },
        own: { range: (_plot, _min, max) => [0, Math.max(1, max) * 1.25] },
      },
      axes: axesOf(options, group.axis, isLog),
      ...seriesOf(options.curves, this.isShown),
      hooks: {
        setCursor: [() => this.showLegend()],
        setSelect: [(plot) => this.selected(plot)],
        ready: [(plot) => plot.over.addEventListener('dblclick', () => group.zoom(null))],
      },
    };
  }

  private yRange(min: number | null, max: number | null): uPlot.Range.MinMax {
    if (min === null || max === null) return [0, 1];
    const { fromZero, fitTo } = this.options;
    const top = fitTo === undefined ? max : Math.min(max, 1.6 * this.usualLargest(fitTo));
    if (fromZero) return [0, top > 0 ? 1.08 * top : 1];
    const margin = 0.06 * (max - min || Math.abs(max) || 1);
    return [min - margin, max + margin];
  }

  /** The 95th percentile of a curve's visible values. */
  private usualLargest(curve: number): number {
    const [min, max] = this.group.range ?? [-Infinity, Infinity];
    const [xs] = this.data;
    const values = this.data[curve + 1]
      .filter((_, at) => xs[at] >= min && xs[at] <= max)
      .filter((value) => typeof value === 'number');
    values.sort((a, b) => a - b);
    return values[Math.floor(0.95 * (values.length - 1))] ?? Infinity;
  }

  private selected(plot: uPlot): void {
    const { left, width } = plot.select;
    if (width < 4) return;
    const range = [plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x')] as const;
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.group.zoom(range);
  }
}

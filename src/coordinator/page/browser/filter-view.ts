/**
 * The filters of the first convolution as they are learned: at first, half way, and now; a slider moves the last row back
 * through the run. Filters of RGB images are shown in colour; for other multi-channel images, the channels are stacked.
 */
import type { FilterFrame, Filters } from '../update.js';
import { byId, bytesFromBase64, element, setText, themeChannels } from './element.js';
import { formatInteger } from './format.js';
import type { RunStore } from './run-store.js';

/** With fewer frames of history, only the current filters are shown. */
const MIN_FRAMES = 4;

interface Row {
  readonly element: HTMLElement;
  readonly label: HTMLElement;
  readonly canvases: HTMLCanvasElement[];
}

export class FilterView {
  private readonly store: RunStore;
  private readonly slider = byId('filters-time', HTMLInputElement);
  private rows: Row[] = [];
  /** Whether the slider is at its end, and follows the run. */
  private isFollowing = true;

  constructor(store: RunStore) {
    this.store = store;
    this.slider.addEventListener('input', () => {
      this.isFollowing = this.slider.value === this.slider.max;
      this.render();
    });
  }

  render(): void {
    const { filters } = this.store;
    byId('filters-panel').hidden = !filters;
    if (!filters) return;
    const { numFilters, channels, frames, current } = filters;
    byId('filters-key').hidden = channels === 3;
    byId('filters-key-rgb').hidden = channels !== 3;
    if (this.rows[0]?.canvases.length !== numFilters) {
      this.rows = ['at first', 'half way', 'now'].map((when) => makeRow(when, numFilters));
      byId('filters').replaceChildren(...this.rows.map((row) => row.element));
    }
    const hasPast = frames.length >= MIN_FRAMES;
    this.rows[0].element.hidden = this.rows[1].element.hidden = !hasPast;
    this.slider.hidden = !hasPast;
    this.slider.max = String(frames.length);
    if (this.isFollowing) this.slider.value = this.slider.max;
    const chosen = this.isFollowing ? current : (frames.at(Number(this.slider.value)) ?? current);
    const when = `step ${formatInteger(chosen.globalStep)}`;
    this.slider.setAttribute('aria-valuetext', when);
    setText(byId('filters-note'), when);
    setText(this.rows[2].label, this.isFollowing ? 'now' : 'then');
    const first = frames.at(0) ?? current;
    const middle = frames.at(Math.floor(frames.length / 2)) ?? current;
    [first, middle, chosen].forEach((frame, at) => this.paint(this.rows[at], frame, filters));
  }

  private paint({ canvases }: Row, frame: FilterFrame, { kernelSize, channels }: Filters): void {
    const weights = new Float32Array(bytesFromBase64(frame.weights).buffer);
    const largest = weights.reduce((size, weight) => Math.max(size, Math.abs(weight)), 1e-12);
    const [plus, minus, zero] = ['filter-plus', 'filter-minus', 'filter-zero'].map(themeChannels);
    const isRgb = channels === 3;
    const cells = kernelSize ** 2;
    const rows = isRgb ? kernelSize : channels * kernelSize;
    const diverging = (value: number) => {
      const end = value > 0 ? plus : minus;
      return zero.map((from, channel) => from + (end[channel] - from) * Math.abs(value));
    };
    canvases.forEach((canvas, filter) => {
      canvas.width = kernelSize;
      canvas.height = rows;
      canvas.style.aspectRatio = `${kernelSize} / ${rows}`;
      const context = canvas.getContext('2d')!;
      const image = context.createImageData(kernelSize, rows);
      const weight = (at: number) => weights[filter * channels * cells + at] / largest;
      for (let cell = 0; cell < kernelSize * rows; cell += 1) {
        const color = isRgb
          ? [0, 1, 2].map((channel) => 127.5 * (1 + weight(channel * cells + cell)))
          : diverging(weight(cell));
        image.data.set([...color, 255], 4 * cell);
      }
      context.putImageData(image, 0, 0);
    });
  }
}

function makeRow(when: string, numFilters: number): Row {
  const label = element('span', {}, when);
  const canvases = Array.from({ length: numFilters }, (_, at) =>
    element('canvas', { role: 'img', 'aria-label': `Filter ${at + 1}, ${when}` }),
  );
  return { element: element('div', { class: 'filters-row' }, label, ...canvases), label, canvases };
}

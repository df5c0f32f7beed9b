/**
 * Which classes were confused in the last evaluation. For a few classes a table, which a screen reader can navigate; for
 * more, a heat map and a list of the most frequent mistakes.
 */
import type { Confusion } from '../update.js';
import { byId, element, setText, themeChannels } from './element.js';
import { formatClass, formatInteger, formatPercent } from './format.js';

const MAX_TABLE_CLASSES = 16;

export class ConfusionMatrix {
  private readonly table = byId('confusion-matrix').querySelector('table')!;
  private readonly canvas = byId('confusion-canvas', HTMLCanvasElement);
  private classNames: readonly string[] = [];
  private cells: HTMLTableCellElement[] = [];
  private recalls: HTMLTableCellElement[] = [];
  private confusion: Confusion | null = null;

  constructor() {
    const tell = (event: PointerEvent) => {
      const box = this.canvas.getBoundingClientRect();
      this.tell((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    };
    this.canvas.addEventListener('pointermove', tell);
    this.canvas.addEventListener('pointerdown', tell);
  }

  render(confusion: Confusion, classNames: readonly string[]): void {
    const { set, numImages, globalStep } = confusion;
    const isTable = classNames.length <= MAX_TABLE_CLASSES;
    if (String(classNames) !== String(this.classNames)) {
      this.classNames = classNames;
      if (isTable) this.layOut();
    }
    this.confusion = confusion;
    byId('confusion-matrix').hidden = !isTable;
    byId('confusion-map').hidden = isTable;
    if (isTable) this.fill(confusion);
    else {
      this.paint(confusion);
      this.list(confusion);
    }
    setText(
      byId('confusion-note'),
      `${formatInteger(numImages)} ${set} images, after step ${formatInteger(globalStep)}`,
    );
    byId('confusion-panel').hidden = false;
  }

  private layOut(): void {
    const { classNames, table } = this;
    const head = (scope: 'row' | 'col', name: string) =>
      element('th', { scope, title: name }, element('span', {}, name));
    table.classList.toggle(
      'has-words',
      classNames.some((name) => name.length > 2),
    );
    table.style.setProperty('--columns', String(classNames.length));
    byId('confusion-head').replaceChildren(
      element('td'),
      ...classNames.map((name) => head('col', name)),
      element('th', { scope: 'col', class: 'recall' }, 'right'),
    );
    this.cells = [];
    this.recalls = classNames.map(() => element('td', { class: 'recall' }));
    const rows = classNames.map((name, label) => {
      const cells = classNames.map((_, predicted) =>
        element('td', { class: label === predicted ? 'is-right' : '' }),
      );
      this.cells.push(...cells);
      return element('tr', {}, head('row', name), ...cells, this.recalls[label]);
    });
    byId('confusion').replaceChildren(...rows);
  }

  private fill(confusion: Confusion): void {
    const { counts, numByLabel, numRight } = confusion;
    const strengths = strengthsOf(confusion);
    counts.forEach((count, index) => {
      const cell = this.cells[index];
      cell.style.setProperty('--strength', strengths[index].toFixed(3));
      setText(cell, count > 0 ? String(count) : '');
      cell.title = this.describe(index);
    });
    this.recalls.forEach((cell, label) => {
      setText(cell, formatPercent(numRight[label] / numByLabel[label], 1));
    });
  }

  private paint(confusion: Confusion): void {
    const strengths = strengthsOf(confusion);
    const side = Math.sqrt(strengths.length);
    const [right, wrong, empty] = ['right', 'wrong', 'sunken'].map(themeChannels);
    this.canvas.width = this.canvas.height = side;
    const context = this.canvas.getContext('2d')!;
    const image = context.createImageData(side, side);
    strengths.forEach((strength, index) => {
      const end = index % (side + 1) === 0 ? right : wrong;
      const color = empty.map((from, channel) => from + (end[channel] - from) * strength);
      image.data.set([...color, 255], 4 * index);
    });
    context.putImageData(image, 0, 0);
    this.canvas.setAttribute(
      'aria-label',
      `Heat map of ${formatInteger(this.classNames.length)} classes; the list below has the most frequent mistakes`,
    );
  }

  private list({ pairs, numByLabel }: Confusion): void {
    byId('confusion-pairs').replaceChildren(
      ...pairs.map(({ label, predicted, count }) =>
        element(
          'tr',
          {},
          element('th', { scope: 'row' }, this.classNames[label]),
          element('td', {}, this.classNames[predicted]),
          element('td', {}, `${formatInteger(count)} of ${formatInteger(numByLabel[label])}`),
        ),
      ),
    );
  }

  /** Describes the heat map's cell at (x, y), 0–1 from its top left corner. */
  private tell(x: number, y: number): void {
    if (!this.confusion) return;
    const side = Math.sqrt(this.confusion.counts.length);
    const at = (part: number) => Math.min(side - 1, Math.max(0, Math.floor(part * side)));
    setText(byId('confusion-place'), this.describe(at(y) * side + at(x)));
  }

  private describe(index: number): string {
    const { counts, classesPerCell } = this.confusion!;
    const side = Math.sqrt(counts.length);
    const names = (cell: number) => {
      const group = this.classNames.slice(cell * classesPerCell, (cell + 1) * classesPerCell);
      const [first, last] = [group[0], group[group.length - 1]];
      return group.length > 1 ? `${first} … ${last}` : formatClass(first);
    };
    const [label, predicted] = [names(Math.floor(index / side)), names(index % side)];
    return `${label} taken for ${predicted}: ${formatInteger(counts[index])}`;
  }
}

/** Colour intensity of each cell, 0–1: recall on the diagonal, elsewhere relative to the most frequent mistake. */
function strengthsOf({ counts }: Confusion): number[] {
  const side = Math.sqrt(counts.length);
  const isRight = (index: number) => index % (side + 1) === 0;
  const totals = new Array<number>(side).fill(0);
  counts.forEach((count, index) => (totals[Math.floor(index / side)] += count));
  const worst = counts.reduce((most, count, at) => (isRight(at) ? most : Math.max(most, count)), 1);
  return counts.map((count, index) =>
    isRight(index)
      ? count / Math.max(1, totals[Math.floor(index / side)])
      : Math.sqrt(count / worst),
  );
}

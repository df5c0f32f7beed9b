/** Which digits are taken for which, after the last evaluation. A table: a screen reader can walk it. */
import type { Confusion } from '../update.js';
import { byId, element, setText } from './element.js';
import { formatInteger, formatPercent } from './format.js';

const DIGITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

export class ConfusionMatrix {
  private readonly cells: HTMLTableCellElement[] = [];
  private readonly recalls: HTMLTableCellElement[] = [];

  constructor() {
    const head = byId('confusion-head', HTMLTableRowElement);
    head.append(...DIGITS.map((digit) => element('th', { scope: 'col' }, String(digit))));
    head.append(element('th', { scope: 'col', class: 'recall' }, 'right'));
    const body = byId('confusion', HTMLTableSectionElement);
    for (const label of DIGITS) {
      const row = element('tr', {}, element('th', { scope: 'row' }, String(label)));
      for (const predicted of DIGITS) {
        const cell = element('td', { class: label === predicted ? 'is-right' : '' });
        this.cells.push(cell);
        row.append(cell);
      }
      const recall = element('td', { class: 'recall' });
      this.recalls.push(recall);
      row.append(recall);
      body.append(row);
    }
  }

  render({ counts, set, numImages, globalStep }: Confusion): void {
    const rowTotals = DIGITS.map((label) =>
      DIGITS.reduce((sum, predicted) => sum + counts[10 * label + predicted], 0),
    );
    const worst = Math.max(1, ...counts.filter((_, index) => index % 11 !== 0));
    counts.forEach((count, index) => {
      const isRight = index % 11 === 0;
      const label = Math.floor(index / 10);
      const strength = isRight ? count / Math.max(1, rowTotals[label]) : Math.sqrt(count / worst);
      const cell = this.cells[index];
      cell.style.setProperty('--strength', strength.toFixed(3));
      setText(cell, count > 0 ? String(count) : '');
      cell.title = `${label} taken for ${index % 10}: ${formatInteger(count)}`;
    });
    this.recalls.forEach((cell, label) => {
      setText(cell, formatPercent(counts[11 * label] / rowTotals[label], 1));
    });
    setText(
      byId('confusion-note'),
      `${formatInteger(numImages)} ${set} images, after step ${formatInteger(globalStep)}`,
    );
    byId('confusion-panel').hidden = false;
  }
}

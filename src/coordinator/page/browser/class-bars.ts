/** The probability of each class as a bar; only the likeliest if there are many classes. */
import { byId, element, setText } from './element.js';
import { formatPercent } from './format.js';

const MAX_BARS = 10;

interface Bar {
  readonly row: HTMLElement;
  readonly name: HTMLElement;
  readonly value: HTMLElement;
}

export class ClassBars {
  private bars: Bar[] = [];
  private classNames: readonly string[] = [];

  setClasses(classNames: readonly string[]): void {
    this.classNames = classNames;
    this.bars = classNames.slice(0, MAX_BARS).map(() => {
      const name = element('span', { class: 'bar-name' });
      const value = element('span', { class: 'bar-value' });
      const fill = element('span', { class: 'bar-fill', 'aria-hidden': 'true' });
      const track = element('span', { class: 'bar-track' }, fill);
      return { row: element('li', {}, name, track, value), name, value };
    });
    const list = byId('pad-bars');
    list.classList.toggle(
      'has-words',
      classNames.some((name) => name.length > 2),
    );
    list.replaceChildren(...this.bars.map(({ row }) => row));
    this.render(null);
  }

  /** @param probabilities (numClasses,), or null for none */
  render(probabilities: readonly number[] | null): void {
    const { classNames } = this;
    const shown = [...classNames.keys()];
    if (classNames.length > MAX_BARS) {
      shown.sort((a, b) => (probabilities ? probabilities[b] - probabilities[a] : a - b));
    }
    const first = probabilities ? probabilities.indexOf(Math.max(...probabilities)) : -1;
    this.bars.forEach(({ row, name, value }, at) => {
      const label = shown[at];
      const isNamed = probabilities !== null || classNames.length <= MAX_BARS;
      setText(name, isNamed ? classNames[label] : '');
      name.title = isNamed ? classNames[label] : '';
      row.style.setProperty('--part', (probabilities?.[label] ?? 0).toFixed(4));
      row.classList.toggle('is-first', label === first);
      setText(value, probabilities ? formatPercent(probabilities[label], 0) : '');
    });
  }
}

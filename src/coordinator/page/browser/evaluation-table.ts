/** The evaluations as a table: the values behind the curves, to read or copy. */
import { byId, element } from './element.js';
import { formatDuration, formatInteger, formatPercent, formatSmall } from './format.js';
import type { RunStore } from './run-store.js';

export class EvaluationTable {
  private readonly store: RunStore;

  constructor(store: RunStore) {
    this.store = store;
  }

  render(): void {
    const { evaluations } = this.store;
    byId('evaluations-panel').hidden = evaluations.length === 0;
    byId('evaluations').replaceChildren(
      ...evaluations
        .toReversed()
        .map(({ set, epoch, globalStep, accuracy, loss, seconds }) =>
          element(
            'tr',
            {},
            element('th', { scope: 'row' }, formatInteger(epoch)),
            element('td', {}, set),
            element('td', {}, formatPercent(accuracy)),
            element('td', {}, formatSmall(loss)),
            element('td', {}, formatInteger(globalStep)),
            element('td', {}, formatDuration(seconds)),
          ),
        ),
    );
  }
}

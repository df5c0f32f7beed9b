/** The run's events, newest first: joins, losses, checkpoints, notices. */
import type { EventRow } from '../update.js';
import { byId, element } from './element.js';
import { formatInteger, formatTime } from './format.js';
import type { RunStore } from './run-store.js';

const MAX_SHOWN = 200;

export class EventList {
  private readonly store: RunStore;
  private readonly filter = byId('events-filter', HTMLSelectElement);

  constructor(store: RunStore) {
    this.store = store;
    this.filter.addEventListener('change', () => this.render());
  }

  render(): void {
    const shown = this.store.events.filter((row) => isShown(row, this.filter.value));
    // Of several checkpoints in a row, only the last matters.
    const isAll = this.filter.value !== 'checkpoints';
    const rows = shown.filter(
      ({ kind }, at) => !(isAll && kind === 'checkpoint' && shown[at + 1]?.kind === 'checkpoint'),
    );
    const now = this.store.now();
    byId('events').replaceChildren(
      ...rows
        .slice(-MAX_SHOWN)
        .reverse()
        .map((row) =>
          element(
            'li',
            { class: `event-${row.kind}`, 'data-level': row.level },
            element(
              'time',
              { datetime: new Date(row.time).toISOString() },
              formatTime(row.time, now),
            ),
            element('span', {}, row.message),
            element('small', {}, `step ${formatInteger(row.globalStep)}`),
          ),
        ),
    );
    byId('events-none').hidden = rows.length > 0;
  }
}

function isShown({ kind, level }: EventRow, filter: string): boolean {
  switch (filter) {
    case 'workers':
      return kind === 'joined' || kind === 'lost';
    case 'checkpoints':
      return kind === 'checkpoint';
    case 'warnings':
      return level !== 'info';
    default:
      return true;
  }
}

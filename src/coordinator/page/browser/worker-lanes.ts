/** A timeline for each worker: when it was connected, and when it was lost. */
import type { WorkerRow } from '../update.js';
import { byId, element, setText } from './element.js';
import { formatTime } from './format.js';
import type { RunStore } from './run-store.js';

export class WorkerLanes {
  private readonly store: RunStore;
  private readonly host = byId('lanes');

  constructor(store: RunStore) {
    this.store = store;
  }

  render(): void {
    const { store } = this;
    const workers = store.workers.toSorted((a, b) => firstOf(a) - firstOf(b));
    byId('lanes-panel').hidden = workers.length === 0;
    if (workers.length === 0) return;
    const from = Math.min(store.run?.startedAt ?? Infinity, ...workers.map(firstOf));
    const to = Math.max(from + 1, this.end());
    this.host.replaceChildren(...workers.map((worker) => this.lane(worker, from, to)));
    setText(byId('lanes-from'), formatTime(from, store.now()));
    setText(byId('lanes-to'), this.isOver ? formatTime(to, store.now()) : 'now');
  }

  private get isOver(): boolean {
    const { head } = this.store;
    return head?.state === 'finished' || !head?.isLive;
  }

  private end(): number {
    if (!this.isOver) return this.store.now();
    const ends = this.store.workers.flatMap(({ stays, lastSeenAt }) => [
      lastSeenAt,
      ...stays.map(({ to }) => to ?? 0),
    ]);
    return Math.max(...ends);
  }

  private lane({ name, stays }: WorkerRow, from: number, to: number): HTMLElement {
    const place = (time: number) => (100 * Math.min(1, (time - from) / (to - from))).toFixed(2);
    const parts = stays.map((stay) => {
      const part = element('span', { class: `stay${stay.wasLost ? ' is-lost' : ''}` });
      const begin = place(stay.from);
      part.style.left = `${begin}%`;
      part.style.width = `${Math.max(0.4, Number(place(stay.to ?? to)) - Number(begin))}%`;
      return part;
    });
    const losses = stays.filter(({ wasLost }) => wasLost).length;
    const isHere = stays.at(-1)?.to === null;
    const words = `${isHere ? 'here' : 'gone'}, lost ${losses} ${losses === 1 ? 'time' : 'times'}`;
    return element(
      'li',
      {},
      element('span', { class: 'lane-name', title: name }, name),
      element('span', { class: 'lane', 'aria-hidden': 'true' }, ...parts),
      element('span', { class: 'unseen' }, `: ${words}`),
    );
  }
}

function firstOf({ stays, joinedAt }: WorkerRow): number {
  return stays.at(0)?.from ?? joinedAt;
}

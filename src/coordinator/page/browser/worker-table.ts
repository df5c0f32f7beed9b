/** The table of workers: identity, contribution, and when each was last heard from. */
import type { WorkerRow } from '../update.js';
import { byId, element, setText } from './element.js';
import {
  NOTHING,
  formatAge,
  formatInteger,
  formatMs,
  formatPercent,
  formatTime,
} from './format.js';
import type { RunStore } from './run-store.js';

const COLUMNS = ['Worker', 'Engine', 'Share', 'Images/s', 'Compute', 'Ping', 'Joined', 'Last seen'];

interface Row {
  readonly identity: string;
  readonly engine: HTMLElement;
  readonly element: HTMLTableRowElement;
  readonly cells: HTMLTableCellElement[];
  readonly state: HTMLElement;
  readonly evict: HTMLElement;
  readonly bar: HTMLElement;
  readonly share: HTMLElement;
}

export class WorkerTable {
  private readonly store: RunStore;
  private readonly evict: (workerId: string, name: string) => void;
  private readonly rows = new Map<string, Row>();
  private readonly body = byId('workers', HTMLTableSectionElement);

  constructor(store: RunStore, evict: (workerId: string, name: string) => void) {
    this.store = store;
    this.evict = evict;
  }

  render(): void {
    const { workers } = this.store;
    const known = new Set(workers.map(({ workerId }) => workerId));
    for (const [id, row] of this.rows) {
      if (known.has(id)) continue;
      row.element.remove();
      this.rows.delete(id);
    }
    const order = { here: 0, lost: 1, left: 2 };
    const sorted = workers.toSorted(
      (a, b) => order[a.state] - order[b.state] || a.joinedAt - b.joinedAt,
    );
    sorted.forEach((worker, at) => {
      let row = this.rows.get(worker.workerId);
      if (row?.identity !== identityOf(worker)) {
        row?.element.remove();
        this.rows.set(worker.workerId, (row = makeRow(worker, this.evict)));
      }
      if (this.body.children.item(at) !== row.element) {
        this.body.insertBefore(row.element, this.body.children.item(at));
      }
      this.fill(row, worker);
    });
    byId('workers-none').hidden = workers.length > 0;
    const here = workers.filter(({ state }) => state === 'here').length;
    const gone = workers.length - here;
    setText(byId('workers-count'), `${here} here${gone > 0 ? `, ${gone} gone` : ''}`);
  }

  /** Updates the ages, which grow without updates. */
  tick(): void {
    for (const worker of this.store.workers) {
      const row = this.rows.get(worker.workerId);
      if (row) this.fillAge(row, worker);
    }
  }

  private fill(row: Row, worker: WorkerRow): void {
    const isHere = worker.state === 'here';
    // Once the run is over, the share of the whole run tells more than that of the last second.
    const images = this.store.workers.reduce((sum, { numImages }) => sum + numImages, 0);
    const whole = this.isOver && images > 0 ? worker.numImages / images : null;
    const share = whole ?? worker.share;
    row.evict.hidden = !isHere || this.isOver;
    row.element.dataset.state = worker.state;
    setText(row.state, stateText(worker));
    setText(row.engine, worker.engine);
    setText(row.share, isHere || whole !== null ? formatPercent(share, 0) : NOTHING);
    row.bar.style.setProperty('--share', String(share));
    setText(row.cells[3], isHere ? formatInteger(worker.imagesPerSecond) : NOTHING);
    setText(row.cells[4], isHere ? formatMs(worker.computeMs) : NOTHING);
    setText(row.cells[5], worker.roundTripMs === null ? NOTHING : formatMs(worker.roundTripMs));
    setText(row.cells[6], formatTime(worker.joinedAt, this.store.now()));
    this.fillAge(row, worker);
  }

  private get isOver(): boolean {
    const { head } = this.store;
    return head?.state === 'finished' || !head?.isLive;
  }

  private fillAge(row: Row, worker: WorkerRow): void {
    const text = this.isOver
      ? formatTime(worker.lastSeenAt, this.store.now())
      : formatAge(this.store.now() - worker.lastSeenAt);
    setText(row.cells[7], text);
  }
}

/** What a row is made for. */
function identityOf({ name, host, engine, device, isExact }: WorkerRow): string {
  // How many are behind a relay may change at any moment.
  return JSON.stringify([name, host, engine.replace(/^relay of \d+$/, 'relay'), device, isExact]);
}

function stateText({ state, lostInPhase, isHidden }: WorkerRow): string {
  if (state === 'here') return isHidden ? 'hidden' : '';
  if (state === 'left') return 'left';
  return lostInPhase ? `lost while ${lostInPhase}` : 'lost';
}

function makeRow(worker: WorkerRow, onEvict: (workerId: string, name: string) => void): Row {
  const { name, host, workerId, engine, device, isExact } = worker;
  const evict = element(
    'button',
    { class: 'text-button evict', type: 'button', 'aria-label': `Evict ${name}` },
    'Evict',
  );
  evict.addEventListener('click', () => onEvict(workerId, name));
  const cell = (at: number, ...children: (Node | string)[]) =>
    element('td', { 'data-label': COLUMNS[at] }, ...children);
  const state = element('span', { class: 'worker-state' });
  const share = element('span', {});
  const bar = element('span', { class: 'share-bar', 'aria-hidden': 'true' });
  // Of one that took part before the run was resumed, no more than its name is known.
  const exactness =
    engine === 'unknown'
      ? ''
      : isExact
        ? element('span', { class: 'tag', title: 'Its gradients are the same to the bit' }, 'exact')
        : element('span', { class: 'tag tag-warn', title: 'Within tolerance' }, 'approximate');
  const engineText = element('span', {}, engine);
  const head = element(
    'th',
    { scope: 'row', title: workerId },
    element('span', { class: 'dot', 'aria-hidden': 'true' }),
    element(
      'span',
      { class: 'worker-name' },
      element('span', {}, name, ' ', state),
      element('small', {}, host),
    ),
    evict,
  );
  const cells = [
    head,
    cell(1, element('span', {}, engineText, ' ', exactness), element('small', {}, device)),
    cell(2, element('span', { class: 'share' }, bar, share)),
    ...[3, 4, 5, 6, 7].map((at) => cell(at)),
  ];
  const identity = identityOf(worker);
  return {
    ...{ element: element('tr', {}, ...cells), identity, cells, state, evict, bar, share },
    engine: engineText,
  };
}

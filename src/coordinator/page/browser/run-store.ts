/**
 * The page's copy of the run, updated by the coordinator's events. Reconnects by itself when the connection is lost.
 */
import { StepSeries } from '../step-series.js';
import type {
  Capabilities,
  EvaluationRow,
  EventRow,
  FilterFrame,
  Filters,
  Points,
  Update,
} from '../update.js';
import { bytesFromBase64 } from './element.js';

const MAX_ROWS = 4000;
const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 10_000;
/** A page hidden for this long gives up its connection: browsers allow only six per host. */
const HIDDEN_GRACE_MS = 20_000;
/** The connection counts as lost after this long without an event; the coordinator sends something every 15 s. */
const SILENCE_MS = 40_000;

export type Topic =
  | 'connection'
  | 'head'
  | 'run'
  | 'points'
  | 'evaluations'
  | 'events'
  | 'workers'
  | 'filters'
  | 'confusion'
  | 'mistakes'
  | 'result';

export type Connection = 'connecting' | 'open' | 'lost';

export class RunStore {
  connection: Connection = 'connecting';
  /** The coordinator's clock minus this machine's. */
  private clockOffsetMs = 0;
  head: Pick<Update, 'state' | 'globalStep' | keyof Capabilities> | null = null;
  run: Update['run'];
  series = new StepSeries();
  evaluations: readonly EvaluationRow[] = [];
  events: readonly EventRow[] = [];
  workers: NonNullable<Update['workers']> = [];
  filters: Filters | null = null;
  confusion: Update['confusion'];
  mistakes: Update['mistakes'];
  result: Update['result'];

  private readonly url: string;
  private readonly listener: (topics: ReadonlySet<Topic>) => void;
  private source: EventSource | null = null;
  private retryTimer = 0;
  private retryMs = FIRST_RETRY_MS;
  private hiddenTimer = 0;
  private silenceTimer = 0;

  /** @param listener called after a change, with what has changed */
  constructor(url: string, listener: (topics: ReadonlySet<Topic>) => void) {
    this.url = url;
    this.listener = listener;
  }

  /** The current time on the coordinator's clock. */
  now(): number {
    return Date.now() + this.clockOffsetMs;
  }

  connect(): void {
    this.open();
    document.addEventListener('visibilitychange', () => {
      clearTimeout(this.hiddenTimer);
      if (document.hidden) this.hiddenTimer = setTimeout(() => this.disconnect(), HIDDEN_GRACE_MS);
      else if (!this.source) this.open();
    });
    // A page restored from the back/forward cache has lost its connection.
    window.addEventListener('pageshow', (event) => {
      if (event.persisted) this.open();
    });
    window.addEventListener('online', () => this.connection === 'lost' && this.open());
  }

  private open(): void {
    this.disconnect();
    const source = (this.source = new EventSource(this.url));
    source.addEventListener('history', (event: MessageEvent<string>) => {
      this.retryMs = FIRST_RETRY_MS;
      this.reset();
      this.take(JSON.parse(event.data) as Update, true);
    });
    source.addEventListener('delta', (event: MessageEvent<string>) => {
      this.take(JSON.parse(event.data) as Update, false);
    });
    source.addEventListener('alive', () => this.hear());
    source.addEventListener('error', () => this.lost());
    this.hear();
  }

  private disconnect(): void {
    clearTimeout(this.retryTimer);
    clearTimeout(this.silenceTimer);
    this.source?.close();
    this.source = null;
  }

  private lost(): void {
    this.disconnect();
    this.connection = 'lost';
    this.listener(new Set<Topic>(['connection']));
    this.retryTimer = setTimeout(() => this.open(), this.retryMs);
    this.retryMs = Math.min(MAX_RETRY_MS, 1.6 * this.retryMs);
  }

  private hear(): void {
    clearTimeout(this.silenceTimer);
    this.silenceTimer = setTimeout(() => this.lost(), SILENCE_MS);
  }

  private reset(): void {
    this.run = this.confusion = this.mistakes = this.result = undefined;
    this.filters = null;
    this.series = new StepSeries();
    this.evaluations = [];
    this.events = [];
    this.workers = [];
  }

  private take(update: Update, isWhole: boolean): void {
    this.hear();
    this.clockOffsetMs = update.now - Date.now();
    const topics = new Set<Topic>(['head']);
    if (this.connection !== 'open') topics.add('connection');
    this.connection = 'open';
    const { state, globalStep, canPredict, isLive, takesBrowsers = false } = update;
    this.head = { state, globalStep, canPredict, isLive, takesBrowsers };
    if (update.points) this.series.apply(decodePoints(update.points));
    if (update.evaluations) {
      this.evaluations = [...this.evaluations, ...update.evaluations].slice(-MAX_ROWS);
    }
    if (update.events) this.events = [...this.events, ...update.events].slice(-MAX_ROWS);
    if (update.filters) this.filters = joinFilters(this.filters, update.filters);
    if (update.run) this.run = update.run;
    if (update.workers) this.workers = update.workers;
    if (update.confusion) this.confusion = update.confusion;
    if (update.mistakes) this.mistakes = update.mistakes;
    if (update.result) this.result = update.result;
    for (const topic of TOPICS) if (isWhole || update[topic] !== undefined) topics.add(topic);
    this.listener(topics);
  }
}

const TOPICS = [
  'run',
  'points',
  'evaluations',
  'events',
  'workers',
  'filters',
  'confusion',
  'mistakes',
  'result',
] as const;

export function decodePoints({ stride, numPoints, cells }: Points) {
  return { stride, numPoints, cells: bytesFromBase64(cells) };
}

function joinFilters(known: Filters | null, news: Filters): Filters {
  const isKept = ({ globalStep }: FilterFrame) => globalStep % news.interval === 0;
  const first = news.frames.at(0)?.globalStep ?? Infinity;
  const earlier = (known?.frames ?? []).filter(
    (frame) => isKept(frame) && frame.globalStep < first,
  );
  return { ...news, frames: [...earlier, ...news.frames] };
}

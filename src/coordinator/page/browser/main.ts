/** The page of one run: its panels, each redrawn when its data has changed. */
import { ConfusionMatrix } from './confusion-matrix.js';
import { Controls } from './controls.js';
import { DownloadPanel } from './download-panel.js';
import { DrawPad } from './draw-pad.js';
import { byId } from './element.js';
import { EvaluationTable } from './evaluation-table.js';
import { EventList } from './event-list.js';
import { FilterView } from './filter-view.js';
import { LearningPanel } from './learning-panel.js';
import { MistakeGallery } from './mistake-gallery.js';
import { RunHeader, renderConfig } from './run-header.js';
import { RunStore, type Topic } from './run-store.js';
import { setUpTheme } from './theme.js';
import { WorkerLanes } from './worker-lanes.js';
import { WorkerTable } from './worker-table.js';

const TICK_MS = 1000;
/** Interval between updates of descriptions for screen readers. */
const DESCRIBE_MS = 10_000;

const store = new RunStore('api/events', changed);
const header = new RunHeader(store);
const learning = new LearningPanel(store);
const controls = new Controls(store);
const workers = new WorkerTable(store, (id, name) => controls.evict(id, name));
const lanes = new WorkerLanes(store);
const confusion = new ConfusionMatrix();
const pad = new DrawPad();
const mistakes = new MistakeGallery((image) => pad.put(image));
const filters = new FilterView(store);
const downloads = new DownloadPanel();
const events = new EventList(store);
const evaluations = new EvaluationTable(store);

// On a board of several runs, the page is at /runs/N/.
byId('all-runs').hidden = !/\/runs\/\d+\/$/.test(location.pathname);

const pending = new Set<Topic>();

function changed(topics: ReadonlySet<Topic>): void {
  if (pending.size === 0) requestAnimationFrame(render);
  for (const topic of topics) pending.add(topic);
}

function render(): void {
  const topics = new Set(pending);
  pending.clear();
  const has = (...wanted: Topic[]) => wanted.some((topic) => topics.has(topic));
  header.render();
  if (has('head')) controls.render();
  if (has('head', 'run')) pad.show(store.head?.canPredict ?? false, store.run);
  if (has('run') && store.run) renderConfig(store.run);
  if (has('points', 'evaluations', 'run')) learning.render();
  if (has('evaluations')) evaluations.render();
  if (has('workers', 'head')) {
    workers.render();
    lanes.render();
  }
  if (has('events')) {
    events.render();
    // Each checkpoint is an event.
    void downloads.refresh();
  }
  if (has('filters')) filters.render();
  if (has('confusion')) renderConfusion();
  if (has('mistakes')) renderMistakes();
}

function renderConfusion(): void {
  byId('confusion-panel').hidden = !store.confusion;
  if (store.confusion && store.run) confusion.render(store.confusion, store.run.classNames);
}

function renderMistakes(): void {
  byId('mistakes-panel').hidden = !store.mistakes;
  if (store.mistakes && store.run) mistakes.render(store.mistakes, store.run);
}

setUpTheme(() => {
  learning.recolor();
  pad.draw();
  filters.render();
  renderConfusion();
  renderMistakes();
});
setInterval(() => {
  if (document.hidden) return;
  header.render();
  workers.tick();
  lanes.render();
}, TICK_MS);
setInterval(() => learning.describe(), DESCRIBE_MS);
store.connect();

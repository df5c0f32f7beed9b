/** The head of the page: the run's name and state, the time left, and the main figures. */
import type { RunConfig } from '../../../shared/config.js';
import type { EvaluationRow, RunInfo } from '../update.js';
import { byId, element, setText } from './element.js';
import { bestOf } from './best.js';
import { NOTHING, formatDuration, formatInteger, formatPercent, formatSmall } from './format.js';
import { paceOf } from './pace.js';
import type { RunStore } from './run-store.js';

export class RunHeader {
  private readonly store: RunStore;
  /** The result that is on the page. */
  private shown: RunStore['result'];

  constructor(store: RunStore) {
    this.store = store;
  }

  render(): void {
    const { store } = this;
    const { run, head } = store;
    if (!run || !head) {
      this.showState();
      return;
    }
    document.title = `${run.name} · Lockstep`;
    setText(byId('run-name'), run.name);
    setText(byId('run-summary'), summary(run));
    this.showState();
    this.showProgress();

    const tests = store.evaluations.filter(({ set }) => set === 'test');
    const evaluations = tests.length > 0 ? tests : store.evaluations;
    const last = evaluations.at(-1);
    const best = bestOf(store.evaluations);
    setText(byId('figure-accuracy'), last ? formatPercent(last.accuracy) : NOTHING);
    setText(
      byId('label-accuracy'),
      tests.length > 0 || !last ? 'Test accuracy' : 'Validation accuracy',
    );
    setText(
      byId('note-accuracy'),
      !last || !best
        ? 'measured after each epoch'
        : best === last
          ? `the best so far, ${momentOf(last, run)}`
          : `best ${formatPercent(best.accuracy)} ${momentOf(best, run)}`,
    );

    const { series } = store;
    const at = series.length - 1;
    const recent = (name: Parameters<typeof series.column>[0]) => {
      const values = series.column(name).subarray(-20);
      return values.reduce((sum, value) => sum + value, 0) / values.length;
    };
    setText(byId('figure-loss'), at < 0 ? NOTHING : formatSmall(recent('loss')));
    setText(byId('note-loss'), last ? `${last.set} ${formatSmall(last.loss)}` : '');
    const pace = paceOf(store.series);
    const rate = store.result?.imagesPerSecond ?? pace?.imagesPerSecond ?? NaN;
    setText(byId('figure-speed'), formatInteger(rate));
    const here = store.workers.filter(({ state }) => state === 'here').length;
    const isOver = head.state === 'finished' || !head.isLive;
    const workers = isOver ? (store.result?.workers.length ?? store.workers.length) : here;
    setText(
      byId('note-speed'),
      `images/s on ${formatInteger(workers)} worker${workers === 1 ? '' : 's'}`,
    );
    const lived = head.isLive
      ? run.secondsBefore + (store.now() - run.resumedAt) / 1000
      : (series.column('seconds')[at] ?? NaN);
    const elapsed = store.result?.seconds ?? lived;
    if (isOver) {
      setText(byId('label-left'), 'Took');
      setText(byId('figure-left'), formatDuration(elapsed));
      setText(byId('note-left'), `${formatInteger(head.globalStep)} steps`);
    } else {
      const left = pace ? (run.totalSteps - head.globalStep) * pace.secondsPerStep : NaN;
      setText(byId('label-left'), 'Time left');
      setText(byId('figure-left'), formatDuration(left));
      setText(byId('note-left'), `${formatDuration(Math.max(0, Math.round(elapsed)))} so far`);
    }
    setText(byId('figure-rate'), at < 0 ? NOTHING : formatSmall(series.column('learningRate')[at]));
    setText(byId('note-rate'), `${run.config.optimizer}, ${run.config.schedule}`);
    this.showResult();
  }

  private showState(): void {
    const { connection, head, run, result, workers } = this.store;
    let [kind, text] = ['quiet', 'Connecting …'];
    if (connection === 'lost') {
      [kind, text] = ['bad', 'Lost the coordinator; reconnecting'];
    } else if (head && run && !head.isLive && head.state !== 'finished') {
      [kind, text] = ['warn', 'Not finished'];
    } else if (head && run) {
      switch (head.state) {
        case 'starting':
          [kind, text] = ['quiet', 'Starting'];
          break;
        case 'waiting':
          [kind, text] = [
            'warn',
            workers.length > 0 ? 'Waiting for workers' : 'Waiting for the first worker',
          ];
          break;
        case 'training':
          [kind, text] = ['good', 'Training'];
          break;
        case 'paused':
          [kind, text] = ['warn', 'Paused'];
          break;
        case 'finished':
          [kind, text] = ['done', result?.outcome === 'stopped' ? 'Stopped' : 'Finished'];
          break;
      }
    } else if (head) {
      text = 'The run has not begun';
    }
    const state = byId('state');
    state.dataset.kind = kind;
    setText(state, text);
    document.body.classList.toggle('is-lost', connection === 'lost');
  }

  private showProgress(): void {
    const { run, head } = this.store;
    if (!run || !head) return;
    const { totalSteps, stepsPerEpoch, config } = run;
    const fraction = totalSteps > 0 ? Math.min(1, head.globalStep / totalSteps) : 0;
    const bar = byId('progress');
    bar.style.setProperty('--done', String(fraction));
    bar.style.setProperty('--epochs', String(config.epochs));
    bar.classList.toggle('has-epochs', config.epochs <= 60);
    bar.setAttribute('aria-valuenow', (100 * fraction).toFixed(0));
    const epochs = head.globalStep / stepsPerEpoch;
    // The one under way, or at the end the last.
    const inEpoch = head.state === 'finished' ? Math.ceil(epochs) : Math.floor(epochs) + 1;
    const epoch = Math.max(1, Math.min(config.epochs, inEpoch));
    setText(
      byId('progress-epoch'),
      `Epoch ${formatInteger(epoch)} of ${formatInteger(config.epochs)}`,
    );
    setText(
      byId('progress-step'),
      `step ${formatInteger(head.globalStep)} of ${formatInteger(totalSteps)}`,
    );
    setText(byId('progress-percent'), formatPercent(fraction, 0));
  }

  private showResult(): void {
    const { result } = this.store;
    const place = byId('result');
    place.hidden = !result;
    // Made anew for another result only: somebody may be selecting the text.
    if (!result || result === this.shown) return;
    this.shown = result;
    const why = result.reproducible
      ? 'The same configuration gives these weights on any number of workers.'
      : result.globalStep === 0
        ? 'No step was made.'
        : 'An approximate engine took part: another run may differ in the last bits.';
    place.replaceChildren(
      element('span', { class: 'result-label' }, 'SHA-256 of the weights'),
      element('code', {}, result.weightsSha256),
      element('span', { class: 'result-note' }, why),
    );
  }
}

function momentOf({ globalStep, epoch }: EvaluationRow, { stepsPerEpoch }: RunInfo): string {
  const isWhole = epoch > 0 && globalStep % stepsPerEpoch === 0;
  return isWhole
    ? `after epoch ${formatInteger(epoch)}`
    : `after step ${formatInteger(globalStep)}`;
}

function summary({ config, numParams, numTrain, numTest }: RunInfo): string {
  const { dataset, batchSize, microBatch, seed } = config;
  const name =
    dataset === 'mnist' ? 'MNIST' : (dataset.split('/').filter(Boolean).at(-1) ?? dataset);
  return [
    `${name}, ${formatInteger(numTrain)} + ${formatInteger(numTest)} images`,
    `${formatInteger(numParams)} weights`,
    `batch ${batchSize} of micro-batches of ${microBatch}`,
    `seed ${seed}`,
  ].join(' · ');
}

/** Every option by name, to list a configuration or compare several. */
export function configRows(config: RunConfig): [name: string, value: string][] {
  const { hyperparameters, ...options } = config;
  const text = (value: unknown) => (Array.isArray(value) ? value.join(', ') : String(value));
  return [...Object.entries(options), ...Object.entries(hyperparameters)].map(([name, value]) => [
    name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`),
    text(value),
  ]);
}

export function renderConfig(run: RunInfo): void {
  byId('config').replaceChildren(
    ...configRows(run.config).map(([name, value]) =>
      element('div', {}, element('dt', {}, name), element('dd', {}, value)),
    ),
  );
}

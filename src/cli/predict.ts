/** `lockstep predict`: the classes of pictures in files. */
import { findCheckpoint, modelOf, type Checkpoint } from '../model/checkpoint.js';
import { digitDoubt } from '../model/data/digit-doubt.js';
import { readDigitImage } from '../model/data/digit-image.js';
import { toInput } from '../model/data/input-image.js';
import { trainedWith } from '../model/data/load.js';
import { decodePicture, readPictureFile } from '../model/data/picture.js';
import { describeInput, MNIST } from '../model/lenet.js';
import { createSimdEngine } from '../model/engine/simd/node.js';
import { UserError } from '../shared/errors.js';
import { formatPercent } from '../shared/format.js';
import { printable } from '../shared/printable.js';
import { fileStorage } from '../shared/node/storage.js';
import { rightAligned } from '../shared/table.js';
import { optionCommand } from './command.js';
import { warn } from './warn.js';

/** Of the images that pictures are read as, in pixels. */
const SIDE = 28;
/** A network is sure of most of what it gets wrong, too; below this it is unsure by its own account. */
const SURE = 0.9;
/** More classes do not fit a terminal side by side. */
const MAX_COLUMNS = 10;

interface Prediction {
  readonly file: string;
  /** Number of the class. */
  readonly label: number;
  readonly class: string;
  /** (numClasses,) */
  readonly probabilities: readonly number[];
  /** Why it should not be relied on; null if nothing speaks against it. */
  readonly doubt: string | null;
}

interface Unreadable {
  readonly file: string;
  readonly error: string;
}

export function predictCommand() {
  return optionCommand(
    'predict',
    'classify images',
    'runs/first seven.png',
    async ({ values: { json } }, [where, ...files]) => {
      const { checkpoint } = await findCheckpoint(fileStorage, where, warn);
      const engine = createSimdEngine(modelOf(checkpoint), { numGradients: 0 });
      engine.setParams(checkpoint.params);
      const { classNames } = checkpoint;
      const isOfDigits = trainedWith(checkpoint.config).dataset === 'mnist';
      const rows: (Prediction | Unreadable)[] = [];
      for (const file of files) {
        try {
          const image = await imageOf(file, checkpoint);
          const probabilities = [...engine.predict(image)];
          const [label] = ranked(probabilities);
          const doubt =
            (isOfDigits ? digitDoubt(image, SIDE) : null) ?? unsure(classNames, probabilities);
          rows.push({ file, label, class: classNames[label], probabilities, doubt });
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
          rows.push({ file, error: error.message });
          warn(error.message);
          process.exitCode = 1;
        }
      }
      const predictions = rows.filter((row) => 'label' in row);
      if (json) console.log(JSON.stringify(rows, null, 2));
      else if (predictions.length > 0) console.log(tableOf(classNames, predictions).join('\n'));
    },
  )
    .argument('<checkpoint>', 'a file, or a run directory: its best checkpoint, or else its last')
    .argument(
      '<files...>',
      'PNG or JPEG of any size; digits as PNG, dark on light or light on dark',
    );
}

/**
 * Prepared as the images were that the model has learnt from: digits are cropped and centred as MNIST's are, pictures
 * of a folder are only resized.
 */
async function imageOf(file: string, checkpoint: Checkpoint): Promise<Uint8Array> {
  if (hasDigitsOfMnist(checkpoint)) return readDigitImage(file);
  const { input } = checkpoint;
  return toInput(await decodePicture(await readPictureFile(file), file), input);
}

/**
 * Whether a model has learnt digits or letters that were brought to MNIST's form, by its shape and its classes. Fashion-MNIST
 * has that shape, and numbers for its classes, but images that fill the frame.
 */
function hasDigitsOfMnist({ input, classNames, config }: Checkpoint): boolean {
  const { dataset, color } = trainedWith(config);
  return (
    describeInput(input) === describeInput(MNIST.input) &&
    // A folder of pictures is read as grey only if its run says so.
    color === undefined &&
    classNames.every((name) => /^(\d+|[A-Za-z])$/.test(name)) &&
    !/fashion|kmnist|kuzushiji|notmnist/i.test(dataset)
  );
}

/** Classes, the likeliest first. */
function ranked(probabilities: readonly number[]): number[] {
  return [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
}

/** `unsure: 3 or 5` */
function unsure(classNames: readonly string[], probabilities: readonly number[]): string | null {
  const [first, second] = ranked(probabilities);
  return probabilities[first] < SURE
    ? `unsure: ${printable(classNames[first])} or ${printable(classNames[second])}`
    : null;
}

/** The probability of every class, or, of many classes, the likeliest. */
function tableOf(classNames: readonly string[], rows: readonly Prediction[]): string[] {
  const names = classNames.map(printable);
  const areMany = names.length > MAX_COLUMNS;
  const kind = classNames.every((name) => /^\d$/.test(name)) ? 'digit' : 'class';
  const lines = rightAligned([
    areMany
      ? ['file', kind, 'P', 'second', 'P', 'third', 'P']
      : ['file', kind, ...names.map((name) => `P(${name})`)],
    ...rows.map(({ file, label, probabilities }) => [
      printable(file),
      ...(areMany
        ? ranked(probabilities)
            .slice(0, 3)
            .flatMap((index) => [names[index], formatPercent(probabilities[index])])
        : [names[label], ...probabilities.map((probability) => formatPercent(probability))]),
    ]),
  ]);
  return lines.map((line, index) => {
    const doubt = index === 0 ? null : rows[index - 1].doubt;
    return doubt === null ? line : `${line}  ${doubt}`;
  });
}

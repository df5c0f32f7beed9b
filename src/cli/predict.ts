/** `lockstep predict`: the digits in PNG files. */
import { findCheckpoint, modelOf } from '../model/checkpoint.js';
import { digitDoubt } from '../model/data/digit-doubt.js';
import { readDigitImage } from '../model/data/digit-image.js';
import { imageBytes } from '../model/lenet.js';
import { createSimdEngine } from '../model/engine/simd/node.js';
import { UserError } from '../shared/errors.js';
import { formatPercent } from '../shared/format.js';
import { printable } from '../shared/printable.js';
import { fileStorage } from '../shared/node/storage.js';
import { optionCommand } from './command.js';
import { datasetOf, rightAligned, warn } from './evaluate.js';

/** Of the images that pictures are read as, in pixels. */
const SIDE = 28;
/** A network is sure of most of what it gets wrong, too; below this it is unsure by its own account. */
const SURE = 0.9;

interface Prediction {
  readonly file: string;
  readonly digit: number;
  /** (10,) */
  readonly probabilities: readonly number[];
  /** Why the digit should not be relied on; null if nothing speaks against it. */
  readonly doubt: string | null;
}

interface Unreadable {
  readonly file: string;
  readonly error: string;
}

export function predictCommand() {
  return optionCommand(
    'predict',
    'recognise the digit in each of some PNG files',
    'runs/first seven.png',
    async ({ values: { json } }, [where, ...files]) => {
      const { checkpoint } = await findCheckpoint(fileStorage, where, warn);
      const engine = createSimdEngine(modelOf(checkpoint), { numGradients: 0 });
      engine.setParams(checkpoint.params);
      const { classNames, input } = checkpoint;
      if (imageBytes(input) !== SIDE ** 2) {
        throw new UserError(
          `Cannot predict with ${where}: pictures are read as grey ${SIDE}×${SIDE}, and its model takes ` +
            `${input.channels}×${input.height}×${input.width}`,
        );
      }
      const isOfDigits = datasetOf(checkpoint.config) === 'mnist';
      const rows: (Prediction | Unreadable)[] = [];
      for (const file of files) {
        try {
          const image = await readDigitImage(file);
          const probabilities = [...engine.predict(image)];
          const digit = probabilities.indexOf(Math.max(...probabilities));
          const doubt =
            (isOfDigits ? digitDoubt(image, SIDE) : null) ?? unsure(classNames, probabilities);
          rows.push({ file, digit, probabilities, doubt });
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
          rows.push({ file, error: error.message });
          warn(error.message);
          process.exitCode = 1;
        }
      }
      const predictions = rows.filter((row) => 'digit' in row);
      if (json) console.log(JSON.stringify(rows, null, 2));
      else if (predictions.length > 0) console.log(tableOf(classNames, predictions).join('\n'));
    },
  )
    .argument('<checkpoint>', 'a file, or a run directory: its best checkpoint, else its last')
    .argument('<files...>', 'PNG of any size, grey or colour, dark on light or light on dark');
}

/** `unsure: 3 or 5` */
function unsure(classNames: readonly string[], probabilities: readonly number[]): string | null {
  const [first, second] = [...probabilities.keys()].sort(
    (a, b) => probabilities[b] - probabilities[a],
  );
  return probabilities[first] < SURE
    ? `unsure: ${classNames[first]} or ${classNames[second]}`
    : null;
}

function tableOf(classNames: readonly string[], rows: readonly Prediction[]): string[] {
  const lines = rightAligned([
    ['file', 'digit', ...classNames.map((name) => `P(${printable(name)})`)],
    ...rows.map(({ file, digit, probabilities }) => [
      printable(file),
      String(digit),
      ...probabilities.map((probability) => formatPercent(probability)),
    ]),
  ]);
  return lines.map((line, index) => {
    const doubt = index === 0 ? null : rows[index - 1].doubt;
    return doubt === null ? line : `${line}  ${doubt}`;
  });
}

/** `lockstep predict`: the digits in PNG files. */
import { findCheckpoint, modelOf } from '../model/checkpoint.js';
import { readDigitImage } from '../model/data/digit-image.js';
import { imageBytes } from '../model/lenet.js';
import { createSimdEngine } from '../model/engine/simd/engine.js';
import { formatPercent } from '../shared/format.js';
import { printable } from '../shared/printable.js';
import { fileStorage } from '../shared/node/storage.js';
import { optionCommand } from './command.js';
import { rightAligned, warn } from './evaluate.js';

export function predictCommand() {
  return optionCommand(
    'predict',
    'recognise the digit in each of some PNG files',
    'runs/first seven.png',
    async ({ values: options }, [where, ...files]) => {
      const { checkpoint } = await findCheckpoint(fileStorage, where, warn);
      const engine = createSimdEngine(modelOf(checkpoint), { numGradients: 0 });
      engine.setParams(checkpoint.params);
      const { classNames } = checkpoint;
      const numClasses = classNames.length;
      const numBytes = imageBytes(checkpoint.input);
      const images = new Uint8Array(files.length * numBytes);
      for (const [index, file] of files.entries()) {
        images.set(await readDigitImage(file), index * numBytes);
      }
      // (n, numClasses)
      const all = engine.predict(images);
      const rows = files.map((file, index) => {
        const probabilities = [...all.subarray(index * numClasses, (index + 1) * numClasses)];
        return { file, digit: probabilities.indexOf(Math.max(...probabilities)), probabilities };
      });
      console.log(
        options.json ? JSON.stringify(rows, null, 2) : tableOf(classNames, rows).join('\n'),
      );
    },
  )
    .argument('<checkpoint>', 'a file, or a run directory: its best checkpoint, else its last')
    .argument('<files...>', 'PNG of any size, grey or colour, dark on light or light on dark');
}

function tableOf(
  classNames: readonly string[],
  rows: readonly { file: string; digit: number; probabilities: readonly number[] }[],
): string[] {
  return rightAligned([
    ['file', 'digit', ...classNames.map((name) => `P(${printable(name)})`)],
    ...rows.map(({ file, digit, probabilities }) => [
      printable(file),
      String(digit),
      ...probabilities.map((probability) => formatPercent(probability)),
    ]),
  ]);
}

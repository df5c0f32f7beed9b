/** A run on a folder of RGB pictures, from its files to what its checkpoint recognises. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lockstep, resultOf, start } from '../support/lockstep.js';
import { coloredFiles, folderOf, jpg, plain } from '../support/picture-folders.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

test('gives one hash on 1 and 2 workers and through a kill, and knows new pictures by name', async () => {
  const dataset = await folderOf({
    ...coloredFiles(40, 8),
    'train/red/bad.png': plain([255, 0, 0]).subarray(0, 50),
  });
  const flags = [
    ...['--dataset', dataset, '--image-size', '10x12', '--bad-images', 'skip', '--epochs', '12'],
    ...['--activation', 'relu', '--channels', '4', '--hidden', '16', '--batch-size', '16'],
  ];
  const base = await temporaryDirectory();
  const [one, two] = [join(base, 'one'), join(base, 'two')];
  const first = await lockstep(['train', '--workers', '1', '--out', one, ...flags]);
  expect(first, first.stderr).toMatchObject({ code: 0 });
  expect(first.stdout).toContain('Reading 145 pictures of 3 classes as 3 channels of 10×12');
  expect(first.stdout + first.stderr).toContain('bad.png: it is a truncated PNG file');
  const { weightsSha256, testAccuracy } = await resultOf(one);
  expect(testAccuracy).toBe(1);

  const program = start([
    ...['train', '--workers', '2', '--out', two, '--log-every', '1', '--checkpoint-every', '3'],
    ...flags,
  ]);
  await program.said(/step +20\//);
  program.kill('SIGKILL');
  await program.ended;
  const resumed = await lockstep(['train', '--workers', '2', '--resume', two]);
  expect(resumed, resumed.stderr).toMatchObject({ code: 0 });
  expect((await resultOf(two)).weightsSha256).toBe(weightsSha256);

  const [green, blue] = [join(base, 'green.png'), join(base, 'blue.jpg')];
  await writeFile(green, plain([10, 230, 20], 9, 40));
  await writeFile(
    blue,
    jpg(30, 20, () => [20, 10, 240]),
  );
  const predicted = await lockstep(['predict', one, green, blue, '--json']);
  expect(predicted, predicted.stderr).toMatchObject({ code: 0 });
  expect(JSON.parse(predicted.stdout)).toMatchObject([{ class: 'green' }, { class: 'blue' }]);

  const evaluated = await lockstep(['evaluate', two, '--json']);
  expect(evaluated, evaluated.stderr).toMatchObject({ code: 0 });
  expect(JSON.parse(evaluated.stdout)).toMatchObject({ accuracy: 1, numImages: 24 });
  const other = await folderOf({
    'green/1.png': plain([0, 250, 0], 1, 30),
    'green/2.png': plain([0, 250, 0], 2, 30),
    'red/1.png': plain([250, 0, 0], 3, 20),
    'red/2.png': plain([250, 0, 0], 4, 20),
  });
  const again = await lockstep([
    ...['evaluate', one, '--dataset', other, '--test-fraction', '0.5', '--json'],
  ]);
  expect(again, again.stderr).toMatchObject({ code: 0 });
  expect(JSON.parse(again.stdout)).toMatchObject({ accuracy: 1 });

  const contrary = await lockstep(['train', '--resume', one, '--color', 'grey']);
  expect(contrary.code).toBe(1);
  expect(contrary.stderr).toContain('Cannot resume with color grey (--color): the run has');
});

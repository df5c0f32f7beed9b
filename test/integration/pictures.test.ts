/** A run on a folder of RGB pictures, from its files to what its checkpoint recognises. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { describe, expect, test } from 'vitest';
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

  const evaluated = await lockstep(['evaluate', two, '--dataset', dataset, '--json']);
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

describe('lockstep data', () => {
  test('tells sizes, unreadable files, duplicates by name, and draws a contact sheet', async () => {
    const dataset = await folderOf({
      ...coloredFiles(3, 1),
      'train/red/tall.png': plain([255, 0, 0], 9, 30),
      'train/blue/copy-of-green.png': plain([0, 255, 0], 0),
      'test/red/copy.png': plain([255, 0, 0], 1),
    });
    const sheet = join(await temporaryDirectory(), 'sheet.png');
    const told = await lockstep(['data', dataset, '--image-size', '12', '--sheet', sheet]);
    expect(told, told.stderr).toMatchObject({ code: 0, stderr: '' });
    expect(told.stdout).toContain('11 to train, 4 to test, 3 channels of 12×12');
    expect(told.stdout).toContain('files       12×12 (14), 30×30 (1)');
    expect(told.stdout).toContain('1 test image also in the training set');
    expect(told.stdout).toContain('1 image with more than one label');
    expect(told.stdout).toMatch(
      /train\/green\/0\.png = .*copy-of-green\.png|copy-of-green\.png = .*green\/0\.png/,
    );
    expect(told.stdout).not.toContain('\x1b');
    expect(decode(await readFile(sheet))).toMatchObject({ channels: 3, depth: 8 });

    await writeFile(join(dataset, 'train/red/bad.png'), 'not a picture');
    const json = await lockstep(['data', dataset, '--json']);
    expect(json, json.stderr).toMatchObject({ code: 0 });
    expect(json.stderr).toContain('bad.png: it is neither a PNG nor a JPEG file');
    expect(JSON.parse(json.stdout)).toMatchObject({
      format: 'pictures',
      numTrain: 11,
      numUnreadable: 1,
      input: { height: 32, width: 32 },
      sizes: [
        { height: 12, width: 12, count: 14 },
        { height: 30, width: 30, count: 1 },
      ],
      classes: [{ name: 'blue', train: 4, test: 1 }, {}, {}],
      duplicates: { withinTrain: 1, testInTrain: 1, conflicting: 1 },
    });
  });

  test.each([
    [['no-such-folder'], /expected mnist, an .npz file, or a folder of pictures/],
    [['mnist', '--color', 'grey'], /Cannot use --color with the dataset mnist/],
    [['mnist', '--sheet', '/proc/sheet.png'], /Cannot write \/proc\/sheet\.png/],
  ])('refuses %j in one sentence', async (args, sentence) => {
    const { code, stderr } = await lockstep(['data', ...args]);
    expect(stderr).toMatch(/^lockstep: [^\n]+\n$/);
    expect(stderr).toMatch(sentence);
    expect(code).toBe(1);
  });
});

test('prints what fits a terminal of many classes', async () => {
  const files = Array.from({ length: 24 }, (_, label) => {
    const picture = (serial: number) => plain([10 * label, 128, 250 - 10 * label], serial, 8);
    const name = `class-${String(label).padStart(2, '0')}`;
    return [
      [`train/${name}/1.png`, picture(label)],
      [`test/${name}/2.png`, picture(100 + label)],
    ] as const;
  }).flat();
  const dataset = await folderOf(Object.fromEntries(files));
  const out = join(await temporaryDirectory(), 'run');
  const trained = await lockstep([
    ...['train', '--workers', '1', '--out', out, '--dataset', dataset, '--epochs', '1'],
    ...['--channels', '4', '--kernel-size', '3', '--hidden', '16'],
  ]);
  expect(trained, trained.stderr).toMatchObject({ code: 0 });
  const evaluated = await lockstep(['evaluate', out, '--dataset', dataset]);
  expect(evaluated.stdout).toMatch(
    /\nMost frequent mistakes\n +label +taken for +images\n *class-\d\d +class-\d\d +\d+\n/,
  );
  const predicted = await lockstep(['predict', out, join(dataset, 'test', 'class-03', '2.png')]);
  expect(predicted.stdout).toMatch(
    /^ *file +class +P +second +P +third +P\n.*2\.png( +class-\d\d +\d+\.\d+ %){3} +unsure: class-\d\d or class-\d\d\n$/,
  );
});

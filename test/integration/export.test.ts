/** A trained model, in CI all of the test set: every format tells the same digits as the run itself. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createSimdEngine } from '../../src/model/engine/simd/node.js';
import { findCheckpoint, type Checkpoint } from '../../src/model/checkpoint.js';
import { exportModel } from '../../src/model/export/export.js';
import { EXPORT_FORMATS } from '../../src/model/export/format.js';
import { buildModel } from '../../src/model/lenet.js';
import { fileStorage } from '../../src/shared/node/storage.js';
import { effort } from '../support/effort.js';
import {
  classesOf,
  findPython,
  largestDifference,
  predictInPython,
  RUNTIMES,
} from '../support/exported.js';
import { lockstep } from '../support/lockstep.js';
import { mnist } from '../support/mnist.js';
import { MAIN } from '../support/program.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const TOLERANCE = 1e-5;
const NUM_CLASSES = 10;
const NUM_IMAGES = effort(10_000, 1_000);

let run: string;
let checkpoint: Checkpoint;
let images: Uint8Array;
let expected: Float32Array;

beforeAll(async () => {
  run = join(await mkdtemp(join(tmpdir(), 'lockstep-')), 'run');
  const args = ['train', '--workers', '2', '--epochs', '1', '--out', run, '--quiet'];
  await promisify(execFile)(process.execPath, [MAIN, ...args]);
  ({ checkpoint } = await findCheckpoint(fileStorage, run, () => undefined));
  images = (await mnist()).test.images.subarray(0, NUM_IMAGES * 28 * 28);
  const engine = createSimdEngine(buildModel(checkpoint.hyperparameters), { numGradients: 0 });
  engine.setParams(checkpoint.params);
  expected = engine.predict(images);
});

afterAll(() => rm(dirname(run), { recursive: true, force: true }));

function expectSame(actual: Float32Array): void {
  expect(largestDifference(actual, expected)).toBeLessThan(TOLERANCE);
  expect(classesOf(actual, NUM_CLASSES)).toEqual(classesOf(expected, NUM_CLASSES));
}

test.each(['onnx', 'tfjs', 'js'] as const)(`%s agrees on ${NUM_IMAGES} images`, async (format) => {
  expectSame(await RUNTIMES[format](checkpoint, images));
});

const python = findPython();
test.skipIf(python === null)(`PyTorch and onnxruntime agree on ${NUM_IMAGES} images`, async () => {
  const [answers] = await predictInPython(python!, [{ checkpoint, images }]);
  expectSame(answers.pytorch);
  expectSame(answers.onnx);
});

describe('lockstep export', () => {
  test('writes what exportModel() makes, twice the same, and nothing over another file', async () => {
    const out = join(await temporaryDirectory(), 'exported');
    const args = ['export', run, '--format', EXPORT_FORMATS.join(','), '--out', out];
    const first = await lockstep(args);
    expect(first, first.stderr).toMatchObject({ code: 0 });
    for (const { name, bytes } of exportModel(checkpoint, EXPORT_FORMATS)) {
      expect((await readFile(join(out, name))).equals(bytes), name).toBe(true);
    }
    expect((await lockstep(args)).code).toBe(0);

    await writeFile(join(out, 'README.md'), 'mine');
    const refused = await lockstep(args);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/README\.md: a different file exists; .*--force/);
    expect(await readFile(join(out, 'README.md'), 'utf8')).toBe('mine');
    expect((await lockstep([...args, '--force'])).code).toBe(0);
    expect(await readFile(join(out, 'README.md'), 'utf8')).not.toBe('mine');
  });

  test.each([
    ['a pipe', (path: string) => void execFileSync('mkfifo', [path])],
    ['a folder', (path: string) => mkdir(path)],
    // Longer than Node reads at once.
    [
      'a file of 3 GiB',
      (path: string) => writeFile(path, '').then(() => truncate(path, 3 * 2 ** 30)),
    ],
  ])('writes nothing where there is %s in the place of a file', async (_, put) => {
    const out = await temporaryDirectory();
    await put(join(out, 'README.md'));
    const { code, stderr } = await lockstep(['export', run, '--format', 'js', '--out', out]);
    expect(stderr).toMatch(/^lockstep: Cannot (replace|write) \S+README\.md: /);
    expect(code).toBe(1);
    expect(await readdir(out)).toEqual(['README.md']);
  });

  test('knows no other formats', async () => {
    const { code, stderr } = await lockstep(['export', run, '--format', 'onnx,gguf']);
    expect(stderr).toMatch(/--format onnx,gguf: expected .*onnx, pytorch, tfjs or js/);
    expect(code).toBe(2);
  });
});

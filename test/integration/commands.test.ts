/** What users get told, and with which exit code; the commands that use a result; the package. */
import { execFile } from 'node:child_process';
import { mkdir, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { CoordinatorBench } from '../../src/cli/bench-coordinator.js';
import type { ScalingBench, StepBench } from '../../src/cli/bench-training.js';
import { lockstep, resultOf, smallMnist, start, startProgram } from '../support/lockstep.js';
import { MAIN } from '../support/program.js';
import { mnist } from '../support/mnist.js';
import { processesWith } from '../support/processes.js';
import { pngOf } from '../support/png-file.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const runPath = async () => join(await temporaryDirectory(), 'run');

/** Expects one sentence on stderr and exit code 1. */
async function expectSentence(args: readonly string[], sentence: RegExp): Promise<void> {
  const { code, stderr } = await lockstep(args);
  expect(stderr).toMatch(/^lockstep: [^\n]+\n$/);
  expect(stderr).toMatch(sentence);
  expect(code).toBe(1);
}

describe('exit code 2', () => {
  test.each([
    [['train', '--no-such-option'], /^lockstep: unknown option '--no-such-option'/],
    [['worker'], /^lockstep: missing required argument 'url'/],
    [
      ['bench', 'everything'],
      /^lockstep: .* Allowed choices are engine, step, scaling, coordinator/,
    ],
    [['no-such-command'], /^lockstep: unknown command/],
  ])('and where to look, for %j', async (args, message) => {
    const { code, stderr } = await lockstep(args);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/\nSee lockstep( \w+)? --help\n$/);
    expect(code).toBe(2);
  });

  test.each<[string[], Record<string, string>, RegExp]>([
    [['train', '--epochs', 'many'], {}, /--epochs many: expected a whole number from 1 to/],
    [['train', '--workers', '0'], {}, /--workers 0: expected a whole number from 1 to 256$/],
    [['train', '--optimizer', 'magic'], {}, /--optimizer magic: expected sgd, momentum or adam$/],
    [
      ['train', '--channels', '0,6'],
      {},
      /--channels 0,6: expected a comma-separated list of 1 to 8 entries/,
    ],
    [
      ['train', '--engines', 'simd,gpu'],
      {},
      /--engines simd,gpu: expected a comma-separated list of engines/,
    ],
    [['train'], { LOCKSTEP_LR: '0' }, /LOCKSTEP_LR=0 \(--lr\): expected a number above 0/],
    [['train'], { LOCKSTEP_QUIET: 'maybe' }, /LOCKSTEP_QUIET=maybe \(--quiet\): expected true or/],
    [['worker', 'ws://127.0.0.1:1', '--device', '-1'], {}, /--device -1: expected a whole number/],
    [['worker', 'http://127.0.0.1:1'], {}, /a coordinator's URL, such as ws:/],
    [['board', 'runs', '--port', '65536'], {}, /--port 65536: expected a whole number/],
    [
      ['train', '--min-workers', '3', '--max-workers', '2'],
      {},
      /Cannot wait for 3 workers \(--min/,
    ],
    [
      ['train', '--workers', '3', '--max-workers', '2'],
      {},
      /Cannot start 3 workers: the maximum is 2/,
    ],
    [
      ['relay', 'ws://a', '--min-workers', '300'],
      {},
      /Cannot wait for 300 workers \(--min-workers\): the maximum is 256 \(--max-workers\)$/,
    ],
    [
      ['summary', '--config', 'no-such-file'],
      {},
      /configuration no-such-file \(--config\): ENOENT/,
    ],
  ])('and one sentence, for %j with %j', async (args, environment, sentence) => {
    const { code, stderr } = await lockstep(args, environment);
    expect(stderr).toMatch(/^lockstep: [^\n]+\n$/);
    expect(stderr.trimEnd()).toMatch(sentence);
    expect(code).toBe(2);
  });

  test('and the nearest name, for a file with unknown options', async () => {
    const file = join(await temporaryDirectory(), 'run.json');
    await writeFile(file, '{"batchsize": 128, "workers": 2}');
    const { code, stderr } = await lockstep(['train', '--config', file]);
    expect(stderr).toBe(
      `lockstep: Unknown option in ${file}: "batchsize" (did you mean "batchSize"?)\n`,
    );
    expect(code).toBe(2);
  });
});

test('a file sets every kind of option', async () => {
  const dir = await temporaryDirectory();
  const out = join(dir, 'run');
  const dataset = await smallMnist(40, 20);
  const file = join(dir, 'run.json');
  const values = { workers: 1, port: 0, out, dataset, epochs: 1, quiet: true, seed: 5 };
  await writeFile(file, JSON.stringify(values));
  const { code, stdout } = await lockstep(['train', '--seed', '6'], { LOCKSTEP_CONFIG: file });
  expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
  const config = await readFile(join(out, 'config.json'), 'utf8');
  expect(JSON.parse(config)).toMatchObject({ dataset, epochs: 1, seed: 6 });
});

describe('exit code 1 and one sentence', () => {
  test('whatever a file is called', async () => {
    const { code, stderr } = await lockstep(['evaluate', '\u001b]0;mine\u0007.safetensors']);
    expect(stderr).toMatch(/^lockstep: [^\p{Cc}]*\\u\{1b\}\]0;mine[^\p{Cc}]*\n$/u);
    expect(code).toBe(1);
  });

  test('for a kernel that does not fit, before anything starts', async () => {
    await expectSentence(
      ['train', '--kernel-size', '15', '--out', await runPath()],
      /Cannot build the model: a 15×15 kernel does not fit/,
    );
  });

  test('for a port in use', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    await expectSentence(
      ['coordinator', '--port', String(port), '--out', await runPath()],
      /the port is in use; choose another with --port/,
    );
  });

  test.each([
    [
      'a wrong magic number',
      (bytes: Buffer) => (bytes.writeUInt32BE(0x1234), bytes),
      /its magic number is/,
    ],
    ['a truncated file', (bytes: Buffer) => bytes.subarray(0, -1), /it is truncated/],
  ])('for %s in the dataset', async (_, damage, sentence) => {
    const dataset = await smallMnist(20, 20);
    const file = join(dataset, 't10k-images-idx3-ubyte');
    await writeFile(file, damage(await readFile(file)));
    await expectSentence(['train', '--dataset', dataset, '--out', await runPath()], sentence);
  });

  test('for a run directory that holds a run, one to resume that is missing, and no checkpoint', async () => {
    const dataset = await smallMnist(20, 20);
    const out = await runPath();
    const args = ['train', '--workers', '1', '--epochs', '1', '--dataset', dataset, '--out', out];
    expect((await lockstep(args)).code).toBe(0);
    await expectSentence(args, /holds another run; add --resume/);
    await expectSentence(['train', '--resume', out, '--seed', '2'], /Cannot resume with seed 2/);
    await expectSentence(['evaluate', `${out}-gone`], /no such file/);
    await expectSentence(['evaluate', join(out, 'config.json')], /no safetensors file/);
    await expectSentence(['predict', out, join(out, 'config.json')], /config\.json/);
  });
});

describe('evaluate and predict', () => {
  test('agree with the run, and with each other', async () => {
    const out = await runPath();
    const dataset = await smallMnist(2000, 300);
    const trained = await lockstep([
      ...['train', '--workers', '1', '--epochs', '3', '--micro-batch', '16'],
      ...['--dataset', dataset, '--out', out],
    ]);
    expect(trained.code).toBe(0);
    const { testAccuracy, testLoss, globalStep } = await resultOf(out);

    const last = join(
      out,
      'checkpoints',
      `step-${String(globalStep).padStart(8, '0')}.safetensors`,
    );
    const unasked = await lockstep(['evaluate', last]);
    expect(unasked).toMatchObject({ code: 1, stdout: '' });
    expect(unasked.stderr).toBe(
      `lockstep: Cannot find the test images: the model was trained on ${dataset}, ` +
        'a path that is not opened unless you name it; give --dataset PATH\n',
    );
    const evaluated = await lockstep(['evaluate', last, '--dataset', dataset, '--json']);
    expect(evaluated, evaluated.stderr).toMatchObject({ code: 0 });
    expect(JSON.parse(evaluated.stdout)).toMatchObject({
      dataset,
      numImages: 300,
      accuracy: testAccuracy,
      loss: testLoss,
    });
    const table = await lockstep(['evaluate', out, '--dataset', dataset]);
    expect(table.stdout).toMatch(/class +images +precision +recall +F1/);
    expect(table.stdout).toMatch(/label( +\d){10}/);

    const { images } = (await mnist()).test;
    const files = await Promise.all(
      [0, 1].map(async (index) => {
        const file = join(await temporaryDirectory(), `${index}.png`);
        const pixel = (row: number, column: number) => [
          images[index * 784 + row * 28 + column] / 255,
        ];
        await writeFile(file, pngOf(28, 28, 0, 8, pixel));
        return file;
      }),
    );
    const predicted = await lockstep(['predict', last, ...files, '--json']);
    expect(predicted.code).toBe(0);
    const mixed = await lockstep(['predict', last, join(out, 'config.json'), files[0], 'gone.png']);
    expect(mixed.code).toBe(1);
    expect(mixed.stdout).toMatch(/^ *file +digit[^\n]+\n *\S+0\.png +\d [^\n]+\n$/);
    expect(mixed.stderr).toMatch(
      /^lockstep: [^\n]*config\.json[^\n]*\nlockstep: [^\n]*gone\.png[^\n]*\n$/,
    );
    const rows = JSON.parse(predicted.stdout) as { label: number; probabilities: number[] }[];
    expect(rows).toHaveLength(2);
    for (const { label, probabilities } of rows) {
      expect(probabilities[label]).toBe(Math.max(...probabilities));
      // Ten float32 values that were rounded one by one.
      expect(probabilities.reduce((sum, value) => sum + value)).toBeCloseTo(1, 5);
    }
  });

  test('summary prints the table of the course note', async () => {
    const { code, stdout } = await lockstep(['summary']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Total +61,706 +416,520/);
  });
});

describe('the package', () => {
  test('has all that the program needs, and nothing else', async () => {
    const dir = await temporaryDirectory();
    const root = fileURLToPath(new URL('../..', import.meta.url));
    const run = promisify(execFile);
    await run('npm', ['pack', '--ignore-scripts', '--pack-destination', dir], { cwd: root });
    await run('tar', ['-xzf', 'lockstep-0.1.0.tgz'], { cwd: dir });
    const { stdout } = await run('tar', ['-tzf', 'lockstep-0.1.0.tgz'], { cwd: dir });
    const files = stdout.trim().split('\n');
    for (const file of [
      'dist/cli/main.js',
      'dist/model/engine/simd/simd.wasm',
      'CHANGELOG.md',
      'LICENSE',
    ]) {
      expect(files).toContain(`package/${file}`);
    }
    expect(files.filter((file) => /^package\/(src|test|runs|node_modules)\//.test(file))).toEqual(
      [],
    );
    // Its dependencies are those of this checkout: an install would ask a registry.
    await symlink(join(root, 'node_modules'), join(dir, 'package/node_modules'));
    const packed = join(dir, 'package/dist/cli/main.js');
    expect(packed).not.toBe(MAIN);
    const version = await startProgram(packed, ['--version']).ended;
    expect(version).toMatchObject({ code: 0, stdout: '0.1.0\n' });
  });
});

describe('bench', () => {
  const measured = async (...args: string[]) => {
    const { code, stdout, stderr } = await lockstep(['bench', ...args, '--json']);
    expect(code, stderr).toBe(0);
    return JSON.parse(stdout) as Record<string, unknown>;
  };

  const short = ['--batch-size', '8', '--warm-up', '20', '--seconds', '0.2', '--rounds', '1'];

  test('step measures a run, which it stops, against the engine alone', async () => {
    const { step } = (await measured('step', '--workers', '1', ...short)) as { step: StepBench };
    expect(step).toMatchObject({ workers: 1, batchSize: 8, numFirstSteps: 20 });
    const { cores, imagesPerSecond, engineImagesPerSecond, efficiency, startSpeed } = step;
    expect(step.numSteps).toBeGreaterThan(0);
    expect(efficiency).toBeCloseTo(imagesPerSecond / (cores * engineImagesPerSecond));
    expect(startSpeed).toBeGreaterThan(0);
  });

  test('scaling compares numbers of workers with one, and with the engine alone', async () => {
    const { scaling } = (await measured('scaling', '--workers', '1', ...short)) as {
      scaling: ScalingBench[];
    };
    expect(scaling).toMatchObject([{ workers: 1, timesOne: 1 }]);
    expect(scaling[0].efficiency).toBeGreaterThan(0);
  });

  test('coordinator measures what each of several workers costs it', async () => {
    const flags = ['--workers', '4', '--seconds', '0.5'];
    const { coordinator } = (await measured('coordinator', ...flags)) as {
      coordinator: CoordinatorBench[];
    };
    expect(coordinator.map(({ workers }) => workers)).toEqual([1, 4]);
    for (const {
      workers,
      numSteps,
      cpuMsPerStep,
      cpuMsPerWorkerAndStep,
      memoryBytes,
    } of coordinator) {
      expect(numSteps).toBeGreaterThan(0);
      expect(cpuMsPerStep).toBeGreaterThan(0);
      expect(cpuMsPerWorkerAndStep).toBeCloseTo(cpuMsPerStep / workers);
      expect(memoryBytes).toBeGreaterThan(10_000_000);
    }
  });

  test('stops at once while it measures the engine', async () => {
    const bench = start(['bench', 'engine', '--seconds', '600']);
    await setTimeout(1_000);
    bench.kill('SIGTERM');
    expect(await bench.ended).toMatchObject({ code: 143, stdout: '', stderr: '' });
  });

  test('leaves no process and no file when it is stopped', async () => {
    const dir = await temporaryDirectory();
    const bench = start(['bench', 'coordinator', '--workers', '1'], { TMPDIR: dir });
    await expect.poll(() => processesWith(dir), { timeout: 30_000 }).toHaveLength(1);
    bench.kill('SIGTERM');
    expect(await bench.ended).toMatchObject({
      code: 1,
      stderr: 'lockstep: Stopped before the end of the measurement\n',
    });
    expect(processesWith(dir)).toEqual([]);
    expect(await readdir(dir)).toEqual([]);
  });
});

test.skipIf(process.platform !== 'linux')('bench that is killed leaves no process', async () => {
  const dir = await temporaryDirectory();
  const bench = start(['bench', 'step', '--workers', '1', '--rounds', '1'], { TMPDIR: dir });
  await expect.poll(() => processesWith(dir), { timeout: 30_000 }).toHaveLength(1);
  bench.kill('SIGKILL');
  await expect.poll(() => processesWith(dir), { timeout: 10_000 }).toEqual([]);
});

test('runs lists what train made, and prunes after a yes alone', async () => {
  const dir = await temporaryDirectory();
  const dataset = await smallMnist(40, 20);
  for (const seed of ['1', '2']) {
    const flags = ['--epochs', '1', '--workers', '1', '--port', '0', '--seed', seed];
    const run = ['train', ...flags, '--dataset', dataset, '--out', join(dir, `run-${seed}`)];
    expect(await lockstep(run)).toMatchObject({ code: 0 });
  }
  const listed = await lockstep(['runs', dir]);
  expect(listed, listed.stderr).toMatchObject({ code: 0 });
  expect(listed.stdout).toMatch(
    /^run +state +model .*\nrun-2 +finished +6,16 120,84 sigmoid avg .* \d+\.\d\d % +1\/1 .*\nrun-1 .*\n2 runs, /,
  );
  // One that cannot be read does not keep the others from being shown.
  await mkdir(join(dir, 'broken'));
  await writeFile(join(dir, 'broken', 'config.json'), '{');
  const board = start(['board', dir, '--port', '0']);
  await board.said(/^run-1, run-2: http.* until Ctrl-C/m);
  board.kill('SIGTERM');
  const { code, stderr } = await board.ended;
  expect(stderr).toMatch(/^lockstep: Cannot show \S+broken: it contains no run/);
  expect(code).toBe(0);
  expect(await lockstep(['board', join(dir, 'broken')])).toMatchObject({ code: 1 });
  await rm(join(dir, 'broken'), { recursive: true });

  const prune = ['runs', dir, '--prune', '--keep-last', '1'];
  const asked = await lockstep(prune);
  expect(asked.stdout).toMatch(
    /1 run to be removed, .*\nNothing was removed; give --yes to remove them\n$/,
  );
  const json = await lockstep([...prune, '--yes', '--json']);
  expect(JSON.parse(json.stdout)).toMatchObject([{ name: 'run-1', state: 'finished', epochs: 1 }]);
  expect((await lockstep(['runs', dir])).stdout).toMatch(/\n1 run, /);
  expect(await lockstep(['runs', dir, '--prune'])).toMatchObject({ code: 2 });
  expect(await lockstep(['runs', dir, '--unfinished'])).toMatchObject({ code: 2 });
});

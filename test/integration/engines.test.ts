/** Engines other than `simd` in workers of their own: one that is not there, and a mixture. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Diagnosis } from '../../src/model/engine/doctor.js';
import { checkoutWith } from '../support/checkout.js';
import { lockstep, resultOf, smallMnist, start, startProgram } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { useWebgpu } from '../support/webgpu.js';

test.skipIf(process.platform !== 'linux')(
  'a worker without the engine that it was told to use says why, and ends',
  async () => {
    const coordinator = start([
      ...['coordinator', '--port', '0', '--dataset', await smallMnist(100, 50)],
      ...['--out', join(await temporaryDirectory(), 'run')],
    ]);
    const [url] = await coordinator.said(/ws:\/\/\S+:\d+/);
    const { code, stderr } = await lockstep(['worker', url, '--engine', 'webgpu'], {
      VK_ICD_FILENAMES: '/nowhere',
      VK_DRIVER_FILES: '/nowhere',
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^lockstep: The webgpu engine is not available: .*install/m);
  },
);

// TensorFlow is worth fixing where it has a CUDA build.
describe.skipIf(`${process.platform} ${process.arch}` !== 'linux x64')('doctor --fix', () => {
  /** A machine with an NVIDIA GPU, and with an npm that says how it was called. */
  async function machine(npm: string) {
    const checkout = await checkoutWith(
      '@tensorflow/tfjs-node-gpu',
      `throw new Error('The Node.js native addon module (tfjs_binding.node) can not be found at path: x')`,
    );
    const bin = await temporaryDirectory();
    const programs = { 'nvidia-smi': 'echo 0, GPU-1, 24576, 550.54.15, NVIDIA L4', npm };
    for (const [name, code] of Object.entries(programs)) {
      await writeFile(join(bin, name), `#!/bin/sh\n${code}\n`, { mode: 0o755 });
    }
    const PATH = `${bin}:${process.env.PATH}`;
    const nowhere = { VK_ICD_FILENAMES: '/nowhere', VK_DRIVER_FILES: '/nowhere' };
    return {
      doctor: (...args: string[]) =>
        startProgram(join(checkout, 'dist/cli/main.js'), ['doctor', ...args], { PATH, ...nowhere })
          .ended,
      checkout,
    };
  }

  test('runs the cure in the checkout, and looks again', async () => {
    const { doctor, checkout } = await machine('echo "$PWD: $*"');
    const { code, stdout, stderr } = await doctor('--fix', '--json');
    expect(code).toBe(0);
    expect(stderr).toContain(`${checkout}: rebuild --foreground-scripts @tensorflow/tfjs-node`);
    const { engines } = JSON.parse(stdout) as Diagnosis;
    expect(engines.find(({ name }) => name === 'tensorflow')!.reason).toContain(
      'is installed without its library',
    );
  });

  test('says which command failed', async () => {
    const { doctor } = await machine('[ "$1" = install ] || exit 7');
    const { code, stderr } = await doctor('--fix');
    expect(code).toBe(1);
    expect(stderr).toMatch(/^lockstep: Cannot fix: npm rebuild .*: it ended with code 7/m);
  });
});

test.skipIf(!useWebgpu())(
  'a mixture of engines trains, and says that the result is approximate',
  async () => {
    const out = join(await temporaryDirectory(), 'run');
    const { code, stdout, stderr } = await lockstep([
      ...['train', '--engines', 'webgpu,simd', '--min-workers', '2', '--out', out],
      // SwiftShader is hundreds of times slower than simd, which is not known before the first step. With a small model,
      // and one image a unit, it does its half of that before it is taken for late (100 ms a unit).
      ...['--channels', '2,4', '--hidden', '16'],
      ...['--dataset', await smallMnist(1024, 100), '--batch-size', '512', '--micro-batch', '1'],
      // Part of the proof, too.
      ...['--label-smoothing', '0.1', '--dropout', '0.2'],
      ...['--epochs', '2'],
    ]);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/reproducible +no, an approximate engine took part/);
    const { reproducible, workers } = await resultOf(out);
    expect(reproducible).toBe(false);
    expect(workers.map(({ engine, isExact }) => [engine, isExact]).sort()).toEqual([
      ['simd', true],
      ['webgpu', false],
    ]);
    for (const { numImages, engine } of workers) expect(numImages, engine).toBeGreaterThan(0);
  },
);

/** Engines other than `simd` in workers of their own: one that is not there, and a mixture. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lockstep, resultOf, smallMnist, start } from '../support/lockstep.js';
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

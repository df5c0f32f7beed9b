/** A run that starts from weights that are there. */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findCheckpoint, weightsSha256 } from '../../src/model/checkpoint.js';
import { fileStorage } from '../../src/shared/node/storage.js';
import { lockstep, resultOf, smallMnist } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

test('--init starts from a run, with the same bits on any number of workers, and resumes exactly', async () => {
  const dir = await temporaryDirectory();
  const dataset = await smallMnist(256, 64);
  const common = ['--dataset', dataset, '--epochs', '2'];
  const train = async (name: string, ...args: string[]) => {
    const out = join(dir, name);
    const ending = await lockstep(['train', ...common, '--out', out, ...args]);
    return { ...ending, out };
  };
  const first = await train('first', '--workers', '1');
  expect(first, first.stderr).toMatchObject({ code: 0 });
  const exported = join(dir, 'exported');
  const exporting = ['export', first.out, '--format', 'pytorch', '--out', exported];
  expect((await lockstep(exporting)).code).toBe(0);

  const hashes = [];
  for (const [name, workers, init] of [
    ['one', '1', first.out],
    ['two', '2', first.out],
    ['pytorch', '1', join(exported, 'model.safetensors')],
  ]) {
    const run = await train(name, '--workers', workers, '--init', init);
    expect(run, run.stderr).toMatchObject({ code: 0 });
    hashes.push((await resultOf(run.out)).weightsSha256);
  }
  expect(new Set(hashes).size).toBe(1);
  const { checkpoint } = await findCheckpoint(fileStorage, first.out, () => undefined);
  expect(hashes[0]).not.toBe(weightsSha256(checkpoint.params));
  expect(hashes[0]).not.toBe((await resultOf(first.out)).weightsSha256);

  // Resuming: the hash of the file stands in the configuration.
  const resumed = ['train', '--workers', '1', '--resume', join(dir, 'one')];
  expect(JSON.parse(await readFile(join(dir, 'one', 'config.json'), 'utf8'))).toMatchObject({
    initSha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
  });
  const other = await lockstep([...resumed, '--init', join(exported, 'model.safetensors')]);
  expect(other.stderr).toMatch(/Cannot start from .*: its SHA-256 is .*, expected/);
  // As one that was killed before its first checkpoint.
  for (const left of ['checkpoints', 'result.json'])
    await rm(join(dir, 'one', left), { recursive: true });
  const without = await lockstep(resumed);
  expect(without.stderr).toMatch(/Cannot start without the initial weights: give --init FILE/);
  const again = await lockstep([...resumed, '--init', first.out]);
  expect(again, again.stderr).toMatchObject({ code: 0 });
  expect((await resultOf(join(dir, 'one'))).weightsSha256).toBe(hashes[0]);
});

/** `lockstep sweep` with real trainings. */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lockstep, smallMnist, start } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

async function sweepFile(values: object): Promise<{ file: string; out: string }> {
  const dir = await temporaryDirectory();
  const file = join(dir, 'sweep.json');
  const dataset = await smallMnist(200, 40);
  await writeFile(file, JSON.stringify({ dataset, workers: 1, ...values }));
  return { file, out: join(dir, 'sweep') };
}

test('trains each combination once, goes on after Ctrl-C, and ranks them', async () => {
  const { file, out } = await sweepFile({ lr: [0.0001, 0.01, 0.02], epochs: 2 });
  const args = ['sweep', file, '--out', out];
  const first = start(args, { LOCKSTEP_LR: '0.5' });
  await first.said(/1\/3 {2}lr 0\.0001 {2}finished {2}\d/);
  first.kill('SIGINT');
  const stopped = await first.ended;
  expect(stopped, stopped.stderr).toMatchObject({ code: 130 });
  expect(stopped.stdout).toMatch(/To go on: npx lockstep sweep .*sweep\.json --out /);

  const result = join(out, 'trial-0001', 'result.json');
  const before = await stat(result);
  const again = await lockstep([...args, '--json']);
  expect(again, again.stderr).toMatchObject({ code: 0 });
  expect((await stat(result)).mtimeMs).toBe(before.mtimeMs);
  const trials = JSON.parse(again.stdout) as { name: string; accuracy: number; state: string }[];
  expect(trials.map(({ state }) => state)).toEqual(['finished', 'finished', 'finished']);
  expect(trials.at(-1)?.name).toBe('trial-0001');
  expect(trials[0].accuracy).toBeGreaterThanOrEqual(trials[1].accuracy);
  // The variable would go before the file.
  const config = await readFile(join(out, 'trial-0001', 'config.json'), 'utf8');
  expect(JSON.parse(config)).toMatchObject({ lr: 0.0001, epochs: 2 });

  await writeFile(file, JSON.stringify({ lr: [1, 2] }));
  const other = await lockstep(args);
  expect(other).toMatchObject({ code: 1 });
  expect(other.stderr).toMatch(/it contains another sweep; choose another --out/);
});

test('names the file that it cannot read', async () => {
  const { code, stderr } = await lockstep(['sweep', 'mistyped.json', '--out', 'nowhere']);
  expect(stderr).toMatch(/^lockstep: Cannot read the sweep mistyped\.json: ENOENT/);
  expect(code).toBe(2);
});

test('goes on after a trial that failed, and says so at the end', async () => {
  const { file, out } = await sweepFile({
    epochs: 1,
    lr: [1e6, 0.01],
    optimizer: 'sgd',
    activation: 'relu',
  });
  const { code, stdout, stderr } = await lockstep(['sweep', file, '--out', out]);
  expect(stderr).toMatch(/diverged/);
  expect(stdout).toMatch(/trial-0002 +\d.*finished.*\ntrial-0001 +.*failed/);
  expect(code).toBe(1);
});

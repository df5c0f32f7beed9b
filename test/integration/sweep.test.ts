/** `lockstep sweep` with real trainings. */
import { randomUUID } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { MARK, marked } from '../support/descendants.js';
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
  // What a sweep decides, the environment does not: a trial that serves its page would never end.
  const first = start(args, { LOCKSTEP_LR: '0.5', LOCKSTEP_KEEP_SERVING: '1' });
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

test('takes its trial along when it is killed, and goes on; two in one folder do not mix', async () => {
  const { file, out } = await sweepFile({ lr: [0.01, 0.02], epochs: 100_000 });
  const args = ['sweep', file, '--out', out];
  const mark = randomUUID();
  onTestFinished(() => marked(mark).forEach((pid) => process.kill(pid, 'SIGKILL')));
  const first = start(args, { [MARK]: mark });
  await vi.waitFor(() => stat(join(out, 'trial-0001', 'metrics.jsonl')), 30_000);
  expect(await lockstep(args)).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/another sweep is at work in it \(process \d+ on /) as unknown,
  });
  first.kill('SIGKILL');
  await first.ended;
  await vi.waitFor(() => expect(marked(mark)).toEqual([]), 10_000);
  const again = start(args, { [MARK]: mark });
  await vi.waitFor(() => expect(marked(mark).length).toBeGreaterThan(2), 30_000);
  again.kill('SIGINT');
  expect(await again.ended).toMatchObject({ code: 130 });
  expect(marked(mark)).toEqual([]);
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

/** `--resume` after a stop in mid-epoch, and from a folder with a damaged checkpoint. */
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { RunResult } from '../../src/coordinator/events.js';
import { lockstep, resultOf, smallMnist, start } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

/** Long enough to be killed in the midst of. */
const EPOCHS = 30;

async function trainings() {
  const dataset = await smallMnist();
  const out = join(await temporaryDirectory(), 'run');
  const undisturbed = join(await temporaryDirectory(), 'run');
  const augment = ['--augment', 'shift,rotate,noise'];
  const flags = ['--dataset', dataset, '--epochs', String(EPOCHS), ...augment];
  const whole = await lockstep(['train', '--workers', '1', '--out', undisturbed, ...flags]);
  expect(whole.code).toBe(0);
  return { out, undisturbed, flags, expected: (await resultOf(undisturbed)).weightsSha256 };
}

async function killInMidEpoch(out: string, flags: readonly string[]): Promise<void> {
  const program = start([
    ...['train', '--workers', '2', '--out', out, '--log-every', '1', '--checkpoint-every', '5'],
    ...flags,
  ]);
  // 16 steps an epoch: step 40 is in the middle of the third.
  await program.said(/step +40\//);
  program.kill('SIGKILL');
  await program.ended;
}

describe('train --resume', () => {
  test('gives the weights of the undisturbed run after kill -9 in mid-epoch', async () => {
    const { out, flags, expected } = await trainings();
    await killInMidEpoch(out, flags);
    const ended = await lockstep(['train', '--workers', '3', '--resume', out]);
    expect(ended, ended.stderr).toMatchObject({ code: 0 });
    expect(ended.stdout).toContain('Resuming');
    expect((await resultOf(out)).weightsSha256).toBe(expected);
  });

  test('says so and uses the checkpoint before, where the last is damaged', async () => {
    const { out, flags, expected } = await trainings();
    await killInMidEpoch(out, flags);
    const folder = join(out, 'checkpoints');
    const last = (await readdir(folder))
      .filter((name) => /^step-.*s$/.test(name))
      .sort()
      .at(-1)!;
    const bytes = await readFile(join(folder, last));
    bytes[bytes.length - 1000] ^= 1;
    await writeFile(join(folder, last), bytes);

    const ended = await lockstep(['train', '--workers', '1', '--resume', out]);
    expect(ended.code).toBe(0);
    expect(ended.stdout).toMatch(new RegExp(`warn: Cannot use .*${last}: it is damaged`));
    expect((await resultOf(out)).weightsSha256).toBe(expected);
  });

  test('says that a finished run was over, leaves its result alone, and exits with 0', async () => {
    const { undisturbed, flags } = await trainings();
    const path = join(undisturbed, 'result.json');
    const result = await readFile(path, 'utf8');
    const again = ['train', '--out', undisturbed, '--resume', ...flags];
    const ended = await lockstep(again);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(ended.stdout).toMatch(/had already finished, after 480 steps/);
    expect(ended.stdout).not.toMatch(/joined|Live page/);
    expect(await readFile(path, 'utf8')).toBe(result);

    // As if it had been killed after its last checkpoint.
    await rm(path);
    expect((await lockstep(again)).code).toBe(0);
    const { outcome, seconds, weightsSha256, imagesPerSecond } = await resultOf(undisturbed);
    const whole = JSON.parse(result) as RunResult;
    expect({ outcome, weightsSha256 }).toEqual({
      outcome: 'finished',
      weightsSha256: whole.weightsSha256,
    });
    expect(seconds).toBeGreaterThan(whole.seconds / 2);
    expect(imagesPerSecond).toBeGreaterThan(whole.imagesPerSecond / 2);
  });

  test('refuses a finished run whose checkpoints are gone, with exit code 2, and trains nothing', async () => {
    const out = join(await temporaryDirectory(), 'run');
    const flags = ['--dataset', await smallMnist(100, 50), '--epochs', '1', '--workers', '1'];
    expect((await lockstep(['train', ...flags, '--out', out])).code).toBe(0);
    await rm(join(out, 'checkpoints'), { recursive: true });
    const metrics = await readFile(join(out, 'metrics.jsonl'), 'utf8');
    for (const how of [
      ['--resume', out],
      ['--out', out, '--resume', '--epochs', '2'],
    ]) {
      const ended = await lockstep(['train', ...how]);
      expect(ended.code).toBe(2);
      expect(ended.stderr).toMatch(
        /^lockstep: Cannot resume \S+: the run was over after 2 steps, and its checkpoints are gone; [^\n]+\n$/,
      );
    }
    expect(await readFile(join(out, 'metrics.jsonl'), 'utf8')).toBe(metrics);
    expect((await resultOf(out)).outcome).toBe('finished');
  });

  test('gives a run that was over more epochs: the weights of one that had them from the start', async () => {
    const flags = ['--dataset', await smallMnist(), '--schedule', 'step', '--workers', '1'];
    const [out, whole] = [await temporaryDirectory(), await temporaryDirectory()].map((dir) =>
      join(dir, 'run'),
    );
    expect((await lockstep(['train', ...flags, '--epochs', '5', '--out', whole])).code).toBe(0);
    expect((await lockstep(['train', ...flags, '--epochs', '2', '--out', out])).code).toBe(0);
    const fewer = await lockstep(['train', '--resume', out, '--epochs', '1']);
    expect(fewer.code).toBe(1);
    expect(fewer.stderr).toMatch(
      /Cannot resume with epochs 1 .*: the run has 2, and can only be given more/,
    );
    const longer = await lockstep(['train', '--resume', out, '--epochs', '5']);
    expect(longer).toMatchObject({ code: 0, stderr: '' });
    expect(longer.stdout).toContain('The run goes on to 5 epochs instead of 2');
    const { outcome, epochs, weightsSha256, best } = await resultOf(out);
    expect({ outcome, epochs }).toEqual({ outcome: 'finished', epochs: 5 });
    expect(weightsSha256).toBe((await resultOf(whole)).weightsSha256);
    expect(longer.stdout).toContain(`on the ${best!.set} set, which chose it`);
    // From now on it has five.
    const over = await lockstep(['train', '--resume', out]);
    expect(over.stdout).toMatch(
      /had already finished, after 80 steps; it can be continued with more --epochs than 5/,
    );
  });

  test('refuses a folder that holds no run, with exit code 2, and makes none', async () => {
    const parent = await temporaryDirectory();
    const ended = await lockstep(['train', '--resume', join(parent, 'mistyped')]);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(
      /^lockstep: Cannot resume \S+mistyped: there is no run; [^\n]+\n$/,
    );
    expect(await readdir(parent)).toEqual([]);
  });
});

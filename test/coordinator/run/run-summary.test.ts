import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openRunDirectory, removeRun } from '../../../src/coordinator/run/run-directory.js';
import {
  listRuns,
  runsToPrune,
  type RunState,
  type RunSummary,
} from '../../../src/coordinator/run/run-summary.js';
import { isOutdated } from '../../../src/coordinator/run/run-result.js';
import { parseRunConfig } from '../../../src/shared/config.js';
import { UserError } from '../../../src/shared/errors.js';
import * as events from '../../support/run-events.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

const config = parseRunConfig({ epochs: 3 });

async function beginRun(dir: string, name: string) {
  return openRunDirectory(join(dir, name), { resume: 'never', configure: () => config });
}

describe('listRuns()', () => {
  test('tells the states apart, and skips whatever is not a run', async () => {
    const dir = await temporaryDirectory();
    const { result } = events.finished();
    const done = await beginRun(dir, 'done');
    await done.writeResult({ ...result, outcome: 'finished' });
    done.release();
    (await beginRun(dir, 'killed')).release();
    const running = await beginRun(dir, 'running');
    await mkdir(join(dir, 'damaged'));
    await writeFile(join(dir, 'damaged', 'config.json'), '{');
    await mkdir(join(dir, 'other'));
    await writeFile(join(dir, 'a-file'), '');
    await symlink(dir, join(dir, 'loop'));
    await symlink('nowhere', join(dir, 'broken'));
    const runs = await listRuns(dir);
    running.release();
    expect(Object.fromEntries(runs.map(({ name, state }) => [name, state]))).toEqual({
      done: 'finished',
      killed: 'interrupted',
      running: 'running',
      damaged: 'damaged',
    });
    const first = runs.find(({ name }) => name === 'done')!;
    expect(first.accuracy).toBe(result.best?.accuracy ?? result.testAccuracy);
    expect(first.epochs).toBe(result.epochs);
    expect(first.bytes).toBeGreaterThan(100);
    await expect(listRuns(join(dir, 'nowhere'))).rejects.toThrow(UserError);
  });

  test('a run that went on after it was over, and was killed, is over no more', async () => {
    const dir = await temporaryDirectory();
    const { result } = events.finished({ epochs: 2 });
    const run = await beginRun(dir, 'extended');
    await run.writeResult({ ...result, outcome: 'finished' });
    run.release();
    const [summary] = await listRuns(dir);
    expect(summary).toMatchObject({ state: 'interrupted', epochs: 0, accuracy: null });
    expect(runsToPrune([summary], { keepBest: 0, keepLast: 0, unfinished: false })).toEqual([]);
    const stopped = { ...result, outcome: 'stopped' } as const;
    expect(isOutdated(stopped, config, null)).toBe(false);
    expect(isOutdated(stopped, config, result.globalStep)).toBe(false);
    expect(isOutdated(stopped, config, result.globalStep + 1)).toBe(true);
  });
});

describe('runsToPrune()', () => {
  const run = (name: string, state: RunState, accuracy: number | null, dataset = 'mnist') =>
    ({
      ...{ path: name, name, state, accuracy, epochs: 1, bytes: 1, changedAt: 0 },
      config: { ...config, dataset },
    }) satisfies RunSummary;
  const runs = [
    run('running', 'running', 0.1),
    run('newest', 'finished', 0.5),
    run('stopped', 'stopped', 0.95),
    run('best', 'stoppedEarly', 0.9),
    run('poor', 'targetReached', 0.2),
    run('other', 'finished', 0.3, 'pets'),
    run('killed', 'interrupted', null),
    run('damaged', 'damaged', null),
  ];
  const none = { keepBest: null, keepLast: null, unfinished: false };

  test.each<[object, string[]]>([
    [{}, []],
    [{ keepBest: 1 }, ['newest', 'poor']],
    [{ keepLast: 2 }, ['best', 'poor', 'other']],
    [{ keepBest: 1, keepLast: 2 }, ['poor']],
    [{ keepLast: 0 }, ['newest', 'best', 'poor', 'other']],
    [{ unfinished: true }, ['stopped', 'killed']],
    [{ unfinished: true, keepLast: 3 }, ['best', 'poor', 'other', 'killed']],
  ])('with %j removes %j', (rules, names) => {
    expect(runsToPrune(runs, { ...none, ...rules }).map(({ name }) => name)).toEqual(names);
  });
});

describe('removeRun()', () => {
  test('removes a run, unless it is running, contains foreign files, or is a link', async () => {
    const dir = await temporaryDirectory();
    const run = await beginRun(dir, 'run');
    const path = join(dir, 'run');
    await expect(removeRun(path)).rejects.toThrow('a coordinator is at work in it');
    run.release();
    await writeFile(join(path, 'notes.txt'), 'mine');
    await expect(removeRun(path)).rejects.toThrow("it holds notes.txt, which is no run's");
    expect(await readdir(path)).toEqual(['config.json', 'notes.txt']);
    await rm(join(path, 'notes.txt'));
    await writeFile(join(path, 'thesis.partial'), 'mine');
    await expect(removeRun(path)).rejects.toThrow('it holds thesis.partial');
    await rm(join(path, 'thesis.partial'));
    await mkdir(join(path, 'checkpoints'));
    await writeFile(join(path, 'checkpoints', 'notes.txt'), 'mine');
    await expect(removeRun(path)).rejects.toThrow('it holds notes.txt');
    await rm(join(path, 'checkpoints', 'notes.txt'));
    await symlink('run', join(dir, 'link'));
    await expect(removeRun(join(dir, 'link'))).rejects.toThrow('it is a link');
    await writeFile(join(path, 'checkpoints', 'step-00000001.safetensors.partial'), '');
    await writeFile(join(path, 'trace-12.json'), '[]');
    await writeFile(join(path, 'result.json.partial'), '');
    await removeRun(path);
    expect(await readdir(dir)).toEqual(['link']);
  });
});

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, readdir, rm, rmdir, symlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { newRunPath, openRunDirectory } from '../../../src/coordinator/run/run-directory.js';
import { parseRunConfig, type RunConfig } from '../../../src/shared/config.js';
import { UsageError, UserError } from '../../../src/shared/errors.js';
import * as events from '../../support/run-events.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

const config = parseRunConfig({ seed: 7 });
const begin = { resume: 'never' as const, configure: () => config };
const resume = {
  resume: 'ifThere' as const,
  configure: (stored: RunConfig | null) => stored ?? config,
};

async function expectRefusal(promise: Promise<unknown>, message: string | RegExp): Promise<void> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  expect((error as UserError).message).toMatch(message);
}

describe('newRunPath()', () => {
  it('is dated, and different each time', () => {
    const now = new Date(2026, 10, 24, 3, 41, 2);
    expect(newRunPath(now)).toMatch(/^runs.2026-11-24-034102-[0-9a-f]{4}$/);
    expect(newRunPath(now)).not.toBe(newRunPath(now));
  });
});

describe('openRunDirectory()', () => {
  it('creates the folder of a new run', async () => {
    const path = join(await temporaryDirectory(), 'runs', 'first');
    const directory = await openRunDirectory(path, begin);
    expect(directory).toMatchObject({
      path,
      name: 'first',
      isResumed: false,
      checkpointsPath: join(path, 'checkpoints'),
      metricsPath: join(path, 'metrics.jsonl'),
    });
    expect(parseRunConfig(JSON.parse(await readFile(join(path, 'config.json'), 'utf8')))).toEqual(
      config,
    );
    directory.release();
    expect(await readdir(path)).toEqual(['config.json']);
  });

  it('resumes with the stored configuration', async () => {
    const path = await temporaryDirectory();
    (await openRunDirectory(path, begin)).release();
    const directory = await openRunDirectory(path, {
      resume: 'ifThere' as const,
      configure: (stored) => {
        expect(stored).toEqual(config);
        return stored!;
      },
    });
    expect(directory.isResumed).toBe(true);
    directory.release();
  });

  it('starts a new run if there is none to resume', async () => {
    const path = await temporaryDirectory();
    const directory = await openRunDirectory(path, resume);
    expect(directory.isResumed).toBe(false);
    directory.release();
  });

  it.each(['no folder', 'an empty folder', 'a folder of something else'])(
    'refuses to resume a run that does not exist, and leaves nothing behind: there is %s',
    async (what) => {
      const parent = await temporaryDirectory();
      const path = join(parent, 'mistyped');
      if (what !== 'no folder') await mkdir(path);
      if (what === 'a folder of something else') await writeFile(join(path, 'thesis.tex'), '');
      const before = await readdir(parent, { recursive: true });
      const opening = openRunDirectory(path, { ...resume, resume: 'always' });
      await expect(opening).rejects.toThrow(
        new UsageError(
          `Cannot resume ${path}: there is no run; to start one if there is none, give --out ${path} --resume`,
        ),
      );
      expect(await readdir(parent, { recursive: true })).toEqual(before);
    },
  );

  it.each(['result.json', 'metrics.jsonl', 'checkpoints/step-1.safetensors'])(
    'does not start over another run, recognized by %s',
    async (file) => {
      const path = await temporaryDirectory();
      await mkdir(join(path, 'checkpoints'));
      await writeFile(join(path, 'config.json'), JSON.stringify(config));
      await writeFile(join(path, file), 'x');
      await expectRefusal(
        openRunDirectory(path, begin),
        `Cannot start a run in ${path}: it holds another run; add --resume to go on with it, or take another --out`,
      );
      (await openRunDirectory(path, resume)).release();
    },
  );

  it('starts in the folder of a start that never got to a step', async () => {
    const path = await temporaryDirectory();
    await writeFile(join(path, 'config.json'), JSON.stringify(parseRunConfig({ seed: 8 })));
    await writeFile(join(path, 'log.jsonl'), '{}\n');
    await writeFile(join(path, 'metrics.jsonl'), '');
    const directory = await openRunDirectory(path, begin);
    directory.release();
    expect(await readFile(join(path, 'config.json'), 'utf8')).toContain('"seed": 7');
  });

  it('does not start in a folder with other files, or in a file', async () => {
    const path = await temporaryDirectory();
    await writeFile(join(path, 'thesis.tex'), '');
    await expectRefusal(
      openRunDirectory(path, begin),
      /the directory is not empty \(thesis.tex\); choose another --out$/,
    );
    await expectRefusal(
      openRunDirectory(join(path, 'thesis.tex'), begin),
      /^Cannot create the run directory .*thesis.tex: E/,
    );
    expect(await readdir(path)).toEqual(['thesis.tex']);
  });

  it('reports a damaged configuration', async () => {
    const path = await temporaryDirectory();
    for (const text of ['{"seed": ', '{"seed": -1}', '[]']) {
      await writeFile(join(path, 'config.json'), text);
      await expectRefusal(
        openRunDirectory(path, resume),
        /^Cannot resume .*: config.json is damaged: /,
      );
    }
  });

  it('leaves nothing behind when the configuration is refused', async () => {
    const path = await temporaryDirectory();
    const refuse = () => {
      throw new UserError('No');
    };
    await expectRefusal(
      openRunDirectory(path, { resume: 'never' as const, configure: refuse }),
      /^No$/,
    );
    expect(await readdir(path)).toEqual([]);
  });

  it('discards what a failed start left, and the folders created for it', async () => {
    const parent = await temporaryDirectory();
    const path = join(parent, 'runs', 'first');
    const directory = await openRunDirectory(path, begin);
    await writeFile(directory.logPath, '{}\n');
    await mkdir(join(directory.tensorboardPath, 'train'), { recursive: true });
    await mkdir(directory.checkpointsPath);
    // The state that a run without a step ended in.
    await writeFile(join(directory.checkpointsPath, 'step-00000000.safetensors'), 'x');
    await directory.discard();
    expect(await readdir(parent)).toEqual([]);
  });

  it.each(['metrics.jsonl', 'checkpoints/step-00000001.safetensors'])(
    'does not discard a run that got to a step, recognized by %s',
    async (file) => {
      const path = join(await temporaryDirectory(), 'run');
      const directory = await openRunDirectory(path, begin);
      await mkdir(directory.checkpointsPath);
      await writeFile(join(path, file), 'x');
      await directory.discard();
      directory.release();
      expect(await readdir(path, { recursive: true })).toContain(file);
    },
  );

  it("does not discard what was there, which may be the user's own", async () => {
    const path = await temporaryDirectory();
    for (const name of ['tls-key.pem', 'token']) await writeFile(join(path, name), 'mine');
    const directory = await openRunDirectory(path, begin);
    await writeFile(join(path, 'look-token'), 'made by the start');
    await directory.discard();
    expect((await readdir(path)).sort()).toEqual(['tls-key.pem', 'token']);
  });

  it('does not discard a resumed run, or foreign files', async () => {
    const path = join(await temporaryDirectory(), 'run');
    const first = await openRunDirectory(path, begin);
    first.release();
    const second = await openRunDirectory(path, resume);
    await second.discard();
    second.release();
    expect(await readdir(path)).toEqual(['config.json']);
    const third = await openRunDirectory(path, begin);
    await writeFile(join(path, 'notes.txt'), '');
    await third.discard();
    expect((await readdir(path)).sort()).toEqual(['config.json', 'notes.txt']);
  });

  it('writes result.json', async () => {
    const path = await temporaryDirectory();
    const directory = await openRunDirectory(path, begin);
    const { result } = events.finished();
    await directory.writeResult(result);
    expect(JSON.parse(await readFile(join(path, 'result.json'), 'utf8'))).toEqual(result);
    directory.release();
  });

  it.each([
    ['a stopped run by one at an earlier step', { globalStep: 5 }, { globalStep: 4 }],
    [
      'a finished run by a stopped one',
      { outcome: 'finished', globalStep: 5 },
      { outcome: 'stopped', globalStep: 5 },
    ],
    [
      'a finished run by the same result, written again later',
      { outcome: 'finished', globalStep: 5, seconds: 60 },
      { outcome: 'finished', globalStep: 5, seconds: 1 },
    ],
    [
      'a finished run by an earlier stop',
      { outcome: 'finished', globalStep: 5 },
      { outcome: 'stopped', globalStep: 4 },
    ],
  ] as const)('does not overwrite the result of %s', async (_, more, less) => {
    const path = await temporaryDirectory();
    const directory = await openRunDirectory(path, begin);
    const { result } = events.finished();
    await directory.writeResult({ ...result, outcome: 'stopped', ...more });
    await directory.writeResult({ ...result, outcome: 'stopped', ...less });
    expect(JSON.parse(await readFile(join(path, 'result.json'), 'utf8'))).toMatchObject(more);
    await directory.writeResult({ ...result, outcome: 'stopped', globalStep: 6 });
    expect(await readFile(join(path, 'result.json'), 'utf8')).toContain('"globalStep": 6');
    directory.release();
  });

  it('removes the unfinished trace of a killed run', async () => {
    const path = await temporaryDirectory();
    (await openRunDirectory(path, begin)).release();
    await writeFile(join(path, 'trace.json.growing.partial'), '[');
    await writeFile(join(path, 'trace.json'), '[]');
    (await openRunDirectory(path, resume)).release();
    expect(await readdir(path)).toEqual(['config.json', 'trace.json']);
  });

  it('gives each start its own trace', async () => {
    const path = await temporaryDirectory();
    const directory = await openRunDirectory(path, begin);
    expect([directory.tracePath(0), directory.tracePath(938)]).toEqual([
      join(path, 'trace.json'),
      join(path, 'trace-938.json'),
    ]);
    directory.release();
  });
});

describe('lock of a run directory', () => {
  const inUse =
    /^Cannot use .*: a coordinator is at work in it \(process \d+ on .*\); if it is gone, remove .*lock.json$/;

  it('keeps a second coordinator out until the first has released it', async () => {
    const path = await temporaryDirectory();
    const first = await openRunDirectory(path, begin);
    await expectRefusal(openRunDirectory(path, resume), inUse);
    first.release();
    (await openRunDirectory(path, resume)).release();
  });

  it('admits one of many at once', async () => {
    const path = await temporaryDirectory();
    const gone = spawn(process.execPath, ['-e', '']);
    await once(gone, 'exit');
    const stale = JSON.stringify({ pid: gone.pid, host: hostname(), startTicks: null });
    await writeFile(join(path, 'lock.json'), stale);
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, () => openRunDirectory(path, resume)),
    );
    const opened = results.filter((result) => result.status === 'fulfilled');
    expect(opened).toHaveLength(1);
    opened[0].value.release();
    expect(await readdir(path)).toEqual(['config.json']);
  });

  it('is taken over from a coordinator that was killed', async () => {
    const path = await temporaryDirectory();
    const killed = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
    const lock = JSON.stringify({ pid: killed.pid, host: hostname(), startTicks: null });
    await writeFile(join(path, 'lock.json'), lock);
    await expectRefusal(openRunDirectory(path, resume), inUse);
    killed.kill('SIGKILL');
    await once(killed, 'exit');
    (await openRunDirectory(path, resume)).release();
  });

  it.skipIf(process.platform !== 'linux')(
    'is taken over when its pid belongs to another process by now',
    async () => {
      const path = await temporaryDirectory();
      const lock = JSON.stringify({ pid: process.ppid, host: hostname(), startTicks: '1' });
      await writeFile(join(path, 'lock.json'), lock);
      (await openRunDirectory(path, resume)).release();
    },
  );

  it('holds for another machine, whose processes cannot be checked', async () => {
    const path = await temporaryDirectory();
    const lock = JSON.stringify({ pid: 1, host: 'elsewhere', startTicks: null });
    await writeFile(join(path, 'lock.json'), lock);
    await expectRefusal(openRunDirectory(path, resume), inUse);
  });

  it('is taken over if it is damaged', async () => {
    const path = await temporaryDirectory();
    await writeFile(join(path, 'lock.json'), '\0\0\0');
    (await openRunDirectory(path, resume)).release();
  });

  it('that cannot be read, or cannot be replaced, is a reason to end and not to wait', async () => {
    const path = await temporaryDirectory();
    await mkdir(join(path, 'lock.json'));
    await expectRefusal(
      openRunDirectory(path, resume),
      /^Cannot tell whether a coordinator is at work in .*: .*; if none is, remove .*lock\.json$/,
    );
    await rmdir(join(path, 'lock.json'));
    await symlink('nowhere', join(path, 'lock.json'));
    await expectRefusal(openRunDirectory(path, resume), /^Cannot write into .* neither read nor/);
    await rm(join(path, 'lock.json'));
    await writeFile(join(path, 'lock.json'), '{}');
    await mkdir(join(path, `lock.json.${process.pid}.partial`, 'in-the-way'), { recursive: true });
    await expectRefusal(openRunDirectory(path, resume), /^Cannot write into .*: EISDIR/);
  });
});

/** What goes wrong around a run: it ends with one sentence and its code, and a start that fails leaves nothing. */
import { execFileSync } from 'node:child_process';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { lockstep, smallMnist, start, type Ending } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

function expectSentence({ code, stderr }: Ending, sentence: RegExp, expectedCode = 1): void {
  expect(stderr).toMatch(/^lockstep: [^\n]+\n$/);
  expect(stderr).toMatch(sentence);
  expect(stderr).not.toMatch(/ {4}at /);
  expect(code).toBe(expectedCode);
}

describe('a start that fails', () => {
  const portInUse = async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    return String((server.address() as AddressInfo).port);
  };
  test.each([
    ['a port in use', async () => ['--port', await portInUse()], /the port is in use/],
    [
      'a port in use off loopback',
      async () => ['--host', '0.0.0.0', '--port', await portInUse()],
      /the port is in use/,
    ],
    ['a dataset that is not there', () => ['--dataset', 'nowhere'], /Cannot load the dataset/],
    ['a model that does not fit', () => ['--kernel-size', '15'], /does not fit/],
    [
      'an engine that the machine lacks',
      () => ['--engine', 'webgpu', '--workers', '3'],
      /The webgpu engine is not available/,
    ],
  ])('leaves no folder: %s', async (_, flags, sentence) => {
    const parent = await temporaryDirectory();
    const out = join(parent, 'runs', 'first');
    const ended = await lockstep(['train', '--out', out, ...(await flags())], {
      VK_ICD_FILENAMES: '/nowhere',
      VK_DRIVER_FILES: '/nowhere',
    });
    expectSentence(ended, sentence, ended.code ?? 0);
    expect(ended.stderr).not.toContain('not expected');
    expect([1, 2]).toContain(ended.code);
    expect(await readdir(parent)).toEqual([]);
  });

  test('ends at once where no worker will ever start, and leaves no folder', async () => {
    const parent = await temporaryDirectory();
    const ended = await lockstep(
      [
        ...['train', '--workers', '1', '--out', join(parent, 'run'), '--quiet'],
        ...['--dataset', await smallMnist(100, 50), '--port', '0'],
      ],
      { LOCKSTEP_MAX_MEMORY: '1' },
    );
    expect(ended).toMatchObject({
      code: 1,
      stderr: 'lockstep: Cannot keep any worker running; see the lines above\n',
    });
    expect(ended.stdout.match(/LOCKSTEP_MAX_MEMORY=1/g)).toHaveLength(1);
    expect(await readdir(parent)).toEqual([]);
  });

  test('a worker says that its engine is missing before it looks for a coordinator', async () => {
    const ended = await lockstep(['worker', 'ws://127.0.0.1:1', '--engine', 'webgpu'], {
      VK_ICD_FILENAMES: '/nowhere',
      VK_DRIVER_FILES: '/nowhere',
    });
    expectSentence(ended, /The webgpu engine is not available/);
    expect(ended.stdout).not.toContain('No coordinator');
  });
});

describe.skipIf(process.platform !== 'linux')('a process that may open few files', () => {
  test.each([24, 32, 64])('says so in one sentence: %d', async (limit) => {
    const ended = await start(
      ['train', '--workers', '1', '--epochs', '1', '--dataset', await smallMnist(100, 50)].concat(
        '--out',
        join(await temporaryDirectory(), 'run'),
      ),
      {},
      ['sh', '-c', `ulimit -n ${limit}; exec "$@"`, 'sh'],
    ).ended;
    expectSentence(ended, /too many files are open.*; raise it, as with ulimit -n 1024/);
  });
});

test.skipIf(process.platform !== 'linux')(
  'a place where nothing can be made is named at once',
  async () => {
    const [sweep, out] = [join(await temporaryDirectory(), 'sweep.json'), ['--out', '/proc/x']];
    await writeFile(sweep, '{"epochs": 1, "lr": [0.01, 0.02]}');
    for (const args of [['train'], ['sweep', sweep], ['relay', 'ws://a', '--host', '0.0.0.0']]) {
      expectSentence(
        await lockstep([...args, ...out]),
        /Cannot (create|make|write) .*\/proc\/x.*ENOENT/,
      );
    }
  },
);

describe('an error that nobody expected', () => {
  test.each(['0', 'false', '1', 'yes'])('shows its stack if told so: %s', async (isWanted) => {
    const bug = `Object.defineProperty(console, 'log', { value() { throw new Error('a bug') } })`;
    const { code, stderr } = await lockstep(['summary'], {
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(bug)}`,
      LOCKSTEP_DEBUG: isWanted,
    });
    expect(code).toBe(1);
    expect(/ {4}at /.test(stderr)).toBe(['1', 'yes'].includes(isWanted));
  });

  test('ends the run with one sentence, and its stack stands in the log', async () => {
    const out = join(await temporaryDirectory(), 'run');
    const bug = `process.argv[2] === "train" && setTimeout(() => { throw new Error("a bug") }, 3000)`;
    const ended = await lockstep(
      [
        ...['train', '--workers', '1', '--epochs', '100000', '--port', '0', '--out', out],
        ...['--dataset', await smallMnist(100, 50)],
      ],
      { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(bug)}` },
    );
    expectSentence(ended, /a bug; this was not expected, and \S+log\.jsonl says where/);
    expect(await readFile(join(out, 'log.jsonl'), 'utf8')).toMatch(/"stack":"Error: a bug\\n +at/);
    // It can be resumed.
    expect(await readdir(out)).not.toContain('lock.json');
  });
});

const mayMount = process.platform === 'linux' && process.getuid?.() === 0;

describe.skipIf(!mayMount)('a full disk', () => {
  async function tinyDisk(kilobytes: number): Promise<string> {
    const dir = await temporaryDirectory();
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kilobytes}k`, 'tmpfs', dir]);
    onTestFinished(() => void execFileSync('umount', ['-l', dir]));
    return dir;
  }

  test('ends a run whose last state it does not take, loudly', async () => {
    const disk = await tinyDisk(400);
    const ended = await lockstep([
      ...['train', '--workers', '1', '--epochs', '2', '--dataset', await smallMnist(100, 50)],
      ...['--out', join(disk, 'run')],
    ]);
    expectSentence(ended, /Cannot write the checkpoint of step 4: ENOSPC.*; there is none: make/);
    expect(ended.stdout).not.toMatch(/Finished|Results in/);
    expect(await readdir(join(disk, 'run'))).not.toContain('result.json');
  });

  test('keeps a run from starting, and leaves nothing', async () => {
    const disk = await tinyDisk(16);
    await writeFile(join(disk, 'full'), new Uint8Array(16 * 1024)).catch(() => undefined);
    const ended = await lockstep(['train', '--workers', '1', '--out', join(disk, 'run')]);
    expectSentence(ended, /Cannot (write into|make) the (run )?directory .*ENOSPC/);
    expect(await readdir(disk)).toEqual(['full']);
  });

  test('takes no export and no sweep, of which nothing is left', async () => {
    const folder = await temporaryDirectory();
    const [run, sweep] = [join(folder, 'run'), join(folder, 'sweep.json')];
    const dataset = await smallMnist(100, 50);
    const train = ['train', '--workers', '1', '--epochs', '1', '--port', '0'];
    expect(await lockstep([...train, '--dataset', dataset, '--out', run])).toMatchObject({
      code: 0,
    });
    await writeFile(sweep, '{"epochs": 1, "lr": [0.01, 0.02]}');
    const disk = await tinyDisk(16);
    await writeFile(join(disk, 'full'), new Uint8Array(16 * 1024)).catch(() => undefined);
    const out = ['--out', join(disk, 'a', 'b')];
    expectSentence(await lockstep(['export', run, ...out]), /Cannot write into .*ENOSPC/);
    expectSentence(await lockstep(['sweep', sweep, ...out]), /Cannot write .*ENOSPC/);
    expect(await readdir(disk)).toEqual(['full']);
  });
});

test.skipIf(process.platform !== 'linux')(
  'a result that cannot be printed is a failure, but not for a reader who has seen enough',
  async () => {
    const printTo = (where: string) =>
      start(['summary'], {}, ['sh', '-c', `exec "$@" ${where}`, 'sh']).ended;
    expectSentence(await printTo('>/dev/full'), /Cannot write the output: ENOSPC/);
    expect(await printTo('| true')).toMatchObject({ stderr: '' });
  },
);

test.skipIf(process.platform !== 'linux')(
  'a console that takes nothing does not stop a run',
  async () => {
    const ended = await start(
      [
        ...['train', '--workers', '1', '--epochs', '1', '--dataset', await smallMnist(100, 50)],
        ...['--out', join(await temporaryDirectory(), 'run')],
      ],
      {},
      ['sh', '-c', 'exec "$@" >/dev/full', 'sh'],
    ).ended;
    expect(ended).toMatchObject({ code: 0, stderr: '' });
  },
);

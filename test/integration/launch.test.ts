/** `lockstep launch` over a real ssh and a real sshd on this machine. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { lockstep, resultOf, smallMnist, start } from '../support/lockstep.js';
import { processesWith } from '../support/processes.js';
import { MAIN } from '../support/program.js';
import { startSshd, whyNoSshd } from '../support/sshd.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const reason = whyNoSshd();
beforeAll(() => {
  if (reason !== null) console.warn(`lockstep launch is not tested: ${reason}`);
});

const TOKEN = 'a-secret-that-no-list-of-processes-shows';
const PROGRAM = `${process.execPath} ${MAIN}`;

/** What a launch on the hosts of `hostfile` is told, with a name that no other worker of this machine has. */
async function launch(hostfile: string, ...flags: string[]) {
  const dir = await temporaryDirectory();
  const [hosts, out] = [join(dir, 'hosts.txt'), join(dir, 'run')];
  await writeFile(hosts, hostfile);
  const program = start(
    [
      ...['launch', hosts, '--ssh', await startSshd(), '--host', '127.0.0.1', '--port', '0'],
      ...['--program', PROGRAM, '--engine', 'simd', '--out', out, '--log-every', '1', ...flags],
    ],
    { LOCKSTEP_TOKEN: TOKEN },
  );
  return { out, program };
}

const workersOf = (name: string) =>
  processesWith(`${MAIN} worker - --name ${name} `).filter(({ commandLine }) =>
    commandLine.startsWith(process.execPath),
  );
const gone = (name: string) =>
  vi.waitUntil(() => workersOf(name).length === 0, { timeout: 40_000, interval: 50 });

describe.skipIf(reason !== null)('launch', () => {
  test('trains on the hosts of the file, to the same weights, and shows the secret to nobody', async () => {
    const flags = ['--dataset', await smallMnist(), '--epochs', '8'];
    const alone = join(await temporaryDirectory(), 'run');
    expect((await lockstep(['train', '--workers', '1', '--out', alone, ...flags])).code).toBe(0);

    const { out, program } = await launch(
      '127.0.0.1 # the first\n\nlocalhost workers=2\n',
      ...['--min-workers', '3', ...flags],
    );
    await program.said(/epoch 2/);
    expect(workersOf('localhost-1')).toHaveLength(1);
    expect(processesWith(TOKEN)).toEqual([]);
    const { code, stderr } = await program.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { weightsSha256, workers } = await resultOf(out);
    expect(weightsSha256).toBe((await resultOf(alone)).weightsSha256);
    expect(workers.map(({ name }) => name).sort()).toEqual([
      '127.0.0.1',
      'localhost-0',
      'localhost-1',
    ]);
    for (const name of ['127.0.0.1', 'localhost-0', 'localhost-1']) await gone(name);
  });

  test.each(['SIGINT', 'SIGKILL'] as const)(
    'leaves no worker anywhere after %s',
    async (signal) => {
      const { program } = await launch(
        'localhost workers=2',
        ...['--dataset', await smallMnist(), '--epochs', '100000', '--min-workers', '2'],
      );
      await program.said(/epoch +2\//);
      expect(workersOf('localhost-0')).toHaveLength(1);
      program.kill(signal);
      const ended = await program.ended;
      if (signal === 'SIGINT') {
        expect(ended.code).toBe(130);
        expect(ended.stdout).toMatch(/To go on: npx lockstep launch \S+hosts.txt .*--resume /);
      }
      await gone('localhost-0');
      await gone('localhost-1');
    },
  );

  test('reports a lost host, starts its worker again, and the weights are the same', async () => {
    const flags = ['--dataset', await smallMnist(), '--epochs', '60'];
    const alone = join(await temporaryDirectory(), 'run');
    const whole = await lockstep(['train', '--workers', '1', '--out', alone, ...flags]);
    expect(whole.code).toBe(0);

    const { out, program } = await launch('127.0.0.1', ...flags);
    await program.said(/epoch +2\//);
    const [worker] = workersOf('127.0.0.1');
    const [connection] = processesWith('-T -- 127.0.0.1 ');
    process.kill(connection.pid, 'SIGKILL');
    await program.said(
      /Lost 127\.0\.0\.1: ssh ended by SIGKILL; starting 127\.0\.0\.1 again in 1 s/,
    );
    const { code, stderr } = await program.ended;
    expect(code, stderr).toBe(0);
    expect((await resultOf(out)).weightsSha256).toBe((await resultOf(alone)).weightsSha256);
    expect(workersOf('127.0.0.1').filter(({ pid }) => pid === worker.pid)).toEqual([]);
  });

  test('gives up, and says why, where there is no lockstep', async () => {
    const { program } = await launch('localhost', '--program', 'no-such-program');
    const { code, stdout, stderr } = await program.ended;
    expect(code).toBe(1);
    expect(stdout).toMatch(
      /error: Cannot run a worker on localhost: "no-such-program" ended with code 127/,
    );
    expect(stderr).toMatch(/^lockstep: Cannot keep any worker running/m);
  });
});

test('a worker that reads its URL from stdin refuses one that is none', async () => {
  const { code, stderr } = await lockstep(['worker', '-']);
  expect(code).toBe(1);
  expect(stderr).toBe(
    'lockstep: Cannot join: expected the URL of a run as the first line of stdin\n',
  );
});

/** Relays as their users run them: a coordinator, relays, workers behind them, some of which are killed. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { formatJoinLine, parseJoinLine } from '../../src/shared/join-line.js';
import { MARK, marked } from '../support/descendants.js';
import { freePort, lockstep, resultOf, smallMnist, start } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const RUN = ['--batch-size', '64', '--micro-batch', '4', '--epochs', '16', '--no-progress'];

async function hashAlone(data: string): Promise<string> {
  const out = join(await temporaryDirectory(), 'alone');
  const args = ['train', '--workers', '1', '--dataset', data, '--out', out, '--port', '0', ...RUN];
  expect(await lockstep(args)).toMatchObject({ code: 0 });
  return (await resultOf(out)).weightsSha256;
}

describe('lockstep relay', () => {
  it('gives the bits of one worker, relay behind relay, while a worker and a relay are killed', async () => {
    const data = await smallMnist();
    const wanted = await hashAlone(data);
    const out = join(await temporaryDirectory(), 'run');
    const [port, first, second, below] = await Promise.all(Array.from({ length: 4 }, freePort));
    const url = (to: number) => `ws://127.0.0.1:${to}`;
    const where = (on: number) => ['--port', String(on)];
    // Training begins once all have joined.
    const two = ['--min-workers', '2'];
    const coordinator = start([
      ...['coordinator', '--dataset', data, '--out', out, ...where(port), ...RUN],
      ...[...two, '--log-every', '5', '--verify-ledger', '--audit', '0.05'],
    ]);
    const relays = [
      start(['relay', url(port), ...where(first), '--name', 'left', ...two]),
      start(['relay', url(port), ...where(second), '--name', 'right', ...two]),
      start(['relay', url(second), ...where(below), '--name', 'below', ...two]),
    ];
    const workers = [first, first, second, below, below].map((to, index) =>
      start(['worker', url(to), '--engine', 'simd', '--name', `w${index}`]),
    );
    await coordinator.said(/step \S*[1-9]\d*\b[^\n]*images\/s/);
    workers[3].kill('SIGKILL');
    await relays[2].said(/w3 \(\w+\) lost/);
    relays[0].kill('SIGKILL');
    await coordinator.said(/left \(\w+\) lost/);
    expect(await coordinator.ended).toMatchObject({ code: 0 });
    const result = await resultOf(out);
    expect(result.weightsSha256).toBe(wanted);
    expect(result.reproducible).toBe(true);
    // The workers of the relay that was killed have gone to the coordinator by themselves.
    const names = result.workers.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['left', 'right', 'w0', 'w1']));
    for (const left of [relays[1], relays[2], workers[0], workers[1], workers[2], workers[4]]) {
      expect(await left.ended).toMatchObject({ code: 0 });
    }
  });

  it('says what it is to doctor and ctl', async () => {
    const [port, at] = await Promise.all([freePort(), freePort()]);
    const out = join(await temporaryDirectory(), 'run');
    const coordinator = start([
      ...['coordinator', '--dataset', await smallMnist(), '--out', out, '--port', `${port}`],
    ]);
    const relay = start(['relay', `ws://127.0.0.1:${port}`, '--port', `${at}`, '--name', 'left']);
    const url = `ws://127.0.0.1:${at}`;
    await relay.said(new RegExp(url));
    const { code, stdout } = await lockstep(['doctor', url]);
    expect(stdout).toMatch(/✗ token +This is a relay: ask the coordinator behind it/);
    expect(code).toBe(1);
    expect(await lockstep(['ctl', url, 'pause'])).toMatchObject({
      code: 1,
      stderr: 'lockstep: Cannot pause: This is a relay: ask the coordinator behind it\n',
    });
    relay.kill('SIGTERM');
    expect((await relay.ended).code).toBe(0);
    coordinator.kill('SIGTERM');
    await coordinator.ended;
  });

  it('speaks TLS off loopback, with a key and a join line of its own and the token of the run', async () => {
    const data = await smallMnist();
    const wanted = await hashAlone(data);
    const folder = await temporaryDirectory();
    const [out, kept] = [join(folder, 'run'), join(folder, 'relay')];
    const open = ['--host', '0.0.0.0', '--port', '0'];
    const coordinator = start([
      ...['coordinator', ...open, '--dataset', data, '--out', out, ...RUN, '--log-every', '1'],
    ]);
    await coordinator.said(/The whole line, with the token, is in/);
    const above = await lineIn(out);
    // Its own worker joins over TLS, too.
    const relay = start([
      ...['relay', above, ...open, '--out', kept, '--name', 'rack', '--workers', '1'],
      ...['--min-workers', '2'],
    ]);
    await relay.said(/Relay for \S+ on port/);
    const line = await lineIn(kept);
    const [own, parent] = [parseJoinLine(line), parseJoinLine(above)];
    expect(own.url).toMatch(/^wss:/);
    expect(own.token).toBe(parent.token);
    expect(own.pin).not.toBe(parent.pin);
    for (const file of ['tls-key.pem', 'join']) {
      expect([file, (await stat(join(kept, file))).mode & 0o777]).toEqual([file, 0o600]);
    }

    const strangers = [
      [formatJoinLine({ ...own, pin: parent.pin }), /does not have the key named in the join line/],
      [formatJoinLine({ ...own, token: null }), /token is missing or wrong/],
    ] as const;
    for (const [stranger, message] of strangers) {
      const { code, stderr } = await lockstep(['worker', stranger, '--engine', 'simd']);
      expect(code).not.toBe(0);
      expect(stderr).toMatch(message);
    }

    const worker = start(['worker', line, '--engine', 'simd', '--name', 'inside']);
    await coordinator.said(/step [^\n]*images\/s/);
    relay.kill('SIGKILL');
    // By the alternate that the relay named, over TLS as well.
    await coordinator.said(/inside \(\w+\) joined|inside joined/);
    expect(await worker.ended).toMatchObject({ code: 0 });
    const { code, stdout, stderr } = await coordinator.ended;
    expect(code).toBe(0);
    expect((await resultOf(out)).weightsSha256).toBe(wanted);
    const { stdout: said, stderr: warned } = await relay.ended;
    expect(stdout + stderr + said + warned).not.toContain(own.token!);
  });

  it('has workers of its own, whom the coordinator counts and who go with it', async () => {
    const out = join(await temporaryDirectory(), 'run');
    const port = await freePort();
    const coordinator = start([
      ...['coordinator', '--dataset', await smallMnist(), '--out', out, '--port', String(port)],
      ...['--epochs', '10000', '--no-progress', '--quiet'],
    ]);
    const mark = out;
    const relay = start(
      [
        ...['relay', `ws://127.0.0.1:${port}`, '--port', '0', '--name', 'rack'],
        ...['--workers', '2', '--min-workers', '2'],
      ],
      { [MARK]: mark },
    );
    await relay.said(/worker-\d \(\w+\) joined[^\n]*; 2 here/);
    const told = async (path: string) => {
      const signal = AbortSignal.timeout(5_000);
      return (await fetch(`http://127.0.0.1:${port}${path}`, { signal })).text();
    };
    const wait = { timeout: 30_000, interval: 100 };
    await vi.waitFor(async () => {
      expect(await told('/metrics')).toMatch(/^lockstep_worker_behind_relay\{.*"rack".*\} 2$/m);
      expect(await told('/api/history')).toContain('relay of 2');
    }, wait);
    expect(marked(mark)).toHaveLength(3);
    relay.kill('SIGTERM');
    // As a worker that leaves.
    expect(await relay.ended).toMatchObject({ code: 0 });
    expect(marked(mark)).toEqual([]);
    coordinator.kill('SIGTERM');
    expect(await coordinator.ended).toMatchObject({ code: 143 });
  });
});

/** The join line that somebody keeps, for a worker on this machine. */
async function lineIn(out: string): Promise<string> {
  const line = (await readFile(join(out, 'join'), 'utf8')).trim();
  return line.replace(/\/\/.*:/, '//127.0.0.1:');
}

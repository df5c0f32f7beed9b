/** `lockstep doctor URL`: whether a machine can join a run, with the program itself. */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { lockstep, smallMnist, start } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const CHECKS = ['DNS', 'TCP', 'TLS', 'token', 'version', 'WebSocket', 'round trip', 'clock'];

interface Report {
  readonly isOk: boolean;
  readonly checks: readonly {
    readonly check: string;
    readonly isOk: boolean;
    readonly detail: string;
    readonly figures?: Readonly<Record<string, number>>;
  }[];
}

async function startCoordinator(...flags: string[]) {
  const out = join(await temporaryDirectory(), 'run');
  const dataset = await smallMnist(320, 100);
  const coordinator = start(['coordinator', ...flags, '--out', out, '--dataset', dataset]);
  return { out, coordinator };
}

test('a coordinator with TLS and a token: every check, with its figures, and none for who has no right', async () => {
  const { out, coordinator } = await startCoordinator('--host', '0.0.0.0', '--port', '0');
  await coordinator.said(/The whole line, with the token, is in/);
  const line = (await readFile(join(out, 'join'), 'utf8')).trim();
  const local = line.replace(/\/\/.*:/, '//localhost:');

  const { code, stdout } = await lockstep(['doctor', local, '--json']);
  const report = JSON.parse(stdout) as Report;
  expect(report.checks.filter(({ isOk }) => !isOk)).toEqual([]);
  expect(report.checks.map(({ check }) => check)).toEqual([...CHECKS, 'bandwidth', 'speed']);
  expect(code).toBe(0);
  const figures = Object.assign({}, ...report.checks.map((check) => check.figures)) as Record<
    string,
    number
  >;
  // Of this machine's own loopback, whatever else it does.
  expect(Math.abs(figures.offsetMs)).toBeLessThan(1000);
  expect(figures.downBytesPerSecond).toBeGreaterThan(1e6);
  expect(figures.upBytesPerSecond).toBeGreaterThan(1e6);
  expect(figures.imagesPerSecond).toBeGreaterThan(0);
  expect(figures.imagesPerSecond).toBeLessThan(figures.engineImagesPerSecond);

  const [url, secret] = local.split('#');
  const [token, pin] = secret.split('.');
  const strangers = [
    [`${url}#${'A'.repeat(20)}.${pin}`, 'token', /missing or wrong/],
    [`${url}#.${pin}`, 'token', /missing or wrong/],
    [`${url}#${token}.${'A'.repeat(43)}`, 'TLS', /not the one named in the join line/],
    [url, 'TLS', /certificate is not accepted/],
    [url.replace('wss', 'ws'), 'token', /HTTP 400|no coordinator/],
  ] as const;
  for (const [stranger, failing, why] of strangers) {
    const ending = await lockstep(['doctor', stranger]);
    expect(ending.code).toBe(1);
    const last = ending.stdout.trim().split('\n').at(-1)!;
    expect(last.startsWith(`✗ ${failing}`), last).toBe(true);
    expect(last).toMatch(why);
    expect(ending.stdout).not.toContain(token);
  }
  coordinator.kill('SIGTERM');
  const { stdout: said } = await coordinator.ended;
  // It was no worker, and its connection no loss.
  expect(said).not.toMatch(/joined|lost/);
});

test('says what is there instead of a coordinator', async () => {
  const server = createServer((_request, response) => void response.end('a web site'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const cases = [
    [`ws://127.0.0.1:${port}`, /✗ token +The server \(HTTP 200\) is not a coordinator/],
    [`wss://127.0.0.1:${port}#.${'A'.repeat(43)}`, /✗ TLS +No TLS there/],
    ['ws://127.0.0.1:1', /✗ TCP +No connection .*nothing listens there/],
    ['ws://nowhere.invalid:7700', /✗ DNS +nowhere\.invalid has no address/],
  ] as const;
  for (const [url, why] of cases) {
    const { code, stdout } = await lockstep(['doctor', url]);
    expect(stdout).toMatch(why);
    expect(code).toBe(1);
  }
});

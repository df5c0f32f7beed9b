/** Who gets in off loopback, with the program itself. */
import { chmod, readFile, readdir, stat } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { get } from 'node:https';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseJoinLine } from '../../src/shared/join-line.js';
import { lockstep, resultOf, smallMnist, start, type Program } from '../support/lockstep.js';
import { processesWith } from '../support/processes.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const OPEN = ['--host', '0.0.0.0', '--port', '0'];

async function run(...flags: string[]) {
  const out = join(await temporaryDirectory(), 'run');
  const coordinator = start(['coordinator', ...OPEN, '--out', out, '--epochs', '1', ...flags]);
  return { out, coordinator };
}

/** What is in the run's file, for a worker on this machine. */
async function lineOf(out: string, coordinator: Program): Promise<string> {
  await coordinator.said(/The whole line, with the token, is in/);
  const line = (await readFile(join(out, 'join'), 'utf8')).trim();
  return line.replace(/\/\/.*:/, '//127.0.0.1:');
}

/** Over whatever TLS the coordinator speaks. */
function ask(url: string, headers: Record<string, string> = {}) {
  return new Promise<{ status: number; headers: IncomingMessage['headers']; body: string }>(
    (resolve, reject) => {
      get(url, { headers, agent: false, rejectUnauthorized: false }, (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
        response.once('end', () =>
          resolve({ status: response.statusCode!, headers: response.headers, body }),
        );
      }).once('error', reject);
    },
  );
}

const modeOf = async (path: string) => (await stat(path)).mode & 0o777;

test('off loopback a run has a token and TLS, and keeps both to itself, across a resume', async () => {
  const dataset = await smallMnist();
  const { out, coordinator } = await run('--dataset', dataset);
  const line = await lineOf(out, coordinator);
  const { token, pin, url } = parseJoinLine(line);
  expect(url).toMatch(/^wss:/);
  expect(token).toMatch(/^[\w-]{22}$/);
  await coordinator.said(/Live page: https:/);
  for (const file of ['token', 'tls-key.pem', 'join', 'worker-key']) {
    expect([file, await modeOf(join(out, file))]).toEqual([file, 0o600]);
  }
  coordinator.kill('SIGTERM');
  expect((await coordinator.ended).code).toBe(143);

  await chmod(join(out, 'tls-key.pem'), 0o644);
  const again = start(['coordinator', ...OPEN, '--resume', out]);
  const resumed = parseJoinLine(await lineOf(out, again));
  expect(resumed).toMatchObject({ token, pin });
  expect(await modeOf(join(out, 'tls-key.pem'))).toBe(0o600);

  const strangers = [
    [resumed.url, /not trusted \(self-signed certificate\)/],
    [`${resumed.url}#${token}.${'A'.repeat(43)}`, /does not have the key named in the join line/],
    [`${resumed.url}#.${pin}`, /token is missing or wrong/],
    [`${resumed.url}#abracadabra-abracadabra.${pin}`, /token is missing or wrong/],
    [`${resumed.url}#${token}.${pin!.slice(1)}`, /paste the whole line/],
  ] as const;
  for (const [join, message] of strangers) {
    const { code, stderr } = await lockstep(['worker', join, '--engine', 'simd']);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain(token!);
  }

  const worker = await lockstep(['worker', `@${join(out, 'join')}`, '--engine', 'simd']);
  expect(worker.code).toBe(0);
  const { code, stdout, stderr } = await again.ended;
  expect(code).toBe(0);
  expect((await resultOf(out)).outcome).toBe('finished');
  // Neither in what is shown where no terminal is, nor in any file that others read.
  expect(stdout + stderr + worker.stdout + worker.stderr).not.toContain(token!);
  for (const file of await readdir(out, { recursive: true, withFileTypes: true })) {
    const path = join(file.parentPath, file.name);
    if (!file.isFile() || (await modeOf(path)) === 0o600) continue;
    expect([path, (await readFile(path)).includes(token!)]).toEqual([path, false]);
  }
});

test('off loopback nobody looks without a token, which the run keeps to itself, across a resume', async () => {
  const { out, coordinator } = await run('--dataset', await smallMnist());
  await lineOf(out, coordinator);
  await coordinator.said(/link that opens it, with the looking token, is in/);
  const link = new URL((await readFile(join(out, 'page'), 'utf8')).trim());
  const lookToken = link.searchParams.get('look')!;
  expect(await readFile(join(out, 'look-token'), 'utf8')).toBe(lookToken);
  for (const file of ['look-token', 'page']) expect(await modeOf(join(out, file))).toBe(0o600);
  const url = (path: string) => new URL(path, link).href;

  expect((await ask(url('/healthz'))).body).toBe('ok\n');
  for (const path of ['/', '/page.js', '/metrics', '/api/history', '/api/events', '/nothing']) {
    expect([path, (await ask(url(path))).status]).toEqual([path, 401]);
  }
  const { status, headers } = await ask(link.href);
  expect([status, headers.location]).toEqual([303, './']);
  const cookie = headers['set-cookie']![0];
  expect(cookie).toMatch(/; HttpOnly; SameSite=Strict; Secure$/);
  expect(cookie).not.toContain(lookToken);
  const Cookie = cookie.split(';')[0];
  expect((await ask(url('/'), { Cookie })).body).toContain('<html');
  const token = await readFile(join(out, 'token'), 'utf8');
  for (const right of [lookToken, token]) {
    const { body } = await ask(url('/metrics'), { Authorization: `Bearer ${right}` });
    expect(body).toContain('lockstep_workers 0');
  }
  const rebound = { Host: 'rebound.evil.example', Authorization: `Bearer ${lookToken}` };
  expect((await ask(url('/metrics'), rebound)).status).toBe(421);
  // Looking is not joining.
  const { url: socketUrl, pin } = parseJoinLine(await readFile(join(out, 'join'), 'utf8'));
  const line = `${socketUrl}#${lookToken}.${pin}`;
  const { stderr } = await lockstep(['worker', line, '--engine', 'simd']);
  expect(stderr).toMatch(/token is missing or wrong/);

  coordinator.kill('SIGTERM');
  const { stdout } = await coordinator.ended;
  expect(stdout).not.toContain(lookToken);
  for (const file of await readdir(out, { recursive: true, withFileTypes: true })) {
    const path = join(file.parentPath, file.name);
    if (!file.isFile() || (await modeOf(path)) === 0o600) continue;
    expect([path, (await readFile(path)).includes(lookToken)]).toEqual([path, false]);
  }
  const again = start(['coordinator', ...OPEN, '--resume', out]);
  await lineOf(out, again);
  const resumed = new URL((await readFile(join(out, 'page'), 'utf8')).trim());
  expect(resumed.searchParams.get('look')).toBe(lookToken);
  // An open page goes on.
  expect((await ask(new URL('/', resumed).href, { Cookie })).status).toBe(200);
  again.kill('SIGTERM');
  await again.ended;
});

test('local workers join with TLS, and no list of processes shows the token', async () => {
  const out = join(await temporaryDirectory(), 'run');
  const flags = ['--dataset', await smallMnist(), '--epochs', '30', '--workers', '2'];
  const program = start(['train', ...OPEN, '--out', out, ...flags]);
  await program.said(/epoch +2\//);
  const token = await readFile(join(out, 'token'), 'utf8');
  expect(processesWith('worker wss://127.0.0.1:').length).toBeGreaterThanOrEqual(2);
  expect(processesWith(token)).toEqual([]);
  program.kill('SIGTERM');
  await program.ended;
});

test.each([
  [['--token', 'secret'], /a token of 6 characters: give one of at least 16/],
  [['--insecure', '--token', 'secret'], /a token of 6 characters/],
  [['--look-token', 'secret'], /a token of 6 characters/],
  [
    ['--token', 'a'.repeat(16), '--look-token', 'a'.repeat(16)],
    /the same token for joining and looking/,
  ],
  [['--tls-cert', 'x.pem'], /only one of --tls-cert and --tls-key/],
  [['--tls-cert', '/nowhere/x', '--tls-key', '/nowhere/y'], /Cannot read the certificate/],
  [['--insecure', '--tls-cert', 'x', '--tls-key', 'y'], /both --insecure and --tls-cert/],
  [['--token-file', '/nowhere/token'], /Cannot read the token from \/nowhere\/token/],
  [['--token-file', '/dev/null'], /it is empty/],
  [['--token-file', 'x', '--token', 'y'], /both --token and --token-file/],
])('coordinator %j is refused', async (flags, message) => {
  const out = join(await temporaryDirectory(), 'run');
  const dataset = await smallMnist(100, 100);
  const args = ['coordinator', ...OPEN, '--out', out, '--dataset', dataset, ...flags];
  const { code, stderr } = await lockstep(args);
  expect(code).toBeGreaterThan(0);
  expect(stderr).toMatch(message);
});

test('--insecure speaks no TLS, makes no token, and warns', async () => {
  const { out, coordinator } = await run('--insecure', '--dataset', await smallMnist());
  await coordinator.said(/warn: --insecure: anyone on the network can read and change/);
  const [, port] = await coordinator.said(/npx lockstep worker ws:\/\/[\d.]+:(\d+)$/m);
  const worker = await lockstep(['worker', `ws://127.0.0.1:${port}`, '--engine', 'simd']);
  expect(worker.code).toBe(0);
  expect((await coordinator.ended).code).toBe(0);
  expect(await readdir(out)).not.toContain('token');
});

test('on loopback there is neither, nor a file of them', async () => {
  const { out, coordinator } = await run('--host', '127.0.0.1', '--dataset', await smallMnist());
  await coordinator.said(/Live page: http:\/\/127/);
  await coordinator.said(/npx lockstep worker ws:\/\/127\.0\.0\.1:\d+$/m);
  const files = await readdir(out);
  for (const file of ['token', 'look-token', 'page', 'tls-key.pem', 'tls-cert.pem']) {
    expect(files).not.toContain(file);
  }
});

test('a certificate of its own wants no pin: workers trust its authority', async () => {
  const { out: issuer, coordinator: first } = await run('--dataset', await smallMnist());
  await lineOf(issuer, first);
  first.kill('SIGTERM');
  await first.ended;
  const [cert, key, token] = ['tls-cert.pem', 'tls-key.pem', 'token'].map((file) =>
    join(issuer, file),
  );
  const { out, coordinator } = await run(
    ...[
      '--tls-cert',
      cert,
      '--tls-key',
      key,
      '--token-file',
      token,
      '--dataset',
      await smallMnist(),
    ],
  );
  const line = parseJoinLine(await lineOf(out, coordinator));
  expect(line.pin).toBeNull();
  const args = ['worker', line.url, '--token-file', token, '--engine', 'simd'];
  expect((await lockstep(args)).stderr).toMatch(/not trusted/);
  expect((await lockstep(args, { NODE_EXTRA_CA_CERTS: cert })).code).toBe(0);
  expect((await coordinator.ended).code).toBe(0);
});

test('whatever a run keeps goes with it when it is removed', async () => {
  const runs = await temporaryDirectory();
  const out = join(runs, 'run');
  const train = ['train', '--workers', '1', '--port', '0', '--out', out, '--resume'];
  const dataset = ['--dataset', await smallMnist(100, 50)];
  await lockstep([...train, ...dataset, '--epochs', '1', '--trace', '--host', '0.0.0.0']);
  const token = ['--token', 'abracadabra-abracadabra'];
  await lockstep([...train, '--epochs', '2', '--trace', '--browser-workers', ...token]);
  expect(await readdir(out)).toEqual(
    expect.arrayContaining(['token', 'look-token', 'tls-key.pem', 'join', 'page', 'browser-link']),
  );
  const { stderr } = await lockstep(['runs', runs, '--prune', '--keep-last', '0', '--yes']);
  expect(stderr).toBe('');
  expect(await readdir(runs)).toEqual([]);
});

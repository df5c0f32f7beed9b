/** What people ask of a run while it goes on, with the program itself. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lockstep, resultOf, smallMnist, start } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

async function train(...flags: string[]) {
  const out = join(await temporaryDirectory(), 'run');
  const dataset = await smallMnist();
  const program = start([
    'train',
    '--port',
    '0',
    '--out',
    out,
    '--dataset',
    dataset,
    '--epochs',
    '10000',
    ...flags,
  ]);
  await program.said(/epoch +2\//);
  return { out, program };
}

test('lockstep ctl pauses, saves, resumes, evicts and stops a run, over TLS with its token', async () => {
  const { out, program } = await train('--host', '0.0.0.0', '--workers', '2');
  const ctl = async (...args: string[]) => {
    const { code, stdout, stderr } = await lockstep(['ctl', out, ...args]);
    return `${code} ${stdout}${stderr}`.trim();
  };
  const token = await readFile(join(out, 'token'), 'utf8');
  expect(await ctl('pause')).toBe('0 The run pauses after this step');
  const [, step] = await program.said(/Paused after step ([\d,]+)/);
  await program.said(/The run pauses after this step \(asked for from \S*\d+\.\d+\.\d+\.\d+\)/);
  expect(await ctl('save')).toMatch(/^0 A checkpoint is written/);
  expect(await ctl('evict', 'nobody')).toBe(
    '1 lockstep: Cannot evict: There is no worker "nobody"',
  );
  expect(await ctl('evict', 'worker-2')).toBe('0 The worker "worker-2" sent away');
  await program.said(/worker-2 .*left while waiting: it was sent away/);
  expect(await ctl('resume')).toBe('0 The run resumes');
  await program.said(/The run resumes$/m);

  // Who has the looking token may look.
  const lookToken = await readFile(join(out, 'look-token'), 'utf8');
  expect(await ctl('stop', '--token', lookToken)).toMatch(/^1 .*Cannot stop: The token is wrong/);
  const { stderr, code } = await lockstep(['ctl', 'wss://127.0.0.1:1#x.' + 'A'.repeat(43), 'stop']);
  expect([code, stderr]).toEqual([1, expect.stringMatching(/Cannot reach the run at wss/)]);
  const mistyped = await lockstep(['ctl', 'runs/mistyped', 'stop']);
  expect([mistyped.code, mistyped.stderr]).toEqual([
    2,
    expect.stringMatching(/Cannot find the run runs\/mistyped: there is no such directory/),
  ]);
  expect(await ctl('stop')).toMatch(/^0 The run stops after this step/);
  const { code: ending, stdout } = await program.ended;
  expect(ending).toBe(143);
  expect(stdout).not.toContain(token);
  const { outcome, globalStep } = await resultOf(out);
  expect(outcome).toBe('stopped');
  expect(globalStep).toBeGreaterThanOrEqual(Number(step.replaceAll(',', '')));
});

test('on loopback without a token, whoever is on this machine; but no page of another site', async () => {
  const { out, program } = await train('--workers', '1');
  const line = (await readFile(join(out, 'join'), 'utf8')).trim();
  expect(line).toMatch(/^ws:\/\/127\.0\.0\.1:\d+$/);
  const url = line.replace('ws', 'http');
  const post = async (action: string, headers: Record<string, string>, method = 'POST') =>
    (await fetch(`${url}/api/control/${action}`, { method, headers })).status;
  const control = { 'x-lockstep-control': '1' };
  expect(await post('stop', { ...control, Origin: 'http://evil.example' })).toBe(403);
  expect(await post('stop', { ...control, 'Sec-Fetch-Site': 'cross-site' })).toBe(403);
  expect(await post('stop', {})).toBe(403);
  expect(await post('stop', control, 'PUT')).toBe(405);
  expect(await post('destroy', control)).toBe(404);
  expect(await post('pause', { ...control, Origin: url })).toBe(200);
  await program.said(/Paused after step/);
  const { stdout } = await lockstep(['ctl', out, 'stop']);
  expect(stdout).toMatch(/stops after this step/);
  expect((await program.ended).code).toBe(143);

  // Another run where the first one was: it is not meant.
  const other = await train('--workers', '1', '--port', new URL(url).port);
  expect(await lockstep(['ctl', out, 'stop'])).toMatchObject({
    code: 1,
    stderr: `lockstep: Cannot control ${out}: no coordinator is at work in it\n`,
  });
  expect((await lockstep(['ctl', other.out, 'stop'])).code).toBe(0);
  expect((await other.program.ended).code).toBe(143);
});

test.each([
  [['explode'], /Cannot ask for "explode": expected stop, pause, resume, save or evict/],
  [['evict'], /Cannot evict: name a worker/],
  [['stop', 'bert'], /Cannot stop a worker/],
  [['pause'], /Cannot find where .* is served: ENOENT/],
])('lockstep ctl RUN %j is refused', async (args, message) => {
  const { code, stderr } = await lockstep(['ctl', await temporaryDirectory(), ...args]);
  expect(code).toBeGreaterThan(0);
  expect(stderr).toMatch(message);
});

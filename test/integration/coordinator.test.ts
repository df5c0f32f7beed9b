/** Coordinator and workers apart, each a process. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import {
  freePort,
  isFree,
  lockstep,
  resultOf,
  smallMnist,
  start,
  startProgram,
} from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const LYING_WORKER = fileURLToPath(new URL('../support/lying-worker.mjs', import.meta.url));

const runPath = async () => join(await temporaryDirectory(), 'run');
const workerOf = (port: number, ...flags: string[]) =>
  start(['worker', `ws://127.0.0.1:${port}`, '--engine', 'simd', ...flags]);

describe('coordinator and worker', () => {
  test('a worker waits for its coordinator, works under its name, and ends with it', async () => {
    const port = await freePort();
    const worker = workerOf(port, '--name', 'anna');
    await worker.said(/Cannot reach the coordinator/);
    const out = await runPath();
    const coordinator = start([
      ...['coordinator', '--port', String(port), '--out', out],
      ...['--dataset', await smallMnist(), '--epochs', '2'],
    ]);
    await coordinator.said(new RegExp(`npx lockstep worker ws://127.0.0.1:${port}`));
    expect(await coordinator.ended).toMatchObject({ code: 0, stderr: '' });
    const { code, stdout } = await worker.ended;
    expect(code).toBe(0);
    expect(stdout).toContain('The run is over');
    expect((await resultOf(out)).workers).toMatchObject([{ name: 'anna', numImages: 2000 }]);
    expect(await isFree(port)).toBe(true);
  });

  test('takes the right token alone, and never prints it', async () => {
    const out = await runPath();
    const coordinator = start([
      ...['coordinator', '--port', '0', '--out', out, '--token', 'open-sesame'],
      ...['--dataset', await smallMnist(100, 50), '--epochs', '1'],
    ]);
    const port = Number((await coordinator.said(/ws:\/\/127\.0\.0\.1:(\d+)/))[1]);
    const wrong = await workerOf(port, '--token', 'abracadabra').ended;
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toMatch(/^lockstep: Refused by the coordinator: [^\n]*token[^\n]*\n$/);
    const right = await workerOf(port, '--token', 'open-sesame').ended;
    expect(right.code).toBe(0);
    const { code, stdout } = await coordinator.ended;
    expect(code).toBe(0);
    expect(stdout).not.toMatch(/open-sesame|abracadabra/);
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('both end within 2 s of %s', async (signal) => {
    const out = await runPath();
    const coordinator = start([
      ...['coordinator', '--port', '0', '--out', out, '--dataset', await smallMnist()],
      ...['--epochs', '100000', '--log-every', '1'],
    ]);
    const port = Number((await coordinator.said(/ws:\/\/127\.0\.0\.1:(\d+)/))[1]);
    const [staying, leaving] = [workerOf(port, '--name', 'a'), workerOf(port, '--name', 'b')];
    await coordinator.said(/images\/s +2 workers/);

    leaving.kill(signal);
    const left = await leaving.ended;
    expect(left).toMatchObject({ code: 0, signal: null });
    expect(left.lastedMs).toBeLessThan(2000);
    await coordinator.said(/b \(\w+\) left/);

    coordinator.kill(signal);
    const ended = await coordinator.ended;
    expect(ended).toMatchObject({ code: signal === 'SIGINT' ? 130 : 143, signal: null });
    expect(ended.lastedMs).toBeLessThan(2000);
    expect(ended.stdout).toMatch(
      new RegExp(`npx lockstep coordinator .*--port ${port} --resume ${out}\n`),
    );
    expect(await isFree(port)).toBe(true);
    staying.kill(signal);
    expect(await staying.ended).toMatchObject({ code: 0 });
  });

  test('with --audit 1 a worker with wrong bits is named and shut out, and none of them count', async () => {
    const flags = ['--dataset', await smallMnist(), '--epochs', '4', '--batch-size', '64'];
    const [honest, audited] = [await runPath(), await runPath()];
    await lockstep(['train', '--workers', '1', '--out', honest, ...flags]);

    const coordinator = start([
      ...['coordinator', '--port', '0', '--out', audited, '--audit', '1', '--min-workers', '2'],
      ...flags,
    ]);
    const port = Number((await coordinator.said(/ws:\/\/127\.0\.0\.1:(\d+)/))[1]);
    const liar = startProgram(LYING_WORKER, [`ws://127.0.0.1:${port}`]);
    await liar.said(/Joined run/);
    const first = workerOf(port);
    await coordinator.said(/liar \(\w+\) lost .*has not the bits of engine simd\/1/);
    const second = workerOf(port);
    const { code } = await coordinator.ended;
    expect(code).toBe(0);
    expect(await liar.ended).toMatchObject({
      stdout: expect.stringContaining('refused') as string,
    });
    expect((await first.ended).code).toBe(0);
    expect((await second.ended).code).toBe(0);
    expect((await resultOf(audited)).weightsSha256).toBe((await resultOf(honest)).weightsSha256);
  });
});

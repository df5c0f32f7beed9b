/** How a run ends that is told to, by one signal or several, to one process or a group. */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import { describe, expect, onTestFinished, test } from 'vitest';
import { MARK, marked } from '../support/descendants.js';
import { resultOf, smallMnist, start } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

async function startEndless(...flags: string[]) {
  const out = join(await temporaryDirectory(), 'run');
  const mark = randomUUID();
  const program = start(
    [
      ...['train', '--dataset', await smallMnist(), '--out', out, '--workers', '2', '--port', '0'],
      ...['--epochs', '100000', '--checkpoint-every', '1000000', '--log-every', '1', ...flags],
    ],
    { [MARK]: mark },
    // A process group of its own, as a shell, npm or systemd makes it.
    ['setsid'],
  );
  onTestFinished(() => marked(mark).forEach((pid) => process.kill(pid, 'SIGKILL')));
  return { out, mark, program };
}

/** Expects the state after the last step on disk, and nothing of the processes. */
async function expectCleanStop(out: string, mark: string): Promise<void> {
  expect(marked(mark)).toEqual([]);
  const files = await readdir(out, { recursive: true });
  expect(files.filter((file) => /partial|lock/.test(file))).toEqual([]);
  const { outcome, globalStep } = await resultOf(out);
  expect(outcome).toBe('stopped');
  expect(files).toContain(`checkpoints/step-${String(globalStep).padStart(8, '0')}.safetensors`);
  const lines = (await readFile(join(out, 'metrics.jsonl'), 'utf8')).trim().split('\n');
  const steps = lines.filter((line) => line.includes('"type":"step"'));
  expect(steps).toHaveLength(globalStep);
}

describe('a run that is told to stop', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)(
    'takes a repeat of %s to its whole group for the same request',
    async (signal, code) => {
      const { out, mark, program } = await startEndless();
      await program.said(/step +20\//);
      for (const afterMs of [0, 5, 50, 300]) {
        setTimeout(() => {
          try {
            process.kill(-program.pid, signal);
          } catch {
            // All of them are gone already.
          }
        }, afterMs);
      }
      expect(await program.ended).toMatchObject({ code, signal: null, stderr: '' });
      await expectCleanStop(out, mark);
    },
  );

  test('stops as well when its terminal is closed', async () => {
    const { spawn } = await import('@lydell/node-pty');
    const { MAIN } = await import('../support/program.js');
    const out = join(await temporaryDirectory(), 'run');
    const mark = randomUUID();
    const terminal = spawn(
      process.execPath,
      [
        ...[MAIN, 'train', '--dataset', await smallMnist(), '--out', out, '--workers', '2'],
        ...['--epochs', '100000', '--checkpoint-every', '1000000', '--log-every', '1'],
        ...['--port', '0', '--no-progress'],
      ],
      { env: { ...process.env, [MARK]: mark } },
    );
    const exited = new Promise<{ exitCode: number }>((resolve) => terminal.onExit(resolve));
    await new Promise<void>((resolve) => {
      let output = '';
      terminal.onData((text) => {
        output += text;
        if (/step +20\//.test(output)) resolve();
      });
    });
    terminal.kill('SIGHUP');
    expect((await exited).exitCode).toBe(129);
    await expectCleanStop(out, mark);
  });

  test('goes on after SIGHUP where it has no terminal, as under nohup', async () => {
    const { out, program } = await startEndless('--epochs', '30');
    await program.said(/step +5\//);
    process.kill(-program.pid, 'SIGHUP');
    expect((await program.ended).code).toBe(0);
    expect(await resultOf(out)).toMatchObject({ outcome: 'finished' });
  });
});

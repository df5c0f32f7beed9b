/** deploy/slurm/lockstep.sbatch on a real Slurm. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { lockstep, resultOf, smallMnist } from '../support/lockstep.js';
import { processesWith } from '../support/processes.js';
import { MAIN } from '../support/program.js';
import { startSlurm, whyNoSlurm, type Slurm } from '../support/slurm.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TOKEN = 'a-secret-that-no-list-of-processes-shows';
const WITHIN = { timeout: 120_000, interval: 100 };

const reason = whyNoSlurm();
let slurm: Slurm;
beforeAll(async () => {
  if (reason !== null) console.warn(`The job for Slurm is not tested: ${reason}`);
  else slurm = await startSlurm();
});
afterAll(async () => {
  if (reason === null) await slurm.stop();
});

async function submit(flags: readonly string[]) {
  const dir = await temporaryDirectory();
  const [out, output] = [join(dir, 'run'), join(dir, 'output.txt')];
  const jobId = await slurm.run(
    [
      ...['sbatch', '--parsable', `--chdir=${ROOT}`, '--ntasks=2', `--output=${output}`],
      ...[join(ROOT, 'deploy/slurm/lockstep.sbatch'), '--log-every', '1', '--min-workers', '2'],
      ...flags,
    ],
    { LOCKSTEP_TOKEN: TOKEN, LOCKSTEP_OUT: out, LOCKSTEP_MAIN: MAIN },
  );
  const outputSoFar = () => readFile(output, 'utf8').catch(() => '');
  return {
    out,
    jobId,
    outputSoFar,
    said: (pattern: RegExp) =>
      vi
        .waitUntil(async () => pattern.test(await outputSoFar()), WITHIN)
        .catch(async () => {
          throw new Error(`The job never said ${pattern.source}:\n${await outputSoFar()}`);
        }),
    isIn: (state: string) =>
      vi
        .waitUntil(async () => (await slurm.jobField(jobId, 'JobState')) === state, WITHIN)
        .catch(async () => {
          const found = await slurm.jobField(jobId, 'JobState');
          throw new Error(`The job is ${found}, not ${state}:\n${await outputSoFar()}`);
        }),
  };
}

describe.skipIf(reason !== null)('lockstep.sbatch', () => {
  test('goes on after a signal, queued again, to the weights of the undisturbed run', async () => {
    const flags = ['--dataset', await smallMnist(), '--epochs', '60'];
    const alone = join(await temporaryDirectory(), 'run');
    expect((await lockstep(['train', '--workers', '1', '--out', alone, ...flags])).code).toBe(0);

    const job = await submit(flags);
    await job.said(/epoch +2\//);
    expect(processesWith(`${MAIN} worker`).length).toBeGreaterThanOrEqual(2);
    expect(processesWith(TOKEN)).toEqual([]);
    await slurm.run(['scancel', '--signal=TERM', job.jobId]);
    await job.isIn('PENDING');
    await job.isIn('COMPLETED');
    expect(await slurm.jobField(job.jobId, 'Restarts')).toBe('1');
    expect(await job.outputSoFar()).toMatch(/Resuming/);
    const { weightsSha256, workers } = await resultOf(job.out);
    expect(weightsSha256).toBe((await resultOf(alone)).weightsSha256);
    expect(workers.filter(({ numImages }) => numImages > 0).length).toBeGreaterThanOrEqual(2);
  });

  test('does not come back after scancel, and leaves nothing behind', async () => {
    const job = await submit(['--dataset', await smallMnist(), '--epochs', '100000']);
    await job.said(/epoch +2\//);
    await slurm.run(['scancel', job.jobId]);
    await job.isIn('CANCELLED');
    await vi.waitUntil(() => processesWith(job.out).length === 0, WITHIN);
    expect(await slurm.jobField(job.jobId, 'Restarts')).toBe('0');
    expect(await slurm.run(['squeue', '--noheader'])).toBe('');
    expect((await resultOf(job.out)).outcome).toBe('stopped');
  });

  test('fails as the coordinator fails', async () => {
    const job = await submit(['--dataset', '/nowhere']);
    await job.isIn('FAILED');
    expect(await slurm.jobField(job.jobId, 'ExitCode')).toBe('1:0');
    expect(await slurm.jobField(job.jobId, 'Restarts')).toBe('0');
  });
});

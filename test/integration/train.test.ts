/** `lockstep train` with real worker processes: the numeric contract, and what a run says and leaves behind. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  isAlive,
  isFree,
  freePort,
  lockstep,
  resultOf,
  smallMnist,
  start,
} from '../support/lockstep.js';
import { effort } from '../support/effort.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

/** No batch size divides 1,000, no micro-batch its batch. */
const TRAININGS = [
  { name: 'sgd', flags: '--optimizer sgd --lr 0.2 --batch-size 64 --micro-batch 7 --epochs 2' },
  {
    name: 'momentum',
    flags: '--optimizer momentum --lr 0.05 --batch-size 96 --micro-batch 11 --epochs 2',
  },
  {
    name: 'augment',
    flags:
      '--augment shift=3,rotate=20,scale=0.2,flip=0.3,noise=5,cutout=6 --micro-batch 5 --epochs 2',
  },
  { name: 'dropout', flags: '--dropout 0.4 --label-smoothing 0.1 --epochs 2' },
  { name: 'adam', flags: '--optimizer adam --batch-size 130 --micro-batch 16 --epochs 3' },
];

/** Workers, and threads of each; by default the first few. */
const SIZES = (
  [
    [1, 1],
    [3, 2],
    [8, 1],
    [1, 3],
    [3, 2],
  ] as const
).slice(0, effort(5, 2));

describe('train', () => {
  // The golden hashes are renewed with `npx vitest run test/integration/train.test.ts -u`, when bits are meant to change.
  test.each(TRAININGS)(
    'gives the same weights on any number of workers and threads, and again: $name',
    async ({ name, flags }) => {
      const dataset = await smallMnist();
      const hashes: Record<string, string> = {};
      for (const [index, [numWorkers, numThreads]] of SIZES.entries()) {
        const out = join(await temporaryDirectory(), 'run');
        const ended = await lockstep(
          [
            ...['train', '--dataset', dataset, '--out', out, '--verify-ledger'],
            ...['--workers', String(numWorkers), '--min-workers', String(numWorkers)],
            ...flags.split(' '),
          ],
          { LOCKSTEP_THREADS: String(numThreads) },
        );
        expect(ended, ended.stderr).toMatchObject({ code: 0, stderr: '' });
        const result = await resultOf(out);
        expect(result).toMatchObject({ outcome: 'finished', reproducible: true });
        hashes[`${index}: ${numWorkers} × ${numThreads}`] = result.weightsSha256;
      }
      const [golden] = Object.values(hashes);
      expect(Object.values(hashes), JSON.stringify(hashes)).toEqual(
        new Array(Object.keys(hashes).length).fill(golden),
      );
      await expect(`${golden}\n`).toMatchFileSnapshot(`../golden/run-${name}.sha256`);
    },
  );

  test('ends with a hint when it diverges to NaN', async () => {
    const { code, stderr } = await lockstep([
      ...[
        'train',
        '--dataset',
        await smallMnist(),
        '--out',
        join(await temporaryDirectory(), 'run'),
      ],
      ...['--workers', '1', '--epochs', '1', '--optimizer', 'sgd', '--activation', 'relu'],
      ...['--lr', '1000000'],
    ]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/The training diverged at step \d+: .*smaller --lr/);
  });

  test('prints no control characters into a pipe', async () => {
    const dataset = await smallMnist();
    const { code, stdout } = await lockstep([
      ...['train', '--dataset', dataset, '--out', join(await temporaryDirectory(), 'run')],
      ...['--workers', '1', '--epochs', '1', '--log-every', '1'],
    ]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/epoch 1\/1 .*images\/s/);
    expect(stdout).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f]/);
  });

  test('stops as soon as an evaluation reaches --target-accuracy', async () => {
    const out = join(await temporaryDirectory(), 'run');
    const { code, stdout } = await lockstep([
      ...['train', '--dataset', await smallMnist(), '--out', out, '--workers', '1'],
      ...['--epochs', '50', '--target-accuracy', '0.3'],
    ]);
    expect(code).toBe(0);
    expect(stdout).toContain('Target reached');
    const result = await resultOf(out);
    expect(result.outcome).toBe('targetReached');
    expect(result.testAccuracy).toBeGreaterThanOrEqual(0.3);
    expect(result.epochs).toBeLessThan(50);
  });

  test('says once that there are more workers than micro-batches', async () => {
    const { code, stdout } = await lockstep([
      ...['train', '--dataset', await smallMnist(100, 50), '--workers', '3', '--epochs', '2'],
      ...[
        '--batch-size',
        '32',
        '--micro-batch',
        '16',
        '--out',
        join(await temporaryDirectory(), 'run'),
      ],
    ]);
    expect(code).toBe(0);
    expect(
      stdout.match(/3 workers, but a batch has 2 micro-batches: 1 will be idle/g),
    ).toHaveLength(1);
  });

  test('ends within 2 s of Ctrl-C, says how to go on, and leaves nothing behind', async () => {
    const out = join(await temporaryDirectory(), 'run');
    const port = await freePort();
    const program = start([
      ...['train', '--dataset', await smallMnist(), '--out', out, '--workers', '2'],
      ...['--epochs', '100000', '--port', String(port)],
    ]);
    await program.said(/images\/s/);
    program.kill('SIGINT');
    const ended = await program.ended;
    expect(ended).toMatchObject({ code: 130, signal: null });
    expect(ended.lastedMs).toBeLessThan(2000);
    expect(ended.stdout).toMatch(
      new RegExp(`npx lockstep train .*--workers 2 .*--port ${port} --resume ${out}\n`),
    );
    expect(isAlive(program.pid)).toBe(false);
    expect(await isFree(port)).toBe(true);
    const files = await readdir(out, { recursive: true });
    expect(files.filter((file) => /partial|lock/.test(file))).toEqual([]);
    expect(await resultOf(out)).toMatchObject({ outcome: 'stopped' });
  });

  test('serves the page after the run with --keep-serving, until Ctrl-C', async () => {
    const program = start([
      ...['train', '--dataset', await smallMnist(100, 50), '--workers', '1', '--epochs', '1'],
      ...['--out', join(await temporaryDirectory(), 'run'), '--port', '0', '--keep-serving'],
    ]);
    const [, url] = await program.said(/Live page: (http:\S+)/);
    await program.said(/The page is served until Ctrl-C/);
    const page = await fetch(url);
    expect(page.status).toBe(200);
    expect(await page.text()).toContain('<html');
    const history = await fetch(`${url}api/history`);
    expect(await history.json()).toMatchObject({ state: 'finished', globalStep: 2 });
    program.kill('SIGINT');
    const { code, lastedMs } = await program.ended;
    expect(code).toBe(0);
    expect(lastedMs).toBeLessThan(2000);
    await expect(fetch(url)).rejects.toThrow();
  });
});

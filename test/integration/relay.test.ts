/** Relays as their users run them: a coordinator, relays, workers behind them, some of which are killed. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { freePort, lockstep, resultOf, smallMnist, start } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const RUN = ['--batch-size', '64', '--micro-batch', '4', '--epochs', '8', '--no-progress'];

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
    const coordinator = start([
      ...['coordinator', '--dataset', data, '--out', out, ...where(port), ...RUN],
      ...['--min-workers', '2', '--log-every', '5', '--verify-ledger', '--audit', '0.05'],
    ]);
    const relays = [
      start(['relay', url(port), ...where(first), '--name', 'left']),
      start(['relay', url(port), ...where(second), '--name', 'right']),
      start(['relay', url(second), ...where(below), '--name', 'below']),
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
});

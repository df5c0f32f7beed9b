/** A coordinator and a worker in network namespaces of their own, over a link that is slow, lossy, or cut. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lockstep, resultOf, smallMnist, start } from '../support/lockstep.js';
import { NEAR_ADDRESS, createNetwork, whyNoNetwork } from '../support/network/namespaces.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const reason = whyNoNetwork();
if (reason !== null) console.warn(`Links between network namespaces are not tested: ${reason}`);

const PORT = 7700;

/** The weights of a run beside which nothing happens. */
async function undisturbed(flags: readonly string[]): Promise<string> {
  const out = join(await temporaryDirectory(), 'run');
  const { code } = await lockstep(['train', '--workers', '1', '--out', out, ...flags]);
  expect(code).toBe(0);
  return (await resultOf(out)).weightsSha256;
}

const coordinatorArgs = (out: string, flags: readonly string[]) => [
  ...['coordinator', '--host', '0.0.0.0', '--port', String(PORT), '--token', 'secret'],
  ...['--out', out, '--verify-ledger', ...flags],
];
const workerArgs = (host: string, name: string) => [
  ...['worker', `ws://${host}:${PORT}`, '--token', 'secret', '--engine', 'simd', '--name', name],
];

test.skipIf(reason !== null)(
  'a link with 50 ms and 1 % loss each way gives the same weights',
  async () => {
    const flags = ['--dataset', await smallMnist(320, 100), '--epochs', '2'];
    const expected = await undisturbed(flags);
    const network = await createNetwork({ delayMs: 50, loss: 0.01 });
    const out = join(await temporaryDirectory(), 'run');
    const coordinator = start(coordinatorArgs(out, flags), {}, network.near);
    const worker = start(workerArgs(NEAR_ADDRESS, 'far'), {}, network.far);
    expect((await coordinator.ended).code).toBe(0);
    expect((await worker.ended).code).toBe(0);
    const { weightsSha256, workers } = await resultOf(out);
    expect(weightsSha256).toBe(expected);
    expect(workers).toMatchObject([{ name: 'far', numImages: 640 }]);
  },
);

test.skipIf(reason !== null)(
  'a cut cable is noticed, the worker comes back, the weights are the same',
  async () => {
    const flags = ['--dataset', await smallMnist(6000, 100), '--epochs', '2'];
    const expected = await undisturbed(flags);
    const network = await createNetwork({ delayMs: 0, loss: 0 });
    const out = join(await temporaryDirectory(), 'run');
    const coordinator = start(
      [...coordinatorArgs(out, flags), '--log-every', '10'],
      {},
      network.near,
    );
    // Alone, so that the run cannot be over before the silence is noticed.
    const worker = start(workerArgs(NEAR_ADDRESS, 'far'), {}, network.far);
    await coordinator.said(/step +20\//);
    network.setCut(true);
    const [, seconds] = await coordinator.said(/far \(\w+\) lost while .*: silent for (\d\.\d) s/);
    // 3 s at most, as the simulator shows; here the machine may be busy with something else.
    expect(Number(seconds)).toBeLessThanOrEqual(3.5);
    network.setCut(false);
    await coordinator.said(/far is back/);
    const { code, stdout } = await coordinator.ended;
    expect(code).toBe(0);
    expect(stdout.match(/lost while/g)).toHaveLength(1);
    expect((await worker.ended).code).toBe(0);
    expect((await resultOf(out)).weightsSha256).toBe(expected);
  },
);

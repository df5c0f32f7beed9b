/** A coordinator and a worker in network namespaces of their own, over a link that is slow, lossy, or cut. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lockstep, resultOf, smallMnist, start } from '../support/lockstep.js';
import { createNetwork, whyNoNetwork, type Network } from '../support/network/namespaces.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const reason = whyNoNetwork();
if (reason !== null) console.warn(`Links between network namespaces are not tested: ${reason}`);

const PORT = 7700;

/** A coordinator at the near end of a link and a worker at the far end, alone, so that every sum crosses it. */
async function startAcross(network: Network, flags: readonly string[]) {
  const out = join(await temporaryDirectory(), 'run');
  const coordinator = start(
    [
      ...['coordinator', '--host', '0.0.0.0', '--port', String(PORT)],
      ...['--out', out, '--verify-ledger', '--log-every', '10', ...flags],
    ],
    {},
    network.near,
  );
  const worker = start(
    [...['worker', `@${join(out, 'join')}`, '--name', 'far'], ...['--engine', 'simd']],
    {},
    network.far,
  );
  return {
    coordinator,
    /** What the run ends with, once both have ended well. */
    result: async () => {
      expect((await coordinator.ended).code).toBe(0);
      expect((await worker.ended).code).toBe(0);
      return resultOf(out);
    },
  };
}

/** The weights of the same run with no network between. */
async function expectedWeights(flags: readonly string[]): Promise<string> {
  const out = join(await temporaryDirectory(), 'run');
  const { code } = await lockstep(['train', '--workers', '1', '--out', out, ...flags]);
  expect(code).toBe(0);
  return (await resultOf(out)).weightsSha256;
}

test.skipIf(reason !== null)(
  'a link with 50 ms and 1 % loss each way gives the same weights',
  async () => {
    const flags = ['--dataset', await smallMnist(320, 100), '--epochs', '2'];
    const expected = await expectedWeights(flags);
    const { result } = await startAcross(await createNetwork({ delayMs: 50, loss: 0.01 }), flags);
    const { weightsSha256, workers } = await result();
    expect(weightsSha256).toBe(expected);
    expect(workers).toMatchObject([{ name: 'far', numImages: 640 }]);
  },
);

test.skipIf(reason !== null)(
  'a cut cable is noticed, the worker comes back, the weights are the same',
  async () => {
    const flags = ['--dataset', await smallMnist(6000, 100), '--epochs', '2'];
    const expected = await expectedWeights(flags);
    const network = await createNetwork({ delayMs: 0, loss: 0 });
    const { coordinator, result } = await startAcross(network, flags);
    await coordinator.said(/step +20\//);
    network.setCut(true);
    const [, seconds] = await coordinator.said(/far \(\w+\) lost while .*: silent for (\d\.\d) s/);
    // 3 s at most, as the simulator shows; here the machine may be busy with something else.
    expect(Number(seconds)).toBeLessThanOrEqual(3.5);
    network.setCut(false);
    await coordinator.said(/far is back/);
    expect((await result()).weightsSha256).toBe(expected);
    expect((await coordinator.ended).stdout.match(/lost while/g)).toHaveLength(1);
  },
);

import { expect, it } from 'vitest';
import { defaultThreads } from '../../src/cli/worker.js';

it.each([
  ['a thread for each core', 'wss://10.0.0.5:7700', 8, 8],
  ['a core to a coordinator on this machine', 'ws://127.0.0.1:7700', 8, 7],
  ['the same by its own address', 'wss://10.0.0.7:7700', 8, 7],
  ['the same over IPv6', 'ws://[::1]:7700', 8, 7],
  ['a thread in any case', 'ws://localhost:7700', 1, 1],
  ['no more than there may be', 'wss://10.0.0.5:7700', 200, 64],
  ['a thread for each core where it does not know yet', null, 4, 4],
])('leaves, or takes, %s', (_what, url, numCores, numThreads) => {
  expect(defaultThreads(url, numCores, ['anna', '10.0.0.7'])).toBe(numThreads);
});

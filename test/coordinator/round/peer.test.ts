import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import type { Member } from '../../../src/coordinator/group/group.js';
import { Peer } from '../../../src/coordinator/round/peer.js';
import type { SampleSource } from '../../../src/coordinator/samples.js';

it('a Peer that is lost does not hold what was cached: absent workers are remembered by the hundred', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const peer = new Peer({ connection: null } as Member, {} as SampleSource);
  const join = () => {
    const cached = new Uint8Array(250_000);
    peer.joined(cached);
    return new WeakRef(cached);
  };
  const held = join();
  await setImmediate();
  collect();
  expect(held.deref()).toBeDefined();
  peer.lost();
  await setImmediate();
  collect();
  expect(held.deref()).toBeUndefined();
});

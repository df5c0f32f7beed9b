/** A run under attack, in real processes over real sockets; `npm run attack` does it for longer. */
import { expect, test } from 'vitest';
import { runAttack } from '../support/attack/attack.js';
import { smallMnist } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

test('the run does not show that strangers and a meddling network were there', async () => {
  const { violations, weights, types, numFrames } = await runAttack({
    seed: 1,
    durationMs: 8_000,
    flags: ['--dataset', await smallMnist(2_000, 300), '--epochs', '40'],
    folder: await temporaryDirectory(),
    log: () => undefined,
  });
  expect(violations).toEqual([]);
  expect(weights[1]).toBe(weights[0]);
  expect(types).toEqual(
    expect.arrayContaining(['hello', 'ping', 'pong', 'ready', 'samples', 'step', 'welcome']),
  );
  expect(numFrames).toBeGreaterThan(100);
});

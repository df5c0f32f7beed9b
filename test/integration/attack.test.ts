/** A run under attack, in real processes over real sockets; `npm run attack` does it for longer, and judges speed too. */
import { expect, test } from 'vitest';
import { runAttack } from '../support/attack/attack.js';
import { smallMnist } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const MESSAGES = [
  ...['evaluate', 'evaluation', 'finished', 'hello', 'leave', 'partial', 'ping', 'pong'],
  ...['ready', 'refused', 'samples', 'step', 'welcome'],
];

test('the run does not show that strangers and a meddling network were there', async () => {
  const { violations, figures, types, runs } = await runAttack({
    seed: 1,
    durationMs: 8_000,
    dataset: await smallMnist(2_000, 300),
    folder: await temporaryDirectory(),
    log: () => undefined,
  });
  expect(violations).toEqual([]);
  expect(types).toEqual(expect.arrayContaining(MESSAGES));
  expect(runs).toHaveLength(2);
  for (const { weights } of runs) expect(weights[1]).toBe(weights[0]);
  for (const { attack, amount } of figures) expect(amount[0], attack).toBeGreaterThan(0);
}, 600_000);

import { expect, it } from 'vitest';
import { whyNotHere } from '../../src/cli/machine.js';

it('whyNotHere() refuses a big-endian machine, and no other', () => {
  expect(whyNotHere('LE')).toBeNull();
  expect(whyNotHere('BE')).toMatch(/^Cannot run on a big-endian machine: /);
});

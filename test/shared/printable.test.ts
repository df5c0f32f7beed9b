import { describe, expect, it } from 'vitest';
import { printable } from '../../src/shared/printable.js';

describe('printable()', () => {
  it('leaves text of any script as it is', () => {
    expect(printable('Zoë 東京 👩‍🔬 –')).toBe('Zoë 東京 👩‍🔬 –');
  });

  it.each(['\n', '\r', '\x1b[2J', '\x9b2J', '\u2028', '\u202e', '\x7f'])(
    'writes %j out',
    (hostile) => {
      expect(printable(`a${hostile}b`)).toMatch(/^a\\u\{[0-9a-f]{2,4}\}.*b$/);
    },
  );
});

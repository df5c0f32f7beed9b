import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { closeReason, stackOf } from '../../src/shared/errors.js';

const numBytes = (text: string) => new TextEncoder().encode(text).length;

describe('closeReason()', () => {
  it('leaves what fits as it is', () => {
    expect(closeReason('it said goodbye')).toBe('it said goodbye');
    expect(closeReason('ä'.repeat(61) + 'x')).toBe('ä'.repeat(61) + 'x');
  });

  it('cuts between two characters, at 123 bytes of UTF-8', () => {
    expect(closeReason('x'.repeat(124))).toBe('x'.repeat(123));
    expect(closeReason('ä'.repeat(62))).toBe('ä'.repeat(61));
    expect(closeReason('😀'.repeat(31))).toBe('😀'.repeat(30));
  });

  it('is the longest beginning of any text that fits into a close frame', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        const reason = closeReason(text);
        expect(text.startsWith(reason)).toBe(true);
        expect(numBytes(reason)).toBeLessThanOrEqual(123);
        if (reason !== text) expect(numBytes(reason)).toBeGreaterThanOrEqual(120);
      }),
    );
  });
});

describe('stackOf()', () => {
  it('is one line with the message and the place', () => {
    const stack = stackOf(new TypeError('no such thing'));
    expect(stack).toMatch(/^TypeError: no such thing at .*errors\.test\.ts/);
    expect(stack).not.toContain('\n');
  });

  it('takes what is no error', () => {
    expect(stackOf('thrown')).toBe('thrown');
  });
});

import peer from 'crc-32/crc32c.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc32c, frameRecord } from '../../../src/coordinator/observers/tfrecord.js';
import { readRecords } from '../../support/event-files.js';

describe('crc32c()', () => {
  it('gives the standard\'s check value for "123456789"', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  });

  it('agrees with another implementation', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(crc32c(bytes)).toBe(peer.buf(bytes) >>> 0);
      }),
    );
  });
});

describe('frameRecord()', () => {
  it('can be read by a third-party reader', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 5 }), (records) => {
        const frames = Buffer.concat(records.map(frameRecord));
        expect(readRecords(frames).map((record) => Array.from(record))).toEqual(
          records.map((record) => Array.from(record)),
        );
      }),
    );
  });

  it('detects every flipped bit', () => {
    const frame = frameRecord(Uint8Array.from([1, 2, 3]));
    for (let bit = 0; bit < 8 * frame.length; bit++) {
      const damaged = frame.slice();
      damaged[bit >> 3] ^= 1 << (bit & 7);
      expect(() => readRecords(damaged)).toThrow();
    }
  });
});

import { deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodePng } from '../../../src/model/data/png.js';
import { UserError } from '../../../src/shared/errors.js';
import { pngChunk, pngFile, pngOf, type PngParts } from '../../support/png-file.js';

const rounded = (values: Float32Array): number[] =>
  [...values].map((v) => Math.round(v * 1000) / 1000);

/** 2×1: one bit, black then white. */
const tiny: PngParts = {
  width: 2,
  height: 1,
  depth: 1,
  colorType: 0,
  rows: [Uint8Array.of(0b01000000)],
};

describe('decodePng()', () => {
  test.each<[string, Uint8Array, number[], number[]]>([
    ['one bit', pngFile(tiny), [0, 1], [1, 1]],
    [
      'four bits',
      pngFile({ ...tiny, width: 3, depth: 4, rows: [Uint8Array.of(0x0f, 0x50)] }),
      [0, 1, 0.333],
      [1, 1, 1],
    ],
    [
      '16 bits',
      pngOf(2, 1, 0, 16, (_, column) => [column === 0 ? 0.25 : 0.75]),
      [0.25, 0.75],
      [1, 1],
    ],
    [
      'colour',
      pngOf(3, 1, 2, 8, (_, column) => [0, 1, 2].map((c) => (c === column ? 1 : 0))),
      [0.299, 0.587, 0.114],
      [1, 1, 1],
    ],
    ['grey and alpha', pngOf(2, 1, 4, 8, (_, column) => [1, column]), [1, 1], [0, 1]],
    [
      'colour and alpha of 16 bits',
      pngOf(2, 1, 6, 16, (_, column) => [1, 1, 1, column / 2]),
      [1, 1],
      [0, 0.5],
    ],
    [
      'a palette with transparency',
      pngFile({
        ...tiny,
        width: 4,
        depth: 2,
        colorType: 3,
        rows: [Uint8Array.of(0b00011000)],
        chunks: [
          pngChunk('PLTE', Uint8Array.of(0, 0, 0, 255, 255, 255, 255, 0, 0)),
          pngChunk('tRNS', Uint8Array.of(0, 51)),
        ],
      }),
      [0, 1, 0.299, 0],
      [0, 0.2, 1, 0],
    ],
    [
      'a grey that stands for transparent',
      pngFile({ ...tiny, chunks: [pngChunk('tRNS', Uint8Array.of(0, 1))] }),
      [0, 1],
      [1, 0],
    ],
    [
      'seven passes',
      pngFile({
        ...tiny,
        height: 2,
        depth: 8,
        interlace: 1,
        // (0, 0), then (1, 0), then the second row.
        rows: [Uint8Array.of(0), Uint8Array.of(51), Uint8Array.of(102, 255)],
      }),
      [0, 0.2, 0.4, 1],
      [1, 1, 1, 1],
    ],
  ])('reads %s', (_, bytes, luminance, alpha) => {
    const image = decodePng(bytes, 'FILE');
    expect(rounded(image.luminance)).toEqual(luminance);
    expect(rounded(image.alpha)).toEqual(alpha);
  });

  test('does not unpack what is no pixel', () => {
    // An embedded profile that would take 64 MiB.
    const profile = Buffer.concat([Buffer.from('p\0\0'), deflateSync(Buffer.alloc(2 ** 26))]);
    const bytes = pngFile({ ...tiny, chunks: [pngChunk('iCCP', profile)] });
    expect(rounded(decodePng(bytes, 'FILE').luminance)).toEqual([0, 1]);
  });

  const flipped = Uint8Array.from(pngFile(tiny), (byte, at) => (at === 45 ? byte ^ 1 : byte));
  test.each<[string, Uint8Array, string]>([
    ['an empty file', new Uint8Array(0), 'it is no PNG file'],
    ['a JPEG', Buffer.from('ffd8ffe000104a4649460001', 'hex'), 'it is no PNG file'],
    ['a truncated file', pngFile(tiny).subarray(0, -1), 'it is a truncated PNG file'],
    ['the signature alone', pngFile(tiny).subarray(0, 8), 'it is a truncated PNG file'],
    ['a flipped bit', flipped, 'it is a damaged PNG file'],
    [
      'missing rows',
      pngFile({ ...tiny, height: 2 }),
      'it is a damaged PNG file (rows are missing)',
    ],
    [
      'no pixels at all',
      pngFile({ ...tiny, width: 0 }),
      'it has 0×1 pixels, expected at most 8192 a side and 33554432 in all',
    ],
    ['a huge side', pngFile({ ...tiny, width: 2 ** 31 }), 'it has 2147483648×1 pixels'],
    [
      'a huge area',
      pngFile({ ...tiny, width: 8192, height: 8192 }),
      'it has 8192×8192 pixels, expected at most',
    ],
    ['an unknown colour type', pngFile({ ...tiny, colorType: 5 }), 'its header is wrong'],
    ['a depth that does not go with it', pngFile({ ...tiny, colorType: 6 }), 'its header is wrong'],
    ['a palette that is missing', pngFile({ ...tiny, colorType: 3 }), 'it is a damaged PNG file'],
    [
      'an interlaced image of few bits',
      pngFile({ ...tiny, interlace: 1 }),
      'it is interlaced with fewer than 8 bits, which is not supported',
    ],
    [
      'pixels that never end',
      pngFile({ ...tiny, rows: [new Uint8Array(2 ** 26)] }),
      'it is a damaged PNG file (Cannot create a Buffer larger than',
    ],
  ])('refuses %s', (_, bytes, message) => {
    expect(() => decodePng(bytes, 'FILE')).toThrow(UserError);
    expect(() => decodePng(bytes, 'FILE')).toThrow(`Cannot read FILE: `);
    expect(() => decodePng(bytes, 'FILE')).toThrow(message);
  });

  test('answers any damage with a UserError or an image', () => {
    const good = pngOf(9, 7, 6, 8, (row, column) => [row / 7, column / 9, 0, 1]);
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, byte, length) => {
        const bytes = Uint8Array.from(good).subarray(0, Math.max(length, 40));
        bytes[at] = byte;
        try {
          expect(decodePng(bytes, 'FILE').luminance.length).toBe(63);
        } catch (error) {
          expect(error).toBeInstanceOf(UserError);
        }
      }),
      { numRuns: 300 },
    );
  });
});

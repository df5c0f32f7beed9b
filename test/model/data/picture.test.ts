import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { resize, toInput } from '../../../src/model/data/input-image.js';
import { decodePicture } from '../../../src/model/data/picture.js';
import { UserError } from '../../../src/shared/errors.js';
import { pngFile, pngOf } from '../../support/png-file.js';
import { jpg, png } from '../../support/picture-folders.js';

describe('decodePicture()', () => {
  test('reads grey, colour and transparent PNG', async () => {
    const grey = await decodePicture(
      pngOf(2, 1, 0, 16, (_, column) => [column]),
      'FILE',
    );
    expect([...grey.rgb]).toEqual([0, 0, 0, 255, 255, 255]);
    const colored = await decodePicture(
      png(1, 2, (row) => [row, 20, 30]),
      'FILE',
    );
    expect(colored).toEqual({ width: 1, height: 2, rgb: Uint8Array.of(0, 20, 30, 1, 20, 30) });
    const half = pngOf(2, 1, 6, 8, (_, column) => [1, 0.2, 0, column]);
    expect([...(await decodePicture(half, 'FILE')).rgb]).toEqual([0, 0, 0, 255, 51, 0]);
  });

  test('reads JPEG, upright as EXIF says', async () => {
    // Red above blue, 8 wide and 16 high.
    const bytes = jpg(8, 16, (row) => (row < 8 ? [250, 0, 0] : [0, 0, 250]));
    const exif = (orientation: number) => {
      const segment = Buffer.from(
        'ffe1002245786966000049492a0008000000010012010300010000000100000000000000',
        'hex',
      );
      segment.writeUInt16LE(orientation, 28);
      return Buffer.concat([bytes.subarray(0, 2), segment, bytes.subarray(2)]);
    };
    const isRed = (rgb: Uint8Array, at: number) => rgb[3 * at] > 200 && rgb[3 * at + 2] < 60;
    for (const [orientation, width, height, redCorners] of [
      [1, 8, 16, [true, true, false, false]],
      [2, 8, 16, [true, true, false, false]],
      [3, 8, 16, [false, false, true, true]],
      [4, 8, 16, [false, false, true, true]],
      [5, 16, 8, [true, false, true, false]],
      [6, 16, 8, [false, true, false, true]],
      [7, 16, 8, [false, true, false, true]],
      [8, 16, 8, [true, false, true, false]],
      [99, 8, 16, [true, true, false, false]],
    ] as const) {
      const picture = await decodePicture(exif(orientation), 'FILE');
      expect([picture.width, picture.height]).toEqual([width, height]);
      const corners = [0, width - 1, (height - 1) * width, height * width - 1];
      expect(corners.map((at) => isRed(picture.rgb, at))).toEqual(redCorners);
    }
  });

  const sound = jpg(16, 16, () => [1, 2, 3]);
  const huge = Uint8Array.from(sound);
  const frame = Buffer.from(huge.buffer).indexOf(Buffer.from('ffc0', 'hex'));
  new DataView(huge.buffer).setUint16(frame + 5, 0xffff);
  test.each<[string, Uint8Array, string]>([
    ['an empty file', new Uint8Array(0), 'it is neither a PNG nor a JPEG file'],
    ['a text', Buffer.from('hello, world'), 'it is neither a PNG nor a JPEG file'],
    ['a JPEG cut in its header', sound.subarray(0, 40), 'it is a truncated JPEG file'],
    ['a JPEG without a frame', Buffer.from('ffd8ffda0000', 'hex'), 'its frame header is wrong'],
    ['a huge JPEG', huge, 'it has 16×65535 pixels, expected at most 8192 a side'],
    ['a cut PNG', png(4, 4, () => [1, 2, 3]).subarray(0, 50), 'it is a truncated PNG file'],
    [
      'a huge PNG',
      pngFile({ width: 100_000, height: 100_000, depth: 8, colorType: 2, rows: [] }),
      'it has 100000×100000 pixels',
    ],
  ])('refuses %s', async (_, bytes, message) => {
    const decoding = decodePicture(bytes, 'FILE');
    await expect(decoding).rejects.toThrow(UserError);
    await expect(decoding).rejects.toThrow(/^Cannot read FILE: /);
    await expect(decoding).rejects.toThrow(message);
  });

  test('refuses or reads whatever bytes there are, and says nothing else', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(sound.length - 1),
        fc.nat(255),
        fc.nat(sound.length),
        async (at, value, length) => {
          const bytes = Uint8Array.from(sound);
          bytes[at] = value;
          const outcome: unknown = await decodePicture(bytes.subarray(0, length), 'FILE').catch(
            (error: unknown) => error,
          );
          if (outcome instanceof Error) expect(outcome).toBeInstanceOf(UserError);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('toInput()', () => {
  test.each([
    [1, [121]],
    [2, [121, 255]],
    [3, [200, 100, 20]],
    [4, [200, 100, 20, 255]],
  ])('gives %i channels, opaque where one is alpha', (channels, expected) => {
    const picture = { width: 2, height: 1, rgb: Uint8Array.of(200, 100, 20, 200, 100, 20) };
    expect([...toInput(picture, { channels, height: 1, width: 1 })]).toEqual(expected);
  });
});

describe('resize()', () => {
  test.each<[string, number[], [number, number], [number, number], number[]]>([
    ['leaves the same size', [1, 2, 3, 4], [2, 2], [2, 2], [1, 2, 3, 4]],
    ['takes the mean, halves up', [1, 2, 3, 4], [2, 2], [1, 1], [3]],
    ['shares pixels between two', [0, 90, 255], [3, 1], [2, 1], [30, 200]],
    ['repeats pixels', [7, 9], [2, 1], [4, 2], [7, 7, 9, 9, 7, 7, 9, 9]],
  ])('%s', (_, plane, [width, height], [newWidth, newHeight], expected) => {
    const resized = resize(Uint8Array.from(plane), width, height, newWidth, newHeight);
    expect([...resized]).toEqual(expected);
  });

  test('is the rounded quotient of BigInts', () => {
    const side = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(
        side,
        side,
        side,
        side,
        fc.array(fc.nat(255), { minLength: 81, maxLength: 81 }),
        (w, h, newW, newH, bytes) => {
          const plane = Uint8Array.from(bytes.slice(0, w * h));
          const overlap = (i: number, size: number, j: number, newSize: number): bigint =>
            BigInt(
              Math.max(
                0,
                Math.min((i + 1) * newSize, (j + 1) * size) - Math.max(i * newSize, j * size),
              ),
            );
          const expected = Array.from({ length: newW * newH }, (_, at) => {
            const [row, column] = [Math.floor(at / newW), at % newW];
            let sum = 0n;
            plane.forEach((value, i) => {
              const area =
                overlap(Math.floor(i / w), h, row, newH) * overlap(i % w, w, column, newW);
              sum += area * BigInt(value);
            });
            const total = BigInt(w * h);
            return Number((2n * sum + total) / (2n * total));
          });
          expect([...resize(plane, w, h, newW, newH)]).toEqual(expected);
        },
      ),
    );
  });
});

test('toInput() gives channel after channel, or luma', () => {
  const picture = { width: 2, height: 1, rgb: Uint8Array.of(255, 0, 10, 0, 100, 20) };
  const shape = { height: 1, width: 2 };
  expect([...toInput(picture, { ...shape, channels: 3 })]).toEqual([255, 0, 0, 100, 10, 20]);
  expect([...toInput(picture, { ...shape, channels: 1 })]).toEqual([77, 61]);
});

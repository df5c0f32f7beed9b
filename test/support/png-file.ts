/** PNG files made by hand, sound ones and others. */
import { crc32, deflateSync } from 'node:zlib';

export interface PngParts {
  readonly width: number;
  readonly height: number;
  readonly depth: number;
  /** 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha. */
  readonly colorType: number;
  readonly interlace?: number;
  /** The rows as the format packs them, without their filter bytes. */
  readonly rows: readonly Uint8Array[];
  /** Chunks between header and pixels. */
  readonly chunks?: readonly Uint8Array[];
}

const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');

export function pngChunk(type: string, data: Uint8Array): Uint8Array {
  const typed = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const [length, checksum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  checksum.writeUInt32BE(crc32(typed));
  return Buffer.concat([length, typed, checksum]);
}

export function pngFile(parts: PngParts): Uint8Array {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(parts.width, 0);
  header.writeUInt32BE(parts.height, 4);
  header.set([parts.depth, parts.colorType, 0, 0, parts.interlace ?? 0], 8);
  const rows = Buffer.concat(parts.rows.flatMap((row) => [Uint8Array.of(0), row]));
  return Buffer.concat([
    SIGNATURE,
    pngChunk('IHDR', header),
    ...(parts.chunks ?? []),
    pngChunk('IDAT', deflateSync(rows)),
    pngChunk('IEND', new Uint8Array(0)),
  ]);
}

/** A picture (H, W, C) of values in [0, 1], rounded to 8 or 16 bits. */
export function pngOf(
  width: number,
  height: number,
  colorType: 0 | 2 | 4 | 6,
  depth: 8 | 16,
  pixel: (row: number, column: number) => readonly number[],
): Uint8Array {
  const rows = Array.from({ length: height }, (_, row) => {
    const values = Array.from({ length: width }, (__, column) => pixel(row, column)).flat();
    const bytes = Buffer.alloc((values.length * depth) / 8);
    values.forEach((value, index) => {
      if (depth === 8) bytes[index] = Math.round(255 * value);
      else bytes.writeUInt16BE(Math.round(65535 * value), 2 * index);
    });
    return bytes;
  });
  return pngFile({ width, height, depth, colorType, rows });
}

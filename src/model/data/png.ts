/**
 * Untrusted PNG files to luminance: fast-png decodes, behind checks that bound its input.
 *
 * https://www.w3.org/TR/png-3
 */
import { inflateSync } from 'node:zlib';
import { convertIndexedToRgb, decode, type DecodedPng } from 'fast-png';
import { messageOf, UserError } from '../../shared/errors.js';

/** Shapes are (H, W), row-major; values are in [0, 1]. */
export interface GreyImage {
  readonly width: number;
  readonly height: number;
  /** 0 black, 1 white. */
  readonly luminance: Float32Array;
  /** 0 transparent, 1 opaque. */
  readonly alpha: Float32Array;
}

/** Side of an image at most, in pixels: that of a telephone's photograph. */
export const MAX_PICTURE_SIDE = 8192;
/** Pixels of an image at most; as 16-bit colour with alpha they take 256 MiB. */
export const MAX_PIXELS = 2 ** 25;
/** Unpacked bytes that may follow the last row. */
const SPARE_BYTES = 2 ** 16;

const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');
const HEADER_BYTES = 13;
/** What the pixels depend on; fast-png would unpack colour profiles and texts too, of any size. */
const KEPT_CHUNKS: readonly string[] = ['IHDR', 'PLTE', 'tRNS', 'IDAT', 'IEND'];

/** Channels and permitted bit depths of each colour type. */
const COLOR_TYPES: Readonly<
  Partial<Record<number, { channels: number; depths: readonly number[] }>>
> = {
  0: { channels: 1, depths: [1, 2, 4, 8, 16] },
  2: { channels: 3, depths: [8, 16] },
  3: { channels: 1, depths: [1, 2, 4, 8] },
  4: { channels: 2, depths: [8, 16] },
  6: { channels: 4, depths: [8, 16] },
};

/** Places of the seven passes of an interlaced image: first column, first row, column step, row step. */
const PASSES = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;

/** Pixels (H, W, channels) as the file has them, palettes resolved. */
export interface PngSamples {
  readonly width: number;
  readonly height: number;
  readonly samples: ArrayLike<number>;
  /** 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. */
  readonly channels: number;
  /** White, and opaque. */
  readonly max: number;
  /** The colour that stands for transparent. */
  readonly key?: readonly number[];
}

/**
 * @param file its name in messages
 * @throws {UserError} in one sentence, if the file is no PNG, is damaged or is too large
 */
export function decodePng(bytes: Uint8Array, file: string): GreyImage {
  return toGrey(decodePngSamples(bytes, file));
}

/**
 * @param file its name in messages
 * @throws {UserError} in one sentence, if the file is no PNG, is damaged or is too large
 */
export function decodePngSamples(bytes: Uint8Array, file: string): PngSamples {
  const fail = (why: string, cause?: unknown): never => {
    throw new UserError(`Cannot read ${file}: ${why}`, { cause });
  };
  const chunks = splitChunks(bytes, fail);
  const { hasPalette, numBytes } = parseHeader(chunks[0], fail);
  const pixels = chunks.filter(({ type }) => type === 'IDAT').map(({ data }) => data);
  try {
    const unpacked = inflateSync(Buffer.concat(pixels), {
      maxOutputLength: numBytes + SPARE_BYTES,
    });
    if (unpacked.length < numBytes) throw new Error('rows are missing');
    const kept = chunks.filter(({ type }) => KEPT_CHUNKS.includes(type));
    const sound = Buffer.concat([SIGNATURE, ...kept.map(({ raw }) => raw)]);
    const png = decode(sound, { checkCrc: true });
    return { width: png.width, height: png.height, ...samplesOf(png, hasPalette) };
  } catch (error) {
    return fail(`it is a damaged PNG file (${messageOf(error)})`, error);
  }
}

interface Chunk {
  readonly type: string;
  readonly data: Uint8Array;
  /** The chunk with its length, type and checksum. */
  readonly raw: Uint8Array;
}

type Fail = (why: string) => never;

/** All chunks of the file up to IEND, of which IHDR is the first. */
function splitChunks(bytes: Uint8Array, fail: Fail): Chunk[] {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!file.subarray(0, SIGNATURE.length).equals(SIGNATURE)) fail('it is no PNG file');
  const chunks: Chunk[] = [];
  let at = SIGNATURE.length;
  do {
    const length = at + 12 <= file.length ? file.readUInt32BE(at) : Infinity;
    if (length > file.length - at - 12) fail('it is a truncated PNG file');
    const end = at + 12 + length;
    const type = file.toString('latin1', at + 4, at + 8);
    chunks.push({ type, data: file.subarray(at + 8, end - 4), raw: file.subarray(at, end) });
    at = end;
  } while (chunks.at(-1)!.type !== 'IEND');
  const numHeaders = chunks.filter(({ type }) => type === 'IHDR').length;
  if (chunks[0].type !== 'IHDR' || chunks[0].data.length !== HEADER_BYTES || numHeaders > 1) {
    fail('it is a damaged PNG file (its header is wrong)');
  }
  return chunks;
}

/** `numBytes` are those of all rows, each with its filter, before compression. */
function parseHeader(header: Chunk, fail: Fail): { hasPalette: boolean; numBytes: number } {
  const view = new DataView(header.data.buffer, header.data.byteOffset, HEADER_BYTES);
  const width = view.getUint32(0);
  const height = view.getUint32(4);
  const [depth, colorType, , , interlace] = header.data.subarray(8) as unknown as readonly number[];
  const isBounded =
    width <= MAX_PICTURE_SIDE && height <= MAX_PICTURE_SIDE && width * height <= MAX_PIXELS;
  if (width < 1 || height < 1 || !isBounded) {
    fail(
      `it has ${width}×${height} pixels, expected at most ${MAX_PICTURE_SIDE} a side and ${MAX_PIXELS} in all`,
    );
  }
  const color = COLOR_TYPES[colorType];
  if (!color?.depths.includes(depth) || interlace > 1) {
    return fail('it is a damaged PNG file (its header is wrong)');
  }
  const rowsBytes = (columns: number, rows: number): number =>
    columns > 0 && rows > 0 ? rows * (1 + Math.ceil((columns * color.channels * depth) / 8)) : 0;
  const hasPalette = colorType === 3;
  if (interlace === 0) return { hasPalette, numBytes: rowsBytes(width, height) };
  if (depth < 8) fail('it is interlaced with fewer than 8 bits, which is not supported');
  const numBytes = PASSES.reduce((sum, [column, row, columnStep, rowStep]) => {
    const columns = Math.ceil((width - column) / columnStep);
    return sum + rowsBytes(columns, Math.ceil((height - row) / rowStep));
  }, 0);
  return { hasPalette, numBytes };
}

function toGrey({ width, height, samples, channels, max, key }: PngSamples): GreyImage {
  const luminance = new Float32Array(width * height);
  const alpha = new Float32Array(width * height).fill(1);
  const hasAlpha = channels === 2 || channels === 4;
  const numColors = hasAlpha ? channels - 1 : channels;
  for (let i = 0; i < luminance.length; i++) {
    const from = i * channels;
    const isKey = key?.every((value, channel) => samples[from + channel] === value) ?? false;
    luminance[i] = luma(samples, from, numColors) / max;
    if (hasAlpha) alpha[i] = samples[from + numColors] / max;
    else if (isKey) alpha[i] = 0;
  }
  return { width, height, luminance, alpha };
}

/** ITU-R BT.601, on the values as they are stored. */
function luma(samples: ArrayLike<number>, from: number, numColors: number): number {
  if (numColors === 1) return samples[from];
  return 0.299 * samples[from] + 0.587 * samples[from + 1] + 0.114 * samples[from + 2];
}

/** One value a channel. */
function samplesOf(png: DecodedPng, hasPalette: boolean): Omit<PngSamples, 'width' | 'height'> {
  const { depth, palette, transparency } = png;
  if (hasPalette) {
    const samples = convertIndexedToRgb(png);
    return { samples, channels: palette![0].length, max: 255 };
  }
  const samples = depth < 8 ? unpackBits(png) : png.data;
  const max = 2 ** depth - 1;
  if (transparency?.length !== png.channels) return { samples, channels: png.channels, max };
  return { samples, channels: png.channels, max, key: [...transparency] };
}

/** Grey values of 1, 2 or 4 bits; rows begin with a byte. */
function unpackBits({ width, height, depth, data }: DecodedPng): Uint8Array {
  const rowBytes = Math.ceil((width * depth) / 8);
  return Uint8Array.from({ length: width * height }, (_, i) => {
    const [row, column] = [Math.floor(i / width), i % width];
    const bit = column * depth;
    const byte = data[row * rowBytes + (bit >> 3)];
    return (byte >> (8 - depth - (bit & 7))) & (2 ** depth - 1);
  });
}

/**
 * The safetensors format (https://huggingface.co/docs/safetensors), as far as Lockstep writes and reads it:
 *
 *   uint64 little-endian    length of the header
 *   header                  JSON: name → { dtype, shape, data_offsets }, and `__metadata__`, a map of strings
 *   data                    the tensors, float32 little-endian, without gaps
 *
 * Files are untrusted: everything is checked before it is used.
 */
import * as z from 'zod';
import { bytesOf } from '../shared/codec.js';
import { UserError, messageOf } from '../shared/errors.js';
import { parseJson } from '../shared/json.js';
import type { InputFile } from '../shared/node/input-file.js';
import type { Storage } from '../shared/node/storage.js';

const LENGTH_BYTES = 8;
/** Of a header, read or written. */
const MAX_HEADER_BYTES = 2 ** 23;
/** Of a file that is read: the state of the largest model that can be trained has less. */
const MAX_FILE_BYTES = 2 ** 28;
/** Data begins at a multiple of it; spaces fill the header up. */
const ALIGNMENT = 8;

export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** As many as the shape says. */
  readonly values: Float32Array;
}

/** What the header says of one tensor. */
export interface TensorEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** [begin, end) in the data, bytes. */
  readonly data_offsets: readonly [number, number];
}

const entrySchema = z.strictObject({
  dtype: z.string().max(8),
  shape: z.array(z.number().int().min(0)).max(8),
  data_offsets: z.tuple([z.number().int().min(0), z.number().int().min(0)]),
});

/**
 * The bytes of a file with the tensors in this order; the metadata come first.
 *
 * @throws {RangeError} if the header would be longer than one that is read
 */
export function encodeSafetensors(
  metadata: Readonly<Record<string, string>>,
  tensors: readonly NamedTensor[],
): Buffer {
  const entries = entriesOf(tensors);
  const unpadded = Buffer.from(JSON.stringify({ __metadata__: metadata, ...entries }));
  const headerBytes = Math.ceil(unpadded.length / ALIGNMENT) * ALIGNMENT;
  if (headerBytes > MAX_HEADER_BYTES) {
    throw new RangeError(
      `Cannot encode a header of ${headerBytes} bytes, at most ${MAX_HEADER_BYTES} can be read again`,
    );
  }
  const dataFrom = LENGTH_BYTES + headerBytes;
  const dataBytes = tensors.reduce((sum, { values }) => sum + values.byteLength, 0);
  const file = Buffer.alloc(dataFrom + dataBytes, ' ');
  file.writeBigUInt64LE(BigInt(headerBytes));
  file.set(unpadded, LENGTH_BYTES);
  for (const { name, values } of tensors) {
    file.set(bytesOf(values), dataFrom + entries[name].data_offsets[0]);
  }
  return file;
}

/** The entries of tensors that stand one after the other without gaps. */
export function entriesOf(
  tensors: readonly Pick<NamedTensor, 'name' | 'shape'>[],
): Record<string, TensorEntry> {
  let offset = 0;
  const entries = tensors.map(({ name, shape }): [string, TensorEntry] => {
    const from = offset;
    offset += 4 * numValues(shape);
    return [name, { dtype: 'F32', shape, data_offsets: [from, offset] }];
  });
  return Object.fromEntries(entries);
}

export interface SafetensorsHeader {
  /** Unchecked: any JSON value, undefined where there is none. */
  readonly metadata: unknown;
  /** Unchecked: any JSON value by name; `parseEntry` takes one. */
  readonly entries: Readonly<Record<string, unknown>>;
  /** Where the data begin, bytes. */
  readonly dataFrom: number;
}

/**
 * @param bytes of the file, or of its beginning with the header
 * @throws {RangeError | SyntaxError} with the reason, if the bytes have no header
 */
export function parseHeader(bytes: Uint8Array): SafetensorsHeader {
  const dataFrom = dataBegin(bytes, bytes.length);
  const text = new TextDecoder().decode(bytes.subarray(LENGTH_BYTES, dataFrom));
  let header: unknown;
  try {
    header = parseJson(text);
  } catch (error) {
    throw new SyntaxError('its header is no JSON, or too deep', { cause: error });
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw new SyntaxError('its header is no JSON object');
  }
  const { __metadata__: metadata, ...entries } = header as Record<string, unknown>;
  return { metadata, entries, dataFrom };
}

/** Where the data begin, by the first bytes of a file of as many. */
function dataBegin(first: Uint8Array, fileBytes: number): number {
  const room = fileBytes - LENGTH_BYTES;
  if (room < 0) {
    throw new RangeError(`it is truncated, ${fileBytes} bytes do not hold a header`);
  }
  const view = new DataView(first.buffer, first.byteOffset, first.byteLength);
  const headerBytes = Number(view.getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES) {
    throw new RangeError('it is no safetensors file, or its header is damaged');
  }
  if (headerBytes > room) {
    throw new RangeError(
      `it is truncated, ${fileBytes} bytes do not hold a header of ${headerBytes}`,
    );
  }
  return LENGTH_BYTES + headerBytes;
}

/**
 * The bytes of a safetensors file, of which no more than the header is read before that has been checked.
 *
 * @param check throws what is wrong with the header of a file of as many bytes
 * @throws {UserError} in one sentence
 */
export async function readSafetensors(
  storage: Storage,
  path: string,
  check: (header: SafetensorsHeader, fileBytes: number) => void,
): Promise<Uint8Array> {
  const file = await storage.open(path).catch((error: unknown) => {
    throw new UserError(`Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  });
  try {
    const header = await readHeader(file);
    check(header, file.size);
    if (file.size > MAX_FILE_BYTES) throw new Error(`it has more than ${MAX_FILE_BYTES} bytes`);
    return await file.read(0, file.size);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`Cannot use ${path}: ${messageOf(error)}`, { cause: error });
  } finally {
    await file.close();
  }
}

async function readHeader(file: InputFile): Promise<SafetensorsHeader> {
  const first = await file.read(0, Math.min(file.size, LENGTH_BYTES));
  return parseHeader(await file.read(0, dataBegin(first, file.size)));
}

/** @throws {RangeError} if a file of as many bytes is not what its header promises */
export function checkLength({ entries, dataFrom }: SafetensorsHeader, fileBytes: number): void {
  const ends = Object.values(entries).map((entry) => parseEntry(entry)?.data_offsets[1] ?? 0);
  const promised = dataFrom + ends.reduce((last, end) => Math.max(last, end), 0);
  if (promised !== fileBytes) {
    throw new RangeError(`it has ${fileBytes} bytes, but its header promises ${promised}`);
  }
}

/** The entry, if it has the form of one; its offsets may still be anywhere. */
export function parseEntry(entry: unknown): TensorEntry | null {
  return entrySchema.safeParse(entry).data ?? null;
}

/** `F32 (6, 1, 5, 5) at 0–600`, to be compared and to be read. */
export function describeEntry(entry: unknown): string {
  if (entry === undefined) return 'absent';
  const parsed = parseEntry(entry);
  if (!parsed) return 'malformed';
  const { dtype, shape, data_offsets } = parsed;
  return `${dtype} (${shape.join(', ')}) at ${data_offsets.join('–')}`;
}

export function numValues(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * The safetensors format (https://huggingface.co/docs/safetensors), as far as Lockstep writes and reads it:
 *
 *   uint64 little-endian    length of the header
 *   header                  JSON: name → { dtype, shape, data_offsets }, and `__metadata__`, a map of strings
 *   data                    the tensors, float32 little-endian, without gaps
 *
 * A file may come from anywhere: nothing in it is believed before it has been checked.
 */
import * as z from 'zod';
import { bytesOf } from '../shared/codec.js';

const LENGTH_BYTES = 8;
/** Of a header, read or written. JSON takes up to forty times its length of memory once it is parsed. */
const MAX_HEADER_BYTES = 2 ** 23;
/** How deep JSON in a file may be nested: each level costs more memory than its two characters. */
const MAX_JSON_DEPTH = 8;
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

/** @throws {RangeError | SyntaxError} with the reason, if the bytes have no header */
export function parseHeader(bytes: Uint8Array): SafetensorsHeader {
  const room = bytes.length - LENGTH_BYTES;
  if (room < 0) {
    throw new RangeError(`it is truncated, ${bytes.length} bytes do not hold a header`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerBytes = Number(view.getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES) {
    throw new RangeError('it is no safetensors file, or its header is damaged');
  }
  if (headerBytes > room) {
    throw new RangeError(
      `it is truncated, ${bytes.length} bytes do not hold a header of ${headerBytes}`,
    );
  }
  const dataFrom = LENGTH_BYTES + headerBytes;
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

/** @throws {SyntaxError | RangeError} if it is no JSON, or deeper than what is ever written */
export function parseJson(text: string): unknown {
  checkDepth(text);
  return JSON.parse(text);
}

/** As `JSON.stringify`. @throws {RangeError} if `parseJson` would not take it */
export function stringifyJson(value: unknown): string {
  const text = JSON.stringify(value);
  checkDepth(text);
  return text;
}

function checkDepth(text: string): void {
  if (depthOf(text) > MAX_JSON_DEPTH) {
    throw new RangeError(`JSON of more than ${MAX_JSON_DEPTH} levels`);
  }
}

/** How many levels of lists and objects a JSON text has, found without parsing it. */
function depthOf(json: string): number {
  let depth = 0;
  let deepest = 0;
  let isInString = false;
  for (let at = 0; at < json.length; at++) {
    const character = json[at];
    if (isInString) {
      if (character === '\\') at++;
      else if (character === '"') isInString = false;
    } else if (character === '"') isInString = true;
    else if (character === '[' || character === '{') deepest = Math.max(deepest, ++depth);
    else if (character === ']' || character === '}') depth--;
  }
  return deepest;
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

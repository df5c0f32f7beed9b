/**
 * One Parquet file: its columns of whole numbers and of pictures, page by page. What is read is checked and bounded; what
 * Hugging Face's `datasets` does not write (nested lists, delta encodings, encryption) is refused.
 *
 * https://parquet.apache.org/docs/file-format
 * https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
 */
import * as zlib from 'node:zlib';
import { openInput, type InputFile } from '../../shared/node/input-file.js';
import { checkRatio } from '../../shared/node/unpack.js';
import { MAX_IMAGES } from './dataset.js';
import { unpackSnappy } from './snappy.js';
import {
  numberAt,
  readThrift,
  structAt,
  structsAt,
  textAt,
  textsAt,
  ThriftEnd,
  type ThriftStruct,
} from './thrift.js';

const MAGIC = 'PAR1';
/** Of the metadata at the end of a file. */
const MAX_FOOTER_BYTES = 2 ** 24;
/** Of what stands before a page; it may hold a smallest and a largest value. */
const MAX_PAGE_HEADER_BYTES = 2 ** 20;
const PAGE_HEADER_BYTES = 2 ** 12;
/** Of one page, packed or unpacked. */
const MAX_PAGE_BYTES = 2 ** 30;
const MAX_COLUMNS = 10_000;

const TYPES: Partial<Record<number, ParquetColumn['type']>> = {
  1: 'int32',
  2: 'int64',
  6: 'bytes',
};
const REQUIRED = 0;
const OPTIONAL = 1;
const DATA_PAGE = 0;
const DICTIONARY_PAGE = 2;
const DATA_PAGE_V2 = 3;
const PLAIN = 0;
const PLAIN_DICTIONARY = 2;
const RLE = 3;
const RLE_DICTIONARY = 8;

/** A column without columns in it. */
export interface ParquetColumn {
  /** Names from the outermost to its own. */
  readonly path: readonly string[];
  readonly type: 'int32' | 'int64' | 'bytes' | 'other';
  /** How many on the path may be missing. */
  readonly numOptional: number;
  /** Whether a row may have several values. */
  readonly isRepeated: boolean;
}

/** Numbers beyond 2⁵³ are rounded. */
type Value = number | Uint8Array | null;

export interface ParquetFile {
  readonly columns: readonly ParquetColumn[];
  readonly metadata: ReadonlyMap<string, string>;
  readonly numRows: number;
  /** The values of a column, in order, some at a time; bytes are views of what nobody else holds. */
  read(column: ParquetColumn): AsyncGenerator<readonly Value[]>;
  close(): Promise<void>;
}

/** @throws {Error} whatever is wrong with it, to be put behind its name */
export async function openParquetFile(path: string): Promise<ParquetFile> {
  const file = await openInput(path);
  try {
    const footer = await readFooter(file);
    return {
      ...footer,
      read: (column) => readColumn(file, footer, column),
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

interface Footer extends Pick<ParquetFile, 'columns' | 'metadata' | 'numRows'> {
  readonly groups: readonly ThriftStruct[];
  readonly fileBytes: number;
}

async function readFooter(file: InputFile): Promise<Footer> {
  const { size } = file;
  if (size < 12 || text(await file.read(0, 4)) !== MAGIC) {
    throw new Error('it is no Parquet file');
  }
  const tail = await file.read(size - 8, 8);
  if (text(tail.subarray(4)) !== MAGIC) throw new Error('it is truncated');
  const footerBytes = Buffer.from(tail).readUInt32LE(0);
  if (footerBytes > Math.min(MAX_FOOTER_BYTES, size - 12)) {
    throw new Error(`its metadata has ${footerBytes} bytes, expected at most ${MAX_FOOTER_BYTES}`);
  }
  const { struct } = readThrift(await file.read(size - 8 - footerBytes, footerBytes));
  const groups = structsAt(struct, 4);
  const numRows = numberAt(struct, 3);
  let sum = 0;
  for (const group of groups) {
    const rows = numberAt(group, 3);
    if (rows < 0 || rows > MAX_IMAGES) throw new Error(`it has a group of ${rows} rows`);
    sum += rows;
  }
  if (sum !== numRows || numRows > MAX_IMAGES) {
    throw new Error(
      `it promises ${numRows} rows, expected those of its groups, at most ${MAX_IMAGES}`,
    );
  }
  const pairs = struct.has(5) ? structsAt(struct, 5) : [];
  return {
    columns: columnsOf(structsAt(struct, 2)),
    metadata: new Map(pairs.map((pair) => [textAt(pair, 1), pair.has(2) ? textAt(pair, 2) : ''])),
    numRows,
    groups,
    fileBytes: size,
  };
}

/** The leaves of the schema, which is a tree written depth first. */
function columnsOf(schema: readonly ThriftStruct[]): ParquetColumn[] {
  const columns: ParquetColumn[] = [];
  let next = 1;
  const walk = (parent: Omit<ParquetColumn, 'type'>, numChildren: number): void => {
    for (let child = 0; child < numChildren; child++) {
      const element = schema.at(next++);
      if (element === undefined || parent.path.length > 16 || columns.length > MAX_COLUMNS) {
        throw new Error('its schema is damaged');
      }
      const repetition = element.has(3) ? numberAt(element, 3) : REQUIRED;
      const node = {
        path: [...parent.path, textAt(element, 4)],
        numOptional: parent.numOptional + Number(repetition === OPTIONAL),
        isRepeated: parent.isRepeated || ![REQUIRED, OPTIONAL].includes(repetition),
      };
      if (element.has(5) && numberAt(element, 5) > 0) walk(node, numberAt(element, 5));
      else
        columns.push({
          ...node,
          type: TYPES[numberAt(element, 1)] ?? 'other',
        });
    }
  };
  if (schema.length === 0) throw new Error('its schema is damaged');
  walk({ path: [], numOptional: 0, isRepeated: false }, numberAt(schema[0], 5));
  return columns;
}

async function* readColumn(
  file: InputFile,
  { groups, fileBytes }: Footer,
  column: ParquetColumn,
): AsyncGenerator<readonly Value[]> {
  const name = column.path.join('.');
  for (const group of groups) {
    const chunk = structsAt(group, 1)
      .filter((one) => one.has(3))
      .map((one) => structAt(one, 3))
      .find((one) => textsAt(one, 3).join('.') === name);
    if (chunk === undefined) throw new Error(`its column ${name} is missing in a group of rows`);
    const starts = [9, 11]
      .filter((field) => chunk.has(field))
      .map((field) => numberAt(chunk, field));
    // A dictionary that is said to be at 0 is none.
    let at = Math.min(...starts.filter((start) => start > 0));
    const end = at + numberAt(chunk, 7);
    if (!(at >= 4 && end <= fileBytes)) throw new Error('it is truncated, or its metadata damaged');
    const unpack = unpackerOf(numberAt(chunk, 4));
    let left = numberAt(group, 3);
    let dictionary: readonly Value[] | null = null;
    while (left > 0) {
      const { header, headerBytes } = await readPageHeader(file, at, end);
      const pageBytes = numberAt(header, 3);
      at += headerBytes;
      if (pageBytes < 0 || pageBytes > Math.min(end - at, MAX_PAGE_BYTES)) {
        throw new Error(`its column ${name} has a page of ${pageBytes} bytes`);
      }
      const packed = await file.read(at, pageBytes);
      at += pageBytes;
      if (numberAt(header, 1) === DICTIONARY_PAGE) {
        const numValues = boundedCount(structAt(header, 7), 1, MAX_IMAGES);
        const bytes = unpack(packed, numberAt(header, 2));
        dictionary = plainValues(bytes, column.type, numValues);
        continue;
      }
      const values = pageValues(header, packed, { column, unpack, dictionary, left });
      left -= values.length;
      yield values;
    }
  }
}

async function readPageHeader(
  file: InputFile,
  at: number,
  end: number,
): Promise<{ header: ThriftStruct; headerBytes: number }> {
  for (let window = PAGE_HEADER_BYTES; ; window *= 16) {
    const bytes = await file.read(at, Math.min(window, end - at));
    try {
      const { struct, end: headerBytes } = readThrift(bytes);
      return { header: struct, headerBytes };
    } catch (error) {
      const mayGoOn = error instanceof ThriftEnd && bytes.length < end - at;
      if (!mayGoOn || window >= MAX_PAGE_HEADER_BYTES) throw error;
    }
  }
}

type Unpack = (packed: Uint8Array, size: number) => Uint8Array;

/** Node has it from 22.15 on. */
const zstd = (zlib as { readonly zstdDecompressSync?: typeof zlib.gunzipSync }).zstdDecompressSync;

function unpackerOf(codec: number): Unpack {
  const bounded =
    (unpack: Unpack): Unpack =>
    (packed, size) => {
      if (size < 0 || size > MAX_PAGE_BYTES) throw new Error(`it has a page of ${size} bytes`);
      checkRatio(packed.length, size);
      const bytes = unpack(packed, size);
      if (bytes.length !== size) throw new Error('it is damaged: a page cannot be unpacked');
      return bytes;
    };
  const byNode = (unpack: (bytes: Uint8Array, options: zlib.ZlibOptions) => Buffer) =>
    bounded((packed, size) => new Uint8Array(unpack(packed, { maxOutputLength: size || 1 })));
  const unpack = {
    0: bounded((packed) => packed),
    1: bounded(unpackSnappy),
    2: byNode(zlib.gunzipSync),
    4: byNode(zlib.brotliDecompressSync),
    6: zstd && byNode(zstd),
  }[codec];
  if (unpack) return unpack;
  const hint = codec === 6 ? 'Zstandard, which needs Node 22.15 or newer' : `codec ${codec}`;
  throw new Error(`it is packed by ${hint}, expected Snappy, gzip, Brotli or nothing`);
}

interface PageContext {
  readonly column: ParquetColumn;
  readonly unpack: Unpack;
  readonly dictionary: readonly Value[] | null;
  /** Rows of the group that have no value yet. */
  readonly left: number;
}

function pageValues(header: ThriftStruct, packed: Uint8Array, context: PageContext): Value[] {
  const { column, unpack, dictionary, left } = context;
  const kind = numberAt(header, 1);
  if (kind !== DATA_PAGE && kind !== DATA_PAGE_V2) throw new Error(`it has a page of kind ${kind}`);
  const size = numberAt(header, 2);
  const isV2 = kind === DATA_PAGE_V2;
  const own = structAt(header, isV2 ? 8 : 5);
  const numValues = boundedCount(own, 1, left);
  const encoding = numberAt(own, isV2 ? 4 : 2);
  const levelBits = bitsFor(column.numOptional);
  let levels: Uint8Array;
  let body: Uint8Array;
  if (isV2) {
    const numLevelBytes = boundedCount(own, 5, packed.length);
    if (numberAt(own, 6) !== 0) throw new Error('it has lists in a column');
    levels = packed.subarray(0, numLevelBytes);
    body = packed.subarray(numLevelBytes);
    if (own.get(7) !== false) body = unpack(body, size - numLevelBytes);
  } else {
    body = unpack(packed, size);
    if (levelBits > 0 && numberAt(own, 3) !== RLE) throw new Error('it has levels of an old kind');
    const numLevelBytes = levelBits === 0 ? 0 : 4 + littleEndian(body, 0);
    if (numLevelBytes > body.length) throw new Error('a page of it is truncated');
    levels = body.subarray(Math.min(4, numLevelBytes), numLevelBytes);
    body = body.subarray(numLevelBytes);
  }
  const isThere =
    levelBits === 0
      ? null
      : hybridValues(levels, levelBits, numValues).map((level) =>
          Number(level === column.numOptional),
        );
  const numThere = isThere === null ? numValues : isThere.reduce((sum, one) => sum + one, 0);
  const values = encodedValues(encoding, body, {
    type: column.type,
    numValues: numThere,
    dictionary,
  });
  if (isThere === null) return [...values];
  let at = 0;
  return Array.from(isThere, (one) => (one === 1 ? values[at++] : null));
}

function encodedValues(
  encoding: number,
  body: Uint8Array,
  {
    type,
    numValues,
    dictionary,
  }: { type: ParquetColumn['type']; numValues: number; dictionary: readonly Value[] | null },
): readonly Value[] {
  if (encoding === PLAIN) return plainValues(body, type, numValues);
  if (encoding !== PLAIN_DICTIONARY && encoding !== RLE_DICTIONARY) {
    throw new Error(`it has values in encoding ${encoding}, expected plain ones or a dictionary`);
  }
  if (dictionary === null) throw new Error('a dictionary of it is missing');
  if (numValues === 0) return [];
  const [bits] = body;
  if (!(bits <= 20)) throw new Error('a page of it is damaged');
  return Array.from(hybridValues(body.subarray(1), bits, numValues), (index) => {
    if (index >= dictionary.length) throw new Error('a page of it is damaged');
    return dictionary[index];
  });
}

function plainValues(body: Uint8Array, type: ParquetColumn['type'], numValues: number): Value[] {
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const truncated = () => new Error('a page of it is truncated');
  const values: Value[] = [];
  if (type === 'bytes') {
    for (let at = 0; values.length < numValues;) {
      if (at + 4 > body.length) throw truncated();
      const from = at + 4;
      at = from + view.getUint32(at, true);
      if (at > body.length) throw truncated();
      values.push(body.subarray(from, at));
    }
    return values;
  }
  const numBytes = type === 'int32' ? 4 : 8;
  if (type === 'other' || numBytes * numValues > body.length) throw truncated();
  for (let at = 0; values.length < numValues; at += numBytes) {
    values.push(type === 'int32' ? view.getInt32(at, true) : Number(view.getBigInt64(at, true)));
  }
  return values;
}

/**
 * Numbers of a few bits, in runs of one value and of packed ones.
 *
 * @throws {Error} if there are fewer
 */
function hybridValues(bytes: Uint8Array, bits: number, numValues: number): Uint32Array {
  const values = new Uint32Array(numValues);
  let at = 0;
  let filled = 0;
  while (filled < numValues) {
    let head = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= bytes.length || scale > 2 ** 28) throw new Error('a page of it is damaged');
      const group = bytes[at++];
      head += scale * (group & 127);
      if (group < 128) break;
    }
    const count = Math.floor(head / 2);
    if (head % 2 === 0) {
      const numBytes = Math.ceil(bits / 8);
      if (count === 0 || at + numBytes > bytes.length) throw new Error('a page of it is damaged');
      const to = Math.min(numValues, filled + count);
      values.fill(littleEndian(bytes, at, numBytes), filled, to);
      at += numBytes;
      filled = to;
      continue;
    }
    const to = Math.min(numValues, filled + 8 * count);
    if (count === 0 || at + Math.ceil(((to - filled) * bits) / 8) > bytes.length) {
      throw new Error('a page of it is damaged');
    }
    for (let bit = 8 * at; filled < to; filled++, bit += bits) {
      const word = littleEndian(bytes, bit >> 3, 4);
      values[filled] = Math.floor(word / 2 ** (bit & 7)) % 2 ** bits;
    }
    at += count * bits;
  }
  return values;
}

/** Past the end there are zeros. */
function littleEndian(bytes: Uint8Array, at: number, numBytes = 4): number {
  let value = 0;
  for (let i = 0; i < numBytes; i++) value += (bytes[at + i] ?? 0) * 2 ** (8 * i);
  return value;
}

function bitsFor(max: number): number {
  return 32 - Math.clz32(max);
}

function boundedCount(struct: ThriftStruct, field: number, max: number): number {
  const count = numberAt(struct, field);
  if (count >= 0 && count <= max) return count;
  throw new Error(`its metadata is damaged: ${count} values of at most ${max}`);
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}

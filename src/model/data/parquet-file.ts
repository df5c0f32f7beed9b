/**
 * One Parquet file: its columns of whole numbers and of pictures, page by page. What is read is checked and bounded; what
 * Hugging Face's `datasets` does not write (nested lists, delta encodings, encryption) is refused.
 *
 * https://parquet.apache.org/docs/file-format
 * https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
 */
import { openInput, type InputFile } from '../../shared/node/input-file.js';
import { MAX_IMAGES } from './dataset.js';
import {
  boundedCount,
  DICTIONARY_PAGE,
  MAX_PAGE_BYTES,
  pageValues,
  plainValues,
  unpackerOf,
  type ParquetColumn,
  type Value,
} from './parquet-page.js';
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
const MAX_COLUMNS = 10_000;

const TYPES: Partial<Record<number, ParquetColumn['type']>> = {
  1: 'int32',
  2: 'int64',
  6: 'bytes',
};
const REQUIRED = 0;
const OPTIONAL = 1;
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

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}

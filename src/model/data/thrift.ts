/**
 * Structs in Thrift's compact protocol, as used by Parquet in its metadata and page headers.
 *
 * https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
 */

/** Values by the number of their field. */
export type ThriftStruct = ReadonlyMap<number, ThriftValue>;
export type ThriftValue = boolean | number | Uint8Array | readonly ThriftValue[] | ThriftStruct;

const MAX_DEPTH = 16;
/** Of one struct, with those in it; a struct counts as more, as it takes more memory. */
const MAX_VALUES = 2_000_000;
const STRUCT_VALUES = 8;

const TRUE = 1;
const FALSE = 2;
const BYTE = 3;
const I16 = 4;
const I64 = 6;
const DOUBLE = 7;
const BINARY = 8;
const LIST = 9;
const SET = 10;
const STRUCT = 12;

/** The bytes end within the struct. */
export class ThriftEnd extends Error {}

/**
 * @returns the struct that begins at the first byte, and where it ends; whole numbers beyond 2⁵³ are rounded
 * @throws {ThriftEnd} if it does not end within the bytes
 * @throws {Error} if it is damaged, or has more in it than anyone has written on purpose
 */
export function readThrift(bytes: Uint8Array): { struct: ThriftStruct; end: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  let numValues = 0;

  const byte = (): number => {
    if (at >= bytes.length) throw new ThriftEnd('its metadata is truncated');
    return bytes[at++];
  };
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 63; scale *= 128) {
      const group = byte();
      value += scale * (group & 127);
      if (group < 128) return value;
    }
    throw new Error('its metadata is damaged');
  };
  const zigzag = (): number => {
    const value = varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  };
  const skip = (numBytes: number): number => {
    const from = at;
    if (numBytes > bytes.length - at) throw new ThriftEnd('its metadata is truncated');
    at += numBytes;
    return from;
  };
  const value = (type: number, depth: number): ThriftValue => {
    numValues += type === STRUCT ? STRUCT_VALUES : 1;
    if (numValues > MAX_VALUES || depth > MAX_DEPTH) throw new Error('its metadata is too large');
    if (type === TRUE || type === FALSE) return byte() === TRUE;
    if (type === BYTE) return view.getInt8(skip(1));
    if (type >= I16 && type <= I64) return zigzag();
    if (type === DOUBLE) return view.getFloat64(skip(8), true);
    if (type === BINARY) {
      const from = skip(varint());
      return bytes.subarray(from, at);
    }
    if (type === LIST || type === SET) return list(depth);
    if (type === STRUCT) return struct(depth + 1);
    throw new Error('its metadata is damaged');
  };
  const list = (depth: number): ThriftValue[] => {
    const head = byte();
    const size = head >> 4 === 15 ? varint() : head >> 4;
    const type = head & 15;
    const values: ThriftValue[] = [];
    for (let index = 0; index < size; index++) {
      values.push(value(type, depth + 1));
    }
    return values;
  };
  const struct = (depth: number): ThriftStruct => {
    const fields = new Map<number, ThriftValue>();
    let id = 0;
    for (;;) {
      const head = byte();
      const type = head & 15;
      if (type === 0) return fields;
      id = head >> 4 === 0 ? zigzag() : id + (head >> 4);
      fields.set(id, type === TRUE || type === FALSE ? type === TRUE : value(type, depth));
    }
  };
  return { struct: struct(0), end: at };
}

/** @throws {Error} if the field is missing or of another type */
export function numberAt(struct: ThriftStruct, field: number): number {
  const value = struct.get(field);
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  throw new Error(`its metadata is damaged: field ${field}`);
}

/** @throws {Error} if the field is missing or of another type */
export function textAt(struct: ThriftStruct, field: number): string {
  const value = struct.get(field);
  if (value instanceof Uint8Array) return textOf(value);
  throw new Error(`its metadata is damaged: field ${field}`);
}

/** @throws {Error} if the field is missing or of another type */
export function structAt(struct: ThriftStruct, field: number): ThriftStruct {
  const value = struct.get(field);
  if (value instanceof Map) return value as ThriftStruct;
  throw new Error(`its metadata is damaged: field ${field}`);
}

/** @throws {Error} if the field is no list of structs */
export function structsAt(struct: ThriftStruct, field: number): readonly ThriftStruct[] {
  const value = struct.get(field);
  if (Array.isArray(value) && value.every((one) => one instanceof Map)) return value;
  throw new Error(`its metadata is damaged: field ${field}`);
}

/** @throws {Error} if the field is no list of texts */
export function textsAt(struct: ThriftStruct, field: number): readonly string[] {
  const value = struct.get(field);
  if (Array.isArray(value) && value.every((one) => one instanceof Uint8Array)) {
    return value.map(textOf);
  }
  throw new Error(`its metadata is damaged: field ${field}`);
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString();
}

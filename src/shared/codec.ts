/**
 * Messages ⇄ frames: msgpack, and the schemas of the protocol. The only file that imports msgpackr.
 */
import { Packr } from 'msgpackr';
import type * as z from 'zod';
import { frameBytes, joinFrame, type Frame } from './channel.js';
import { ProtocolError } from './errors.js';
import { checkShape, notAFrame } from './frame-shape.js';
import {
  coordinatorMessageSchema,
  workerMessageSchema,
  type CoordinatorMessage,
  type WorkerMessage,
} from './protocol.js';

/** Plain msgpack maps, no extension: any msgpack library can read them. */
const packr = new Packr({
  useRecords: false,
  variableMapSize: true,
  structuredClone: false,
  int64AsType: 'number',
});

/** Values and keys in a message of a worker: an honest `hello` has 23. */
const MAX_WORKER_ITEMS = 64;
/** In one of the coordinator: scattered ranges are the most. */
const MAX_COORDINATOR_ITEMS = 262_144;

/**
 * The field of a message whose bytes follow the map instead of standing in it, where its length stands: so the longest
 * part of a message is never copied on its way to the socket, nor out of what came from it.
 */
const TAILS: ReadonlyMap<unknown, string> = new Map([
  ['ready', 'proof'],
  ['partial', 'gradient'],
  ['gradientSlice', 'values'],
  ['paramsSlice', 'values'],
  ['samples', 'pixels'],
  ['step', 'params'],
  ['evaluate', 'params'],
]);

/**
 * The frame of a message: a msgpack map, then the bytes of its tail. Typed arrays must have been made bytes (`bytesOf`);
 * the memory of the tail is the message's own.
 */
export function encode(message: WorkerMessage | CoordinatorMessage): Frame {
  const name = TAILS.get(message.type);
  if (name === undefined) return [pack(message)];
  const tail = (message as Readonly<Record<string, unknown>>)[name];
  if (!(tail instanceof Uint8Array)) return [pack(message)];
  return [pack({ ...message, [name]: tail.length }), tail];
}

function pack(map: object): Uint8Array {
  packr.useBuffer(allocate(payloadBytes(map) + ROOM_BYTES));
  return packr.pack(map);
}

/** Memory that need not be zeroed, in Node; msgpackr types it as its Buffer, and takes any bytes in a browser. */
const allocate: (numBytes: number) => Buffer =
  typeof Buffer === 'undefined'
    ? (numBytes) => new Uint8Array(numBytes) as Buffer
    : (numBytes) => Buffer.allocUnsafeSlow(numBytes);

/** Room for what is not bytes: msgpackr takes four times as much as it needs when it has to make room itself. */
const ROOM_BYTES = 8 * 1024;

function payloadBytes(map: object): number {
  return frameBytes(Object.values(map).filter((value) => value instanceof Uint8Array));
}

/** @throws {ProtocolError} `malformed` */
export function decodeWorkerMessage(frame: Frame): WorkerMessage {
  return decode(workerMessageSchema, frame, MAX_WORKER_ITEMS);
}

/** @throws {ProtocolError} `malformed` */
export function decodeCoordinatorMessage(frame: Frame): CoordinatorMessage {
  return decode(coordinatorMessageSchema, frame, MAX_COORDINATOR_ITEMS);
}

function decode<T>(schema: z.ZodType<T>, frame: Frame, maxItems: number): T {
  const [map, tail] = cut(frame, maxItems);
  let value: unknown;
  try {
    value = packr.unpack(map);
  } catch (error) {
    throw new ProtocolError('malformed', 'Not a frame of the protocol: msgpackr cannot read it', {
      cause: error,
    });
  }
  const parsed = schema.safeParse(withTail(value, tail));
  if (parsed.success) return parsed.data;
  throw new ProtocolError('malformed', `Not a message of the protocol: ${describe(parsed.error)}`);
}

/** The map and the tail of a frame: two pieces as they are sent, others where something between has cut them anew. */
function cut(frame: Frame, maxItems: number): readonly [map: Uint8Array, tail: Uint8Array] {
  if (frame.length === 2 && isWhole(frame[0], maxItems)) return [frame[0], frame[1]];
  const whole = joinFrame(frame);
  const end = checkShape(whole, maxItems);
  return [whole.subarray(0, end), whole.subarray(end)];
}

function isWhole(piece: Uint8Array, maxItems: number): boolean {
  try {
    return checkShape(piece, maxItems) === piece.length;
  } catch {
    return false;
  }
}

/** The map with the bytes of its tail in their place. @throws {ProtocolError} if they are not as many as it says */
function withTail(value: unknown, tail: Uint8Array): unknown {
  const map = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  const name = TAILS.get(map.type);
  const numBytes = name === undefined ? null : map[name];
  if ((numBytes ?? 0) !== tail.length) throw notAFrame(`${tail.length} bytes after its map`);
  return name !== undefined && numBytes === tail.length ? { ...map, [name]: tail } : value;
}

/** In words that are the schema's own: nothing that came is repeated, however it is called. */
function describe({ issues: [issue] }: z.ZodError): string {
  if (issue.code === 'unrecognized_keys') return 'a field that it does not have';
  // The first part is a field of the message; what follows may be the sender's.
  return issue.path.length > 0 ? `${issue.message} in ${String(issue.path[0])}` : issue.message;
}

/** The bytes of a typed array, not copied. Every platform that Node runs on is little-endian. */
export function bytesOf(
  array: Float32Array | Uint32Array | Uint16Array | Float64Array,
): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/**
 * The float32 values in the bytes of a message: a view of its memory where that is aligned, else a copy.
 *
 * @throws {ProtocolError} `malformed` if there are not `length` of them
 */
export function float32From(bytes: Uint8Array, length: number, what: string): Float32Array {
  checkLength(bytes, 4 * length, what);
  return bytes.byteOffset % 4 === 0
    ? new Float32Array(bytes.buffer, bytes.byteOffset, length)
    : new Float32Array(alignedCopy(bytes, 4 * length, what));
}

/** As `float32From`, copied into an array that is there already. */
export function copyFloat32(bytes: Uint8Array, into: Float32Array, what: string): void {
  checkLength(bytes, into.byteLength, what);
  bytesOf(into).set(bytes);
}

/** As `float32From`, copied, for uint32 values; any whole number of them if `length` is not given. */
export function uint32From(bytes: Uint8Array, what: string, length?: number): Uint32Array {
  const numBytes = length === undefined ? bytes.length - (bytes.length % 4) : 4 * length;
  return new Uint32Array(alignedCopy(bytes, numBytes, what));
}

/** As `uint32From`, for uint16 values. */
export function uint16From(bytes: Uint8Array, what: string, length?: number): Uint16Array {
  const numBytes = length === undefined ? bytes.length - (bytes.length % 2) : 2 * length;
  return new Uint16Array(alignedCopy(bytes, numBytes, what));
}

function alignedCopy(bytes: Uint8Array, expectedBytes: number, what: string): ArrayBuffer {
  checkLength(bytes, expectedBytes, what);
  const copy = new ArrayBuffer(bytes.length);
  new Uint8Array(copy).set(bytes);
  return copy;
}

function checkLength(bytes: Uint8Array, expectedBytes: number, what: string): void {
  if (bytes.length === expectedBytes) return;
  throw new ProtocolError(
    'malformed',
    `Wrong length of ${what}: ${bytes.length} bytes, expected ${expectedBytes}`,
  );
}

/**
 * Messages ⇄ frames: msgpack, and the schemas of the protocol. The only file that knows msgpackr.
 */
import { Packr } from 'msgpackr';
import type * as z from 'zod';
import { ProtocolError } from './errors.js';
import { checkShape } from './frame-shape.js';
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
/** In one of the coordinator: `shards` of many workers with scattered ranges are the most. */
const MAX_COORDINATOR_ITEMS = 262_144;

/** The frame of a message; typed arrays must have been made bytes (`bytesOf`). */
export function encode(message: WorkerMessage | CoordinatorMessage): Uint8Array {
  packr.useBuffer(allocate(payloadBytes(message) + ROOM_BYTES));
  return packr.pack(message);
}

/** Memory that need not be zeroed, in Node; msgpackr types it as its Buffer, and takes any bytes in a browser. */
const allocate: (numBytes: number) => Buffer =
  typeof Buffer === 'undefined'
    ? (numBytes) => new Uint8Array(numBytes) as Buffer
    : (numBytes) => Buffer.allocUnsafeSlow(numBytes);

/** Room for what is not bytes: msgpackr takes four times as much as it needs when it has to make room itself. */
const ROOM_BYTES = 8 * 1024;

function payloadBytes(message: WorkerMessage | CoordinatorMessage): number {
  let numBytes = 0;
  for (const value of Object.values(message))
    if (value instanceof Uint8Array) numBytes += value.length;
  return numBytes;
}

/** @throws {ProtocolError} `malformed` */
export function decodeWorkerMessage(frame: Uint8Array): WorkerMessage {
  return decode(workerMessageSchema, frame, MAX_WORKER_ITEMS);
}

/** @throws {ProtocolError} `malformed` */
export function decodeCoordinatorMessage(frame: Uint8Array): CoordinatorMessage {
  return decode(coordinatorMessageSchema, frame, MAX_COORDINATOR_ITEMS);
}

function decode<T>(schema: z.ZodType<T>, frame: Uint8Array, maxItems: number): T {
  checkShape(frame, maxItems);
  let value: unknown;
  try {
    value = packr.unpack(frame);
  } catch (error) {
    throw new ProtocolError('malformed', 'Not a frame of the protocol: msgpackr cannot read it', {
      cause: error,
    });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new ProtocolError('malformed', `Not a message of the protocol: ${describe(parsed.error)}`);
}

/** In words that are the schema's own: nothing that came is repeated, however it is called. */
function describe({ issues: [issue] }: z.ZodError): string {
  if (issue.code === 'unrecognized_keys') return 'a field that it does not have';
  // The first part is a field of the message; what follows may be the sender's, such as a key of `shards`.
  return issue.path.length > 0 ? `${issue.message} in ${String(issue.path[0])}` : issue.message;
}

/** The bytes of a typed array, not copied. Every platform that Node runs on is little-endian. */
export function bytesOf(
  array: Float32Array | Uint32Array | Uint16Array | Float64Array,
): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/**
 * The float32 values in the bytes of a message, copied (a frame's fields are not aligned).
 *
 * @throws {ProtocolError} `malformed` if there are not `length` of them
 */
export function float32From(bytes: Uint8Array, length: number, what: string): Float32Array {
  return new Float32Array(alignedCopy(bytes, 4 * length, what));
}

/** As `float32From`, into an array that is there already. */
export function copyFloat32(bytes: Uint8Array, into: Float32Array, what: string): void {
  checkLength(bytes, into.byteLength, what);
  bytesOf(into).set(bytes);
}

/** As `float32From`, for uint32 values; any whole number of them if `length` is not given. */
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

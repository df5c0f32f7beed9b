/**
 * A reader of TensorBoard's event files that shares nothing with their writer: protobufjs on a .proto, and the
 * checksums of the package crc-32.
 */
import crc32c from 'crc-32/crc32c.js';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';

interface HistogramMessage {
  readonly min: number;
  readonly max: number;
  readonly num: number;
  readonly sum: number;
  readonly sumSquares: number;
  readonly bucketLimit: number[];
  readonly bucket: number[];
}

export interface EventMessage {
  readonly wallTime: number;
  readonly step: number;
  readonly fileVersion?: string;
  readonly sessionLog?: { readonly status: string };
  readonly summary?: {
    readonly value: {
      readonly tag: string;
      readonly simpleValue?: number;
      readonly histo?: HistogramMessage;
    }[];
  };
}

const proto = await protobuf.load(
  fileURLToPath(new URL('./tensorboard-event.proto', import.meta.url)),
);
const Event = proto.lookupType('tensorflow.Event');

/** All events of the files in a folder, in the order of their names. */
export async function readEventFiles(folder: string): Promise<EventMessage[]> {
  const names = (await readdir(folder)).sort();
  const files = await Promise.all(names.map((name) => readFile(join(folder, name))));
  return files.flatMap((bytes) => readRecords(bytes)).map(decodeEvent);
}

/** @throws {Error} if a checksum is wrong or the last record is cut */
export function readRecords(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const records: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = Number(view.getBigUint64(at, true));
    check(bytes.subarray(at, at + 8), view.getUint32(at + 8, true));
    const data = bytes.subarray(at + 12, at + 12 + length);
    check(data, view.getUint32(at + 12 + length, true));
    records.push(data);
    at += 12 + length + 4;
  }
  return records;
}

function check(bytes: Uint8Array, masked: number): void {
  // The mask undone, as a reader does: rotate left by 15
  const rotated = (masked - 0xa282ead8) >>> 0;
  const expected = ((rotated >>> 17) | (rotated << 15)) >>> 0;
  const actual = crc32c.buf(bytes) >>> 0;
  if (actual !== expected) throw new Error(`Wrong CRC: ${actual}, expected ${expected}`);
}

function decodeEvent(data: Uint8Array): EventMessage {
  const options = { longs: Number, enums: String, arrays: true };
  // protobufjs leaves out a field that has its default
  return { step: 0, ...Event.toObject(Event.decode(data), options) } as EventMessage;
}

/**
 * ZIP archives in memory: entries that are stored or deflated. Sizes are those of the central directory, and bounded.
 *
 * https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16
 */
import { crc32, inflateRawSync } from 'node:zlib';

const END_SIGNATURE = 0x06054b50;
const ENTRY_SIGNATURE = 0x02014b50;
const LOCAL_SIGNATURE = 0x04034b50;
const END_BYTES = 22;
const ENTRY_BYTES = 46;
const LOCAL_BYTES = 30;
const STORED = 0;
const DEFLATED = 8;

export interface ZipEntry {
  readonly name: string;
  /** Unpacked. */
  readonly size: number;
  /** @throws {Error} if the entry is damaged or packed in a way that is not known */
  read(): Uint8Array;
}

/** @throws {Error} if the bytes are no sound archive */
export function zipEntries(bytes: Uint8Array): ZipEntry[] {
  const zip = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const end = endOf(zip);
  const entries: ZipEntry[] = [];
  let at = zip.readUInt32LE(end + 16);
  for (let left = zip.readUInt16LE(end + 10); left > 0; left--) {
    if (at + ENTRY_BYTES > end || zip.readUInt32LE(at) !== ENTRY_SIGNATURE) {
      throw new Error('its directory is damaged');
    }
    const nameLength = zip.readUInt16LE(at + 28);
    const name = zip.toString('utf8', at + ENTRY_BYTES, at + ENTRY_BYTES + nameLength);
    const size = zip.readUInt32LE(at + 24);
    const entry = {
      method: zip.readUInt16LE(at + 10),
      checksum: zip.readUInt32LE(at + 16),
      packedSize: zip.readUInt32LE(at + 20),
      size,
      local: zip.readUInt32LE(at + 42),
    };
    entries.push({ name, size, read: () => readEntry(zip, name, entry) });
    at += ENTRY_BYTES + nameLength + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32);
  }
  return entries;
}

/** Where the end of the directory begins: it is followed by a comment of up to 65,535 bytes. */
function endOf(zip: Buffer): number {
  for (let at = zip.length - END_BYTES; at >= Math.max(0, zip.length - END_BYTES - 65_535); at--) {
    if (zip.readUInt32LE(at) === END_SIGNATURE) return at;
  }
  throw new Error('it is no ZIP archive, or truncated');
}

function readEntry(
  zip: Buffer,
  name: string,
  entry: { method: number; checksum: number; packedSize: number; size: number; local: number },
): Uint8Array {
  const { method, checksum, packedSize, size, local } = entry;
  if (local + LOCAL_BYTES > zip.length || zip.readUInt32LE(local) !== LOCAL_SIGNATURE) {
    throw new Error(`its entry ${name} is damaged`);
  }
  const from = local + LOCAL_BYTES + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28);
  const packed = zip.subarray(from, from + packedSize);
  if (packed.length < packedSize) throw new Error(`its entry ${name} is truncated`);
  if (method !== STORED && method !== DEFLATED) {
    throw new Error(`its entry ${name} is packed by method ${method}, expected stored or deflated`);
  }
  const unpacked =
    method === STORED ? packed : inflateRawSync(packed, { maxOutputLength: size || 1 });
  if (unpacked.length !== size || crc32(unpacked) !== checksum) {
    throw new Error(`its entry ${name} is damaged`);
  }
  return new Uint8Array(unpacked.buffer, unpacked.byteOffset, size);
}

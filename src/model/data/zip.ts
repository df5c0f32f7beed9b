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

/** An archive of files, stored as they are: the same files give the same bytes. */
export function zipOf(
  files: readonly { readonly name: string; readonly bytes: Uint8Array }[],
): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, bytes } of files) {
    const nameBytes = Buffer.from(name);
    // What both headers have: version 2.0, UTF-8, stored, 1 January 1980, checksum, sizes, length of the name.
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x0800, 2);
    common.writeUInt16LE(STORED, 4);
    common.writeUInt16LE(0x0021, 8);
    common.writeUInt32LE(crc32(bytes), 10);
    common.writeUInt32LE(bytes.length, 14);
    common.writeUInt32LE(bytes.length, 18);
    common.writeUInt16LE(nameBytes.length, 22);
    const local = Buffer.alloc(LOCAL_BYTES);
    local.writeUInt32LE(LOCAL_SIGNATURE);
    common.copy(local, 4);
    const entry = Buffer.alloc(ENTRY_BYTES);
    entry.writeUInt32LE(ENTRY_SIGNATURE);
    entry.writeUInt16LE(20, 4);
    common.copy(entry, 6);
    entry.writeUInt32LE(offset, 42);
    parts.push(local, nameBytes, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    directory.push(entry, nameBytes);
    offset += LOCAL_BYTES + nameBytes.length + bytes.length;
  }
  const directoryBytes = Buffer.concat(directory);
  const end = Buffer.alloc(END_BYTES);
  end.writeUInt32LE(END_SIGNATURE);
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(directoryBytes.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, directoryBytes, end]);
}

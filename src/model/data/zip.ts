/**
 * ZIP archives: stored or deflated entries, read one by one. Sizes are taken from the central directory, and bounded.
 *
 * https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16
 */
import { crc32, inflateRawSync } from 'node:zlib';
import type { InputFile } from '../../shared/node/input-file.js';
import { checkRatio } from '../../shared/node/unpack.js';
import { shorten } from '../../shared/option.js';

const END_SIGNATURE = 0x06054b50;
const ENTRY_SIGNATURE = 0x02014b50;
const LOCAL_SIGNATURE = 0x04034b50;
const END_BYTES = 22;
const ENTRY_BYTES = 46;
const LOCAL_BYTES = 30;
const STORED = 0;
const DEFLATED = 8;
/** Of the directory; one of 65,535 entries with names of forty letters has as much. */
const MAX_DIRECTORY_BYTES = 2 ** 23;
const MAX_COMMENT_BYTES = 65_535;

export interface ZipEntry {
  readonly name: string;
  /** Unpacked. */
  readonly size: number;
  /** @throws {Error} if the entry is damaged or packed in a way that is not known */
  read(): Promise<Uint8Array>;
}

/** @param file stays open as long as entries are read  @throws {Error} if it is no sound archive */
export async function zipEntries(file: InputFile): Promise<ZipEntry[]> {
  const { directory, numEntries } = await readDirectory(file);
  const entries: ZipEntry[] = [];
  let at = 0;
  for (let left = numEntries; left > 0; left--) {
    if (at + ENTRY_BYTES > directory.length || directory.readUInt32LE(at) !== ENTRY_SIGNATURE) {
      throw new Error('its directory is damaged');
    }
    const nameLength = directory.readUInt16LE(at + 28);
    const name = directory.toString('utf8', at + ENTRY_BYTES, at + ENTRY_BYTES + nameLength);
    const size = directory.readUInt32LE(at + 24);
    const entry = {
      method: directory.readUInt16LE(at + 10),
      checksum: directory.readUInt32LE(at + 16),
      packedSize: directory.readUInt32LE(at + 20),
      size,
      local: directory.readUInt32LE(at + 42),
    };
    entries.push({ name, size, read: () => readEntry(file, shorten(name), entry) });
    const restLength = directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
    at += ENTRY_BYTES + nameLength + restLength;
  }
  return entries;
}

/** The directory stands before the end of the archive, which is followed by a comment. */
async function readDirectory(
  file: InputFile,
): Promise<{ readonly directory: Buffer; readonly numEntries: number }> {
  const tailAt = Math.max(0, file.size - END_BYTES - MAX_COMMENT_BYTES);
  const tail = Buffer.from((await file.read(tailAt, file.size - tailAt)).buffer);
  for (let at = tail.length - END_BYTES; at >= 0; at--) {
    if (tail.readUInt32LE(at) !== END_SIGNATURE) continue;
    const from = tail.readUInt32LE(at + 16);
    const numBytes = tailAt + at - from;
    if (numBytes < 0 || numBytes > MAX_DIRECTORY_BYTES) throw new Error('its directory is damaged');
    const directory = Buffer.from((await file.read(from, numBytes)).buffer);
    return { directory, numEntries: tail.readUInt16LE(at + 10) };
  }
  throw new Error('it is no ZIP archive, or truncated');
}

async function readEntry(
  file: InputFile,
  name: string,
  entry: { method: number; checksum: number; packedSize: number; size: number; local: number },
): Promise<Uint8Array> {
  const { method, checksum, packedSize, size, local } = entry;
  if (method !== STORED && method !== DEFLATED) {
    throw new Error(`its entry ${name} is packed by method ${method}, expected stored or deflated`);
  }
  if (local + LOCAL_BYTES > file.size) throw new Error(`its entry ${name} is truncated`);
  const header = Buffer.from((await file.read(local, LOCAL_BYTES)).buffer);
  if (header.readUInt32LE(0) !== LOCAL_SIGNATURE) throw new Error(`its entry ${name} is damaged`);
  const from = local + LOCAL_BYTES + header.readUInt16LE(26) + header.readUInt16LE(28);
  if (from + packedSize > file.size) throw new Error(`its entry ${name} is truncated`);
  if (method === STORED && packedSize !== size) throw new Error(`its entry ${name} is damaged`);
  checkRatio(packedSize, size);
  const packed = await file.read(from, packedSize);
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

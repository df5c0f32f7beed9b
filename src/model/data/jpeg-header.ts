/** The header of a JPEG file: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B. */

const APP1 = 0xe1;
const START_OF_SCAN = 0xda;
const ORIENTATION_TAG = 0x0112;

/** The segments before the first scan: what follows their length. */
function* segmentsOf(bytes: Uint8Array): Generator<{ marker: number; data: DataView }> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 2;
  while (at + 4 <= bytes.length) {
    if (bytes[at] !== 0xff) throw new Error('it is a damaged JPEG file (a marker is missing)');
    const marker = bytes[at + 1];
    if (marker === 0xff) {
      at++;
      continue;
    }
    const length = view.getUint16(at + 2);
    if (marker === START_OF_SCAN) return;
    if (length < 2 || at + 2 + length > bytes.length) break;
    yield { marker, data: new DataView(view.buffer, view.byteOffset + at + 4, length - 2) };
    at += 2 + length;
  }
  throw new Error('it is a truncated JPEG file');
}

/** @throws {Error} if the file does not say it, or says it twice */
export function jpegSize(bytes: Uint8Array): { width: number; height: number } {
  const frames = [...segmentsOf(bytes)].filter(
    // Start of frame: C0 to CF without the tables C4, C8 and CC.
    ({ marker }) => marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker),
  );
  if (frames.length !== 1 || frames[0].data.byteLength < 6) {
    throw new Error('it is a damaged JPEG file (its frame header is wrong)');
  }
  const { data } = frames[0];
  return { height: data.getUint16(1), width: data.getUint16(3) };
}

/** 1 to 8, as EXIF has it; 1, upright, where nothing sound is said. */
export function exifOrientation(bytes: Uint8Array): number {
  for (const { marker, data } of segmentsOf(bytes)) {
    if (marker !== APP1 || data.byteLength < 14 || data.getUint32(0) !== 0x45786966) continue;
    const isLittle = data.getUint16(6) === 0x4949;
    const tiff = new DataView(data.buffer, data.byteOffset + 6, data.byteLength - 6);
    const directory = tiff.getUint32(4, isLittle);
    if (directory + 2 > tiff.byteLength) return 1;
    const numEntries = tiff.getUint16(directory, isLittle);
    for (let entry = 0; entry < numEntries; entry++) {
      const at = directory + 2 + 12 * entry;
      if (at + 12 > tiff.byteLength) return 1;
      if (tiff.getUint16(at, isLittle) !== ORIENTATION_TAG) continue;
      const orientation = tiff.getUint16(at + 8, isLittle);
      return orientation >= 1 && orientation <= 8 ? orientation : 1;
    }
  }
  return 1;
}

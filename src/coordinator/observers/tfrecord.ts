/**
 * The framing of TensorBoard's event files: records with a length and two checksums.
 *
 *   uint64 length, uint32 masked CRC-32C of the length's bytes, data, uint32 masked CRC-32C of the data
 *
 * https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details; little-endian throughout.
 */

/** @returns the frame, a fresh buffer */
export function frameRecord(data: Uint8Array): Uint8Array {
  const frame = new Uint8Array(12 + data.length + 4);
  const view = new DataView(frame.buffer);
  view.setUint32(0, data.length, true); // the upper half stays zero
  view.setUint32(8, maskedCrc32c(frame.subarray(0, 8)), true);
  frame.set(data, 12);
  view.setUint32(12 + data.length, maskedCrc32c(data), true);
  return frame;
}

/** A checksum of data that holds checksums is weak; the mask makes it another function. */
function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** CRC-32C (Castagnoli), reflected polynomial 0x82f63b78; RFC 3720, appendix B.4. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  // eslint-disable-next-line @typescript-eslint/prefer-for-of -- twice as fast
  for (let i = 0; i < bytes.length; i++) crc = TABLE[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffff_ffff) >>> 0;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

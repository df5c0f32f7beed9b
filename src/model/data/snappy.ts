/**
 * Blocks compressed with Snappy.
 *
 * https://github.com/google/snappy/blob/main/format_description.txt
 */

/**
 * @param size of the unpacked bytes
 * @throws {Error} if the block is damaged or unpacks to another size
 */
export function unpackSnappy(packed: Uint8Array, size: number): Uint8Array {
  const damaged = (): never => {
    throw new Error('it is damaged: a page cannot be unpacked');
  };
  let from = 0;
  /** Little-endian; past the end there are zeros, and then what is missing shows. */
  const number = (numBytes: number): number => {
    let value = 0;
    for (let i = 0; i < numBytes; i++) value += (packed[from++] ?? 0) * 2 ** (8 * i);
    return value;
  };
  let promised = 0;
  for (let scale = 1; ; scale *= 128) {
    const group = number(1);
    promised += scale * (group & 127);
    if (group < 128) break;
    if (scale > 2 ** 28) damaged();
  }
  if (promised !== size) damaged();
  const unpacked = new Uint8Array(size);
  let to = 0;
  while (from < packed.length) {
    const tag = packed[from++];
    const kind = tag & 3;
    if (kind === 0) {
      const short = tag >> 2;
      const length = 1 + (short < 60 ? short : number(short - 59));
      if (length > packed.length - from || length > size - to) damaged();
      unpacked.set(packed.subarray(from, from + length), to);
      from += length;
      to += length;
      continue;
    }
    const length = kind === 1 ? 4 + ((tag >> 2) & 7) : 1 + (tag >> 2);
    const offset = kind === 1 ? ((tag >> 5) << 8) + number(1) : number(kind === 2 ? 2 : 4);
    if (offset < 1 || offset > to || length > size - to) damaged();
    // The copy may overlap what it makes.
    for (const end = to + length; to < end; to++) unpacked[to] = unpacked[to - offset];
  }
  if (to !== size || from !== packed.length) damaged();
  return unpacked;
}

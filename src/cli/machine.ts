/** The requirements on the machine, checked before anything else. */

/**
 * Frames, files and WebAssembly's memory hold little-endian numbers, which typed arrays read as they are.
 *
 * @param byteOrder of the machine, as `os.endianness()` says it
 * @returns why Lockstep cannot run here; null if it can
 */
export function whyNotHere(byteOrder: 'BE' | 'LE'): string | null {
  if (byteOrder === 'LE') return null;
  return 'Cannot run on a big-endian machine: numbers would have different bits; use a little-endian one, such as x86-64 or ARM64';
}

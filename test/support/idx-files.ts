/** IDX files made in memory, and folders of them. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

/** An IDX file with the header as given, which need not fit the body. */
export function idxFile(header: readonly number[], body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(header.length * 4 + body.length);
  const view = new DataView(bytes.buffer);
  header.forEach((word, index) => view.setUint32(index * 4, word));
  bytes.set(body, header.length * 4);
  return bytes;
}

export function imagesFile(images: Uint8Array, size = 28): Uint8Array {
  return idxFile([0x803, images.length / size ** 2, size, size], images);
}

export function labelsFile(labels: ArrayLike<number>): Uint8Array {
  return idxFile([0x801, labels.length], Uint8Array.from(labels));
}

/** Runs `use` with a temporary folder of those files; what is named `.gz` is gzipped. */
export async function withFolder<T>(
  files: Readonly<Record<string, Uint8Array>>,
  use: (dir: string) => Promise<T>,
): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'lockstep-'));
  try {
    for (const [name, bytes] of Object.entries(files)) {
      await writeFile(join(dir, name), name.endsWith('.gz') ? gzipSync(bytes) : bytes);
    }
    return await use(dir);
  } finally {
    await rm(dir, { recursive: true });
  }
}

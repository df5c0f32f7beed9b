/** Folders of tiny pictures, and caches that are the test's own. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { encode as encodePng } from 'fast-png';
import jpeg from 'jpeg-js';
import { onTestFinished } from 'vitest';
import { temporaryDirectory } from './temporary-directory.js';

/** An RGB picture, each pixel by its place. */
export function png(
  width: number,
  height: number,
  pixel: (row: number, column: number) => readonly number[],
): Uint8Array {
  const data = Uint8Array.from(
    Array.from({ length: width * height }, (_, i) =>
      pixel(Math.floor(i / width), i % width),
    ).flat(),
  );
  return encodePng({ width, height, channels: 3, depth: 8, data });
}

/** The same as JPEG. */
export function jpg(
  width: number,
  height: number,
  pixel: (row: number, column: number) => readonly number[],
): Uint8Array {
  const data = Uint8Array.from(
    Array.from({ length: width * height }, (_, i) => [
      ...pixel(Math.floor(i / width), i % width),
      255,
    ]).flat(),
  );
  return new Uint8Array(jpeg.encode({ width, height, data }, 95).data);
}

/** A picture of one colour, told from others by its first pixel. */
export function plain(color: readonly number[], serial = 0, size = 12): Uint8Array {
  return png(size, size, (row, column) => (row + column === 0 ? [serial, 0, 0] : color));
}

/** A fresh folder of those files, gone after the test; its cache is the test's own. */
export async function folderOf(files: Readonly<Record<string, Uint8Array>>): Promise<string> {
  const dir = join(await temporaryDirectory(), 'pictures');
  for (const [name, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await writeFile(join(dir, name), bytes);
  }
  await ownCache();
  return dir;
}

async function ownCache(): Promise<void> {
  const before = process.env.XDG_CACHE_HOME;
  process.env.XDG_CACHE_HOME = await temporaryDirectory();
  onTestFinished(() => {
    if (before === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = before;
  });
}

const COLORS = { blue: [0, 0, 255], green: [0, 255, 0], red: [255, 0, 0] } as const;

/** Three classes of coloured pictures. */
export function coloredFiles(numTrain: number, numTest: number): Record<string, Uint8Array> {
  return Object.fromEntries(
    Object.entries(COLORS).flatMap(([name, color], label) => [
      ...Array.from(
        { length: numTrain },
        (_, i) => [`train/${name}/${i}.png`, plain(color, i)] as const,
      ),
      ...Array.from(
        { length: numTest },
        (_, i) => [`test/${name}/${i}.png`, plain(color, 100 + label + 3 * i)] as const,
      ),
    ]),
  );
}

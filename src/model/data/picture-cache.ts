/**
 * The images of a folder of pictures, or of Parquet files, ready for the next time, in the system's folder for caches: that of the pictures
 * may be read-only. One file a folder, replaced whole.
 *
 *   SHA-256 of all that follows (32 bytes), length of the header (uint32, little-endian), header (JSON),
 *   labels (n uint16, little-endian), images (n · C · H · W bytes); the training images first
 */
import { createHash } from 'node:crypto';
import { homedir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import { inputShapeSchema } from '../../shared/config.js';
import { updateInPieces } from '../../shared/node/hash.js';
import { readInput } from '../../shared/node/input-file.js';
import { fileStorage } from '../../shared/node/storage.js';
import { imageBytes, MAX_CLASS_NAME, MAX_CLASSES, type InputShape } from '../lenet.js';
import { MAX_IMAGES, MAX_IMAGES_BYTES } from './dataset.js';

const DIGEST_BYTES = 32;
const HEADER_AT = DIGEST_BYTES + 4;
/** Bytes of everything but the images. */
const MAX_REST_BYTES = 2 ** 28;

const headerSchema = z.object({
  /** Changes with whatever the images depend on. */
  key: z.string(),
  input: inputShapeSchema,
  classNames: z.array(z.string().min(1).max(MAX_CLASS_NAME)).min(2).max(MAX_CLASSES),
  numTrain: z.number().int().min(1).max(MAX_IMAGES),
  numImages: z.number().int().min(2).max(MAX_IMAGES),
  /** Pictures that were left out, each with the reason. */
  bad: z.array(z.string()),
});

export interface Packed {
  readonly key: string;
  readonly input: InputShape;
  readonly classNames: readonly string[];
  readonly numTrain: number;
  readonly bad: readonly string[];
  /** (n,) */
  readonly labels: Uint16Array;
  /** (n, C, H, W) */
  readonly images: Uint8Array;
  /** The whole file. */
  readonly bytes: Uint8Array;
}

/** Images put in order, as they stand in the file: `order[i]` is where image i is in `images`. */
export function packPictures({
  labels,
  images,
  order,
  ...rest
}: Omit<Packed, 'bytes'> & { readonly order: readonly number[] }): Packed {
  const { key, input, classNames, numTrain, bad } = rest;
  const header = Buffer.from(
    JSON.stringify({ key, input, classNames, numTrain, numImages: order.length, bad }),
  );
  const numBytes = imageBytes(input);
  const labelsAt = HEADER_AT + header.length;
  const imagesAt = labelsAt + 2 * order.length;
  const bytes = new Uint8Array(imagesAt + order.length * numBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(DIGEST_BYTES, header.length, true);
  bytes.set(header, HEADER_AT);
  labels.forEach((label, index) => view.setUint16(labelsAt + 2 * index, label, true));
  order.forEach((at, index) => {
    bytes.set(images.subarray(at * numBytes, (at + 1) * numBytes), imagesAt + index * numBytes);
  });
  bytes.set(digestOf(bytes));
  return { ...rest, labels, images: bytes.subarray(imagesAt), bytes };
}

/** What was written under this key; null if there is nothing, or it is damaged or of another key. */
export async function readCache(path: string, key: string): Promise<Packed | null> {
  try {
    return unpack(await readInput(path, MAX_IMAGES_BYTES + MAX_REST_BYTES), key);
  } catch {
    return null;
  }
}

/** @throws {Error} if the folder cannot be written to */
export async function writeCache(path: string, { bytes }: Packed): Promise<void> {
  await fileStorage.writeDurably(path, bytes);
}

function unpack(bytes: Uint8Array, key: string): Packed | null {
  if (!digestOf(bytes).equals(bytes.subarray(0, DIGEST_BYTES))) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const labelsAt = HEADER_AT + view.getUint32(DIGEST_BYTES, true);
  const header = headerSchema.parse(
    JSON.parse(new TextDecoder().decode(bytes.subarray(HEADER_AT, labelsAt))),
  );
  const { numImages, numTrain, input, classNames } = header;
  const imagesAt = labelsAt + 2 * numImages;
  const isWhole = bytes.length === imagesAt + numImages * imageBytes(input);
  if (header.key !== key || !isWhole || numTrain >= numImages) return null;
  const labels = Uint16Array.from({ length: numImages }, (_, index) =>
    view.getUint16(labelsAt + 2 * index, true),
  );
  if (labels.some((label) => label >= classNames.length)) return null;
  return { ...header, labels, images: bytes.subarray(imagesAt), bytes };
}

function digestOf(bytes: Uint8Array): Buffer {
  const hash = createHash('sha256');
  updateInPieces(hash, bytes.subarray(DIGEST_BYTES));
  return hash.digest();
}

/** Of the pictures with this absolute path. */
export function cachePathOf(dir: string): string {
  const name = createHash('sha256').update(dir).digest('hex').slice(0, 32);
  return join(systemCacheDir(), 'lockstep', 'datasets', name);
}

function systemCacheDir(): string {
  const { XDG_CACHE_HOME, LOCALAPPDATA } = process.env;
  if (XDG_CACHE_HOME) return XDG_CACHE_HOME;
  if (process.platform === 'win32' && LOCALAPPDATA) return LOCALAPPDATA;
  return join(homedir(), process.platform === 'darwin' ? 'Library/Caches' : '.cache');
}

/** Files that lie about themselves, of every kind that Lockstep opens: made in a folder, for a test to hand to a command. */
import { execFileSync } from 'node:child_process';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32, deflateSync, gzipSync } from 'node:zlib';
import { encodeCheckpoint, type Checkpoint } from '../../src/model/checkpoint.js';
import { initParams } from '../../src/model/init.js';
import { buildModel, DIGITS, LENET5, MNIST, type Hyperparameters } from '../../src/model/lenet.js';
import { parseRunConfig } from '../../src/shared/config.js';
import { idxFile, imagesFile, labelsFile } from './idx-files.js';

/** More than any machine that runs the tests is asked for; as a file with a hole it takes no room on the disk. */
const HUGE = 2 ** 32;

export function soundCheckpoint(
  changes: Partial<Checkpoint> = {},
  hyperparameters: Hyperparameters = { ...LENET5, channels: [2], hidden: [] },
): Buffer {
  const { input = MNIST.input } = changes;
  const model = buildModel(hyperparameters, { ...MNIST, input });
  return Buffer.from(
    encodeCheckpoint({
      params: initParams(model, 1),
      optimizerState: { tensors: {}, scalars: {} },
      ...{ globalStep: 3, epoch: 1, seed: 1, hyperparameters, input, classNames: DIGITS },
      ...{ config: { dataset: 'mnist' }, engineFingerprint: 'simd/1', metrics: null },
      ...changes,
    }),
  );
}

/** A safetensors file with that text as its header. */
export function withHeader(text: string, claimed = text.length): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(claimed));
  return Buffer.concat([length, Buffer.from(text)]);
}

/** A checkpoint with other texts in its metadata; its digest is not that of the file any more. */
function withMetadata(texts: Readonly<Record<string, string>>): Buffer {
  const file = soundCheckpoint();
  const end = 8 + Number(file.readBigUInt64LE());
  const header = JSON.parse(file.toString('utf8', 8, end)) as {
    __metadata__: Record<string, string>;
  };
  Object.assign(header.__metadata__, texts);
  return Buffer.concat([withHeader(JSON.stringify(header)), file.subarray(end)]);
}

/** Writes the bytes and makes the file that long, with nothing in the rest of it. */
export async function writeSparse(path: string, bytes: Uint8Array, size = HUGE): Promise<void> {
  await writeFile(path, bytes);
  await truncate(path, size);
}

type Make = (path: string) => Promise<void>;
const plain =
  (bytes: () => Uint8Array | string): Make =>
  (path) =>
    writeFile(path, bytes());
const sparse =
  (bytes: () => Uint8Array, size?: number): Make =>
  (path) =>
    writeSparse(path, bytes(), size);

const brackets = (numBytes: number) => '['.repeat(numBytes / 2) + ']'.repeat(numBytes / 2);
const lists = (numBytes: number) => `{"__metadata__":[${'[],'.repeat(numBytes / 3 - 10)}[]]}`;
const names = (numNames: number) =>
  `{${Array.from({ length: numNames }, (_, index) => `"t${index}":{}`).join(',')}}`;
/** A model that a few hundred weights describe, and whose layers hold gigabytes. */
const WIDE = { ...LENET5, channels: [256], kernelSize: 1, padding: 0, hidden: [] };
const LARGE = { channels: 1, height: 1024, width: 1024 };

export const CHECKPOINTS: Readonly<Record<string, Make>> = {
  'a header of nothing but brackets': plain(() => withHeader(brackets(2 ** 23))),
  'a header of three million lists': plain(() => withHeader(lists(2 ** 23))),
  'a header of half a million tensors': plain(() => withHeader(names(500_000))),
  'a header of 16 MB': plain(() => withHeader(lists(2 ** 24))),
  'a header as long as the largest number': plain(() => Buffer.alloc(64, 255)),
  'deep JSON within a text of the header': plain(() =>
    withMetadata({ metrics: brackets(2 ** 20) }),
  ),
  'many values within a text of the header': plain(() => withMetadata({ config: lists(2 ** 22) })),
  'names with control characters': plain(() => withMetadata({ '\u001b[2J': 'x' })),
  'a sound header and a hole of 4 GB': sparse(() => soundCheckpoint()),
  'nothing but a hole': sparse(() => Buffer.alloc(0)),
  'layers that need more memory than there is': plain(() =>
    withMetadata({ hyperparameters: JSON.stringify(WIDE), input: JSON.stringify(LARGE) }),
  ),
  'no end': plain(() => soundCheckpoint().subarray(0, 3000)),
};

/** Tensors that reach as far as the file does, with nothing in it. */
export const WEIGHTS: Readonly<Record<string, Make>> = {
  'a hole that the header promises': sparse(() => {
    const header = (dataBytes: number) =>
      JSON.stringify({ w: { dtype: 'F32', shape: [dataBytes / 4], data_offsets: [0, dataBytes] } });
    const text = header(HUGE - 128).padEnd(120);
    return withHeader(text);
  }),
};

function idxFolder(changes: Readonly<Record<string, Make>>): Make {
  return async (path) => {
    await mkdir(path);
    const files = {
      'train-images-idx3-ubyte': plain(() => imagesFile(new Uint8Array(20 * 784))),
      'train-labels-idx1-ubyte': plain(() => labelsFile(new Uint8Array(20))),
      't10k-images-idx3-ubyte': plain(() => imagesFile(new Uint8Array(10 * 784))),
      't10k-labels-idx1-ubyte': plain(() => labelsFile(new Uint8Array(10))),
    };
    const changed = Object.keys(changes).map((name) => name.replace(/\.gz$/, ''));
    const kept = Object.entries(files).filter(([name]) => !changed.includes(name));
    for (const [name, make] of [...kept, ...Object.entries(changes)]) await make(join(path, name));
  };
}

/** The end of an archive with one entry that says it has as many bytes. */
function zipOfOne(name: string, packed: Uint8Array, size: number): Buffer {
  const local = Buffer.alloc(30);
  local.writeUInt32LE(0x04034b50);
  local.writeUInt16LE(name.length, 26);
  const entry = Buffer.alloc(46);
  entry.writeUInt32LE(0x02014b50);
  entry.writeUInt16LE(8, 10);
  entry.writeUInt32LE(packed.length, 20);
  entry.writeUInt32LE(size, 24);
  entry.writeUInt16LE(name.length, 28);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(30 + name.length + packed.length, 16);
  const text = Buffer.from(name);
  return Buffer.concat([local, text, packed, entry, text, end]);
}

function png(width: number, height: number, pixels: Uint8Array): Buffer {
  const chunk = (type: string, data: Uint8Array) => {
    const bytes = Buffer.alloc(12 + data.length);
    bytes.writeUInt32BE(data.length);
    bytes.write(type, 4, 'latin1');
    bytes.set(data, 8);
    bytes.writeUInt32BE(crc32(bytes.subarray(4, 8 + data.length)), 8 + data.length);
    return bytes;
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width);
  header.writeUInt32BE(height, 4);
  header.set([16, 6], 8);
  const signature = Buffer.from('89504e470d0a1a0a', 'hex');
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', pixels),
    chunk('IEND', new Uint8Array(0)),
  ]);
}

/** A JPEG file that says how large it is, and has next to nothing in it. */
function jpeg(width: number, height: number): Buffer {
  const frame = [8, height >> 8, height & 255, width >> 8, width & 255, 3];
  const components = [1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0];
  const start = [0xff, 0xd8, 0xff, 0xc2, 0, 17, ...frame, ...components];
  return Buffer.from([...start, 0xff, 0xda, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 0, 0, 0xff, 0xd9]);
}

/** A Parquet file with that as its metadata. */
function parquet(metadata: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(metadata.length);
  return Buffer.concat([Buffer.from('PAR1'), metadata, length, Buffer.from('PAR1')]);
}

/** A list of as many empty structs, as the field 2 of a struct. */
function structs(count: number): Buffer {
  const varint: number[] = [];
  for (let left = count; left > 0; left = Math.floor(left / 128)) {
    varint.push((left % 128) + (left >= 128 ? 128 : 0));
  }
  return Buffer.concat([
    Buffer.from([0x29, 0xfc, ...varint]),
    Buffer.alloc(count),
    Buffer.alloc(1),
  ]);
}

const zeros = (numBytes: number) => Buffer.alloc(numBytes);

/** Datasets, by the name that their folder or file is to have. */
export const DATASETS: Readonly<Record<string, readonly [string, Make]>> = {
  'an IDX file with a hole of 2 GB': [
    'idx',
    idxFolder({ 'train-images-idx3-ubyte': sparse(() => imagesFile(zeros(784)), 2 ** 31) }),
  ],
  'an IDX file that promises 2 GB': [
    'idx',
    idxFolder({
      'train-images-idx3-ubyte': plain(() => idxFile([0x803, 2000, 1024, 1024], zeros(8))),
    }),
  ],
  'a gzip file that goes on for 128 MB': [
    'idx',
    idxFolder({
      'train-images-idx3-ubyte.gz': plain(() =>
        gzipSync(idxFile([0x803, 10, 28, 28], zeros(2 ** 27))),
      ),
    }),
  ],
  'a gzip file that promises 1 GB of zeros': [
    'idx',
    idxFolder({
      'train-images-idx3-ubyte.gz': plain(() =>
        gzipSync(idxFile([0x803, 1000, 1024, 1024], zeros(2 ** 27))),
      ),
    }),
  ],
  'a gzip file that is a hole': [
    'idx',
    idxFolder({ 'train-labels-idx1-ubyte.gz': sparse(() => zeros(0)) }),
  ],
  'an archive that is a hole': ['set.npz', sparse(() => zeros(0))],
  'an archive whose entry promises 2 GB': [
    'set.npz',
    plain(() => zipOfOne('x_train.npy', deflateSync(zeros(2 ** 20)).subarray(2, -4), 2 ** 31)),
  ],
  'a Parquet file of empty structs': [
    'train.parquet',
    plain(() => parquet(structs(2 ** 24 - 100))),
  ],
  'a Parquet file with a hole': [
    'train.parquet',
    async (path) => {
      await writeSparse(path, Buffer.from('PAR1'));
      const end = parquet(structs(3)).subarray(4);
      await writeFile(path, end, { flag: 'a' });
    },
  ],
};

export const PICTURES: Readonly<Record<string, Make>> = {
  'a PNG file that says it is large': plain(() => png(8192, 4096, deflateSync(zeros(100)))),
  'a PNG file that unpacks to more than it says': plain(() =>
    png(100, 100, deflateSync(zeros(2 ** 27))),
  ),
  'a PNG file with a hole': sparse(() => png(8, 8, deflateSync(zeros(600)))),
  'a JPEG file that says it is large': plain(() => jpeg(8192, 4096)),
  'a pipe that nobody writes to': (path) => {
    execFileSync('mkfifo', [path]);
    return Promise.resolve();
  },
};

/** Files of a run's directory. */
export const RUN_FILES: Readonly<Record<string, Readonly<Record<string, Make>>>> = {
  'a configuration with a hole': { 'config.json': sparse(() => zeros(0)) },
  'a configuration of brackets': { 'config.json': plain(() => brackets(900_000)) },
  'a result with a hole': { 'result.json': sparse(() => zeros(0)) },
  'a result of three million lists': { 'result.json': plain(() => lists(9_000_000)) },
  'a lock with a hole': { 'lock.json': sparse(() => zeros(0)) },
  'metrics that are one line': { 'metrics.jsonl': sparse(() => zeros(0), 2 ** 29) },
  'metrics of brackets': {
    'metrics.jsonl': plain(() => `${brackets(1_000_000)}\n`.repeat(10)),
  },
};

/** A run's directory, sound but for those files. */
export async function writeRun(path: string, files: Readonly<Record<string, Make>>): Promise<void> {
  await mkdir(join(path, 'checkpoints'), { recursive: true });
  await writeFile(join(path, 'config.json'), JSON.stringify(parseRunConfig({})));
  await writeFile(join(path, 'checkpoints', 'step-00000003.safetensors'), soundCheckpoint());
  for (const [name, make] of Object.entries(files)) await make(join(path, name));
}

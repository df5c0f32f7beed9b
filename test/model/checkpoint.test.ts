import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodeCheckpoint,
  encodeCheckpoint,
  findCheckpoint,
  readCheckpoint,
  readLatestCheckpoint,
  weightsSha256,
  writeCheckpoint,
  type Checkpoint,
} from '../../src/model/checkpoint.js';
import { MAX_PARTICIPANTS } from '../../src/coordinator/participants.js';
import { initParams } from '../../src/model/init.js';
import { buildModel, DIGITS, LENET5, MNIST, type Hyperparameters } from '../../src/model/lenet.js';
import { createOptimizer, type OptimizerName } from '../../src/model/optimizer.js';
import { UserError } from '../../src/shared/errors.js';
import { MemoryStorage } from '../support/memory-storage.js';

const SMALL: Hyperparameters = { ...LENET5, channels: [2], hidden: [] };

function checkpointOf(
  change: Partial<Checkpoint> = {},
  optimizerName: OptimizerName = 'adam',
  hyperparameters = SMALL,
): Checkpoint {
  const model = buildModel(hyperparameters);
  const params = initParams(model, 1);
  const optimizer = createOptimizer({
    name: optimizerName,
    momentum: 0.9,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weightDecay: 0,
  });
  const optimizerState = optimizer.init(model.numParams);
  for (let step = 0; step < 3; step++) {
    optimizer.update(params, optimizerState, initParams(model, step + 2), 0.01);
  }
  return {
    params,
    optimizerState,
    globalStep: 1234,
    epoch: 1,
    seed: 7,
    hyperparameters,
    input: MNIST.input,
    classNames: DIGITS,
    config: { batchSize: 64, dataset: 'mnist', note: 'ünïcödé "quoted" \\ 0' },
    engineFingerprint: 'simd/1',
    metrics: { testAccuracy: 0.9876543210123456, workers: [{ name: 'a' }], testLoss: null },
    ...change,
  };
}

interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}
type Header = Record<string, HeaderEntry> & { __metadata__: Record<string, string> };

function headerOf(bytes: Uint8Array): { header: Header; dataFrom: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const dataFrom = 8 + Number(view.getBigUint64(0, true));
  const text = Buffer.from(bytes.subarray(8, dataFrom)).toString();
  return { header: JSON.parse(text) as Header, dataFrom };
}

/** The file with its header changed, and a digest that is right again: what a forger would write. */
function forge(change: (header: Header) => void, original = encodeCheckpoint(checkpointOf())) {
  const { header, dataFrom } = headerOf(original);
  header.__metadata__.sha256 = '0'.repeat(64);
  change(header);
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = Buffer.concat([length, text, original.subarray(dataFrom)]);
  const digest = createHash('sha256').update(file).digest('hex');
  const at = file.indexOf('0'.repeat(64));
  if (at >= 0) file.write(digest, at);
  return file;
}

describe('encodeCheckpoint() and decodeCheckpoint()', () => {
  test.each(['sgd', 'momentum', 'adam'] as const)('keep everything with %s', (optimizer) => {
    const checkpoint = checkpointOf({}, optimizer);
    expect(decodeCheckpoint(encodeCheckpoint(checkpoint))).toEqual(checkpoint);
  });

  test('keep everything of the default LeNet-5', () => {
    const checkpoint = checkpointOf({}, 'adam', LENET5);
    expect(decodeCheckpoint(encodeCheckpoint(checkpoint))).toEqual(checkpoint);
  });

  test('give the same bytes for the same checkpoint', () => {
    const bytes = encodeCheckpoint(checkpointOf());
    expect(Buffer.compare(bytes, encodeCheckpoint(decodeCheckpoint(bytes)))).toBe(0);
  });

  test('do not mix up the digest with a value that looks like it', () => {
    const checkpoint = checkpointOf({ config: '0'.repeat(200), metrics: ['0'.repeat(64)] });
    expect(decodeCheckpoint(encodeCheckpoint(checkpoint))).toEqual(checkpoint);
  });

  test('decode bytes that stand anywhere in a buffer', () => {
    const bytes = encodeCheckpoint(checkpointOf());
    const buffer = Buffer.concat([Buffer.alloc(3), bytes]);
    expect(decodeCheckpoint(buffer.subarray(3))).toEqual(checkpointOf());
  });
});

describe('encodeCheckpoint()', () => {
  test('writes what readers of safetensors expect', () => {
    const bytes = encodeCheckpoint(checkpointOf({}, 'adam', LENET5));
    const { header, dataFrom } = headerOf(bytes);
    expect(dataFrom % 8).toBe(0);
    const { __metadata__, ...tensors } = header;
    expect(Object.values(__metadata__).every((value) => typeof value === 'string')).toBe(true);
    expect(Object.keys(tensors)).toEqual([
      ...['C1', 'C3', 'F5', 'F6', 'Output'].flatMap((name) => [`${name}.weight`, `${name}.bias`]),
      'optimizer.mean',
      'optimizer.meanSquare',
    ]);
    expect(tensors['C3.weight']).toEqual({
      dtype: 'F32',
      shape: [16, 6, 5, 5],
      data_offsets: [156 * 4, (156 + 2400) * 4],
    });
    expect(tensors['optimizer.mean'].shape).toEqual([61706]);
    expect(bytes.length).toBe(dataFrom + 3 * 61706 * 4);
  });

  test('refuses tensors of another model', () => {
    const checkpoint = checkpointOf({ hyperparameters: LENET5 });
    expect(() => encodeCheckpoint(checkpoint)).toThrow('expected 61706');
  });
});

describe('decodeCheckpoint()', () => {
  test('gives back the shape of the images and the names of the classes', () => {
    const shape = { input: { channels: 3, height: 12, width: 9 }, classNames: ['cat', 'dög'] };
    const { numParams } = buildModel(SMALL, { input: shape.input, numClasses: 2 });
    const checkpoint = checkpointOf({
      ...shape,
      params: new Float32Array(numParams),
      optimizerState: { tensors: {}, scalars: {} },
    });
    expect(decodeCheckpoint(encodeCheckpoint(checkpoint))).toEqual(checkpoint);
  });

  test('takes a file of version 1 for one about MNIST', () => {
    const old = forge(({ __metadata__: metadata }) => {
      metadata.formatVersion = '1';
      delete metadata.input;
      delete metadata.classNames;
    });
    expect(decodeCheckpoint(old)).toEqual(checkpointOf());
  });

  const good = encodeCheckpoint(checkpointOf());

  test('notices a change of any byte', () => {
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, difference) => {
        const bytes = Uint8Array.from(good);
        bytes[at] ^= difference;
        expect(() => decodeCheckpoint(bytes)).toThrow(UserError);
      }),
      { numRuns: 500 },
    );
  });

  test('notices a change of every byte of the header', () => {
    const { dataFrom } = headerOf(good);
    for (let at = 0; at < dataFrom; at++) {
      const bytes = Uint8Array.from(good);
      bytes[at] ^= 1;
      expect(() => decodeCheckpoint(bytes), `byte ${at}`).toThrow(UserError);
    }
  });

  test('notices an end at any place', () => {
    fc.assert(
      fc.property(fc.nat(good.length - 1), (length) => {
        expect(() => decodeCheckpoint(good.slice(0, length))).toThrow(UserError);
      }),
      { numRuns: 300 },
    );
  });

  test('survives any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(400), (bytes, headerBytes) => {
        const file = Uint8Array.from([...bytes]);
        if (file.length >= 8) new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes), true);
        expect(() => decodeCheckpoint(file)).toThrow(UserError);
      }),
    );
  });

  test.each<[string, Uint8Array, string]>([
    ['an empty file', new Uint8Array(0), 'it is truncated, 0 bytes do not hold a header'],
    [
      'a picture',
      Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'),
      'it is no safetensors file, or its header is damaged',
    ],
    [
      'an end within the header',
      good.subarray(0, 100),
      'it is truncated, 100 bytes do not hold a header',
    ],
    [
      'an end within the data',
      good.subarray(0, -1),
      'it has 49007 bytes, but its header promises 49008',
    ],
    [
      'a damaged weight',
      Uint8Array.from(good, (byte, at) => (at === good.length - 5 ? byte ^ 1 : byte)),
      'it is damaged, its bytes do not have the SHA-256',
    ],
    [
      'someone else’s safetensors',
      forge((header) => (header.__metadata__ = { format: 'pt' })),
      'it is no checkpoint of Lockstep',
    ],
    [
      'a later version',
      forge((header) => (header.__metadata__.formatVersion = '3')),
      'its format has the version "3", expected "2"',
    ],
    [
      'a step that is no number',
      forge((header) => (header.__metadata__.globalStep = '-1')),
      'its metadata are wrong: globalStep: expected a whole number',
    ],
    [
      'metrics that are no JSON',
      forge((header) => (header.__metadata__.metrics = '{')),
      'its metadata are wrong: metrics: expected JSON',
    ],
    [
      'hyperparameters that are absurd',
      forge(
        (header) =>
          (header.__metadata__.hyperparameters = JSON.stringify({ ...SMALL, channels: [1e9] })),
      ),
      'its metadata are wrong: hyperparameters.channels.0: ',
    ],
    [
      'hyperparameters that do not fit',
      forge(
        (header) =>
          (header.__metadata__.hyperparameters = JSON.stringify({ ...SMALL, kernelSize: 33 })),
      ),
      'Cannot build the model: a 33×33 kernel does not fit',
    ],
    [
      'hyperparameters of another model',
      forge(
        (header) =>
          (header.__metadata__.hyperparameters = JSON.stringify({ ...SMALL, channels: [3] })),
      ),
      'its tensor C1.weight is F32 (2, 1, 5, 5) at 0–200, expected F32 (3, 1, 5, 5) at 0–300',
    ],
    [
      'another type',
      forge((header) => (header['C1.bias'].dtype = 'F16')),
      'its tensor C1.bias is F16 (2) at 200–208, expected F32 (2) at 200–208',
    ],
    [
      'overlapping tensors',
      forge((header) => (header['C1.bias'].data_offsets = [196, 204])),
      'its tensor C1.bias is F32 (2) at 196–204, expected F32 (2) at 200–208',
    ],
    [
      'a missing tensor',
      forge((header) => delete (header as Partial<Header>)['C1.bias']),
      'its tensor C1.bias is absent, expected F32 (2) at 200–208',
    ],
    [
      'a tensor too many',
      forge((header) => (header.Extra = { dtype: 'F32', shape: [0], data_offsets: [0, 0] })),
      'its tensor Extra is F32 (0) at 0–0, expected absent',
    ],
    [
      'trailing bytes',
      forge(() => undefined, Buffer.concat([good, Buffer.alloc(4)])),
      `bytes, but its header promises`,
    ],
    [
      'weights that are not finite',
      encodeCheckpoint(checkpointOf({ params: checkpointOf().params.fill(NaN, 3, 4) })),
      'its weights are not all finite',
    ],
  ])('says what is wrong with %s', (_, bytes, message) => {
    expect(() => decodeCheckpoint(bytes, 'FILE')).toThrow(UserError);
    expect(() => decodeCheckpoint(bytes, 'FILE')).toThrow('Cannot use FILE: ');
    expect(() => decodeCheckpoint(bytes, 'FILE')).toThrow(message);
  });
});

describe('findCheckpoint()', () => {
  const stored = async () => {
    const storage = new MemoryStorage();
    for (const globalStep of [10, 20]) {
      const checkpoint = checkpointOf({ globalStep });
      await writeCheckpoint(storage, 'run/checkpoints', checkpoint, globalStep === 10);
    }
    return storage;
  };

  test.each([
    ['run', 10],
    ['run/checkpoints', 10],
    ['run/checkpoints/step-00000020.safetensors', 20],
  ])('takes the best of a folder, or the file itself: %s', async (path, globalStep) => {
    const { checkpoint } = await findCheckpoint(await stored(), path, () => undefined);
    expect(checkpoint.globalStep).toBe(globalStep);
  });

  test('says so and takes the newest where the best is damaged', async () => {
    const storage = await stored();
    storage.files.set('run/checkpoints/best.safetensors', new Uint8Array(3));
    const skipped: string[] = [];
    const { path } = await findCheckpoint(storage, 'run', (message) => skipped.push(message));
    expect(path).toBe('run/checkpoints/step-00000020.safetensors');
    expect(skipped).toEqual([expect.stringContaining('best.safetensors')]);
  });
});

describe('writeCheckpoint()', () => {
  test('keeps the last three and the best', async () => {
    const storage = new MemoryStorage();
    for (const globalStep of [10, 20, 30, 40, 50]) {
      await writeCheckpoint(storage, 'dir', checkpointOf({ globalStep }), globalStep === 20);
    }
    expect((await storage.list('dir')).sort()).toEqual([
      'best.safetensors',
      'step-00000030.safetensors',
      'step-00000040.safetensors',
      'step-00000050.safetensors',
    ]);
    expect((await readCheckpoint(storage, 'dir/best.safetensors')).globalStep).toBe(20);
  });

  test('has the best on disk before a checkpoint that says so', async () => {
    const storage = new MemoryStorage();
    const written: string[] = [];
    const write = storage.writeDurably.bind(storage);
    storage.writeDurably = (path, bytes) => {
      written.push(path);
      return write(path, bytes);
    };
    await writeCheckpoint(storage, 'dir', checkpointOf({ globalStep: 10 }), true);
    expect(written).toEqual(['dir/best.safetensors', 'dir/step-00000010.safetensors']);
  });

  test('removes what a process that was killed has left half-written', async () => {
    const storage = new MemoryStorage();
    storage.files.set('dir/step-00000007.safetensors.partial', new Uint8Array(3));
    await writeCheckpoint(storage, 'dir', checkpointOf({ globalStep: 10 }), false);
    expect(await storage.list('dir')).toEqual(['step-00000010.safetensors']);
  });

  test('never removes what it has just written', async () => {
    const storage = new MemoryStorage();
    for (const globalStep of [100, 110, 120, 5]) {
      await writeCheckpoint(storage, 'dir', checkpointOf({ globalStep }), false);
    }
    expect(storage.files.has('dir/step-00000005.safetensors')).toBe(true);
    expect(storage.files.size).toBe(3);
  });

  test('leaves other files alone', async () => {
    const storage = new MemoryStorage();
    storage.files.set('dir/notes.txt', Uint8Array.of(1));
    for (const globalStep of [1, 2, 3, 4]) {
      await writeCheckpoint(storage, 'dir', checkpointOf({ globalStep }), false);
    }
    expect(storage.files.has('dir/notes.txt')).toBe(true);
  });
});

describe('readLatestCheckpoint()', () => {
  test('takes the newest sound one and tells of each that it skips', async () => {
    const storage = new MemoryStorage();
    for (const globalStep of [9, 10, 11]) {
      await writeCheckpoint(storage, 'dir', checkpointOf({ globalStep }), false);
    }
    storage.files.get('dir/step-00000011.safetensors')!.fill(1, 2000, 2001);
    storage.files.set('dir/step-00000010.safetensors', Uint8Array.of(1));
    const skipped: string[] = [];
    const found = await readLatestCheckpoint(storage, 'dir', (message) => skipped.push(message));
    expect(found?.path).toBe('dir/step-00000009.safetensors');
    expect(found?.checkpoint.globalStep).toBe(9);
    expect(skipped).toEqual([
      'Cannot use dir/step-00000011.safetensors: it is damaged, its bytes do not have the SHA-256 that its header states',
      'Cannot use dir/step-00000010.safetensors: it is truncated, 1 bytes do not hold a header',
    ]);
  });

  test('takes the best one where no other is sound', async () => {
    const storage = new MemoryStorage();
    await writeCheckpoint(storage, 'dir', checkpointOf(), true);
    storage.files.set('dir/step-00001234.safetensors', new Uint8Array(0));
    const found = await readLatestCheckpoint(storage, 'dir', () => undefined);
    expect(found?.path).toBe('dir/best.safetensors');
  });

  test('finds nothing in an empty folder', async () => {
    const found = await readLatestCheckpoint(new MemoryStorage(), 'dir', () => undefined);
    expect(found).toBeNull();
  });
});

describe('readCheckpoint()', () => {
  test('names a file that is not there', async () => {
    await expect(readCheckpoint(new MemoryStorage(), 'none.safetensors')).rejects.toThrow(
      'Cannot read none.safetensors: no such file',
    );
  });
});

describe('what is written can be read', () => {
  const hostile = fc.string({ unit: 'binary', maxLength: 200 });
  const participant = fc.record({
    workerId: hostile,
    name: hostile,
    engine: hostile,
    device: hostile,
    isExact: fc.boolean(),
    numImages: fc.maxSafeNat(),
  });

  test('whatever workers are called', () => {
    fc.assert(
      fc.property(
        fc.array(participant, { maxLength: 40 }),
        fc.jsonValue({ maxDepth: 3, noUnicodeString: false }),
        (workers, config) => {
          const checkpoint = checkpointOf({ metrics: { workers }, config });
          const parsed: unknown = JSON.parse(JSON.stringify(config));
          const { metrics, config: read } = decodeCheckpoint(encodeCheckpoint(checkpoint));
          expect(metrics).toEqual({ workers });
          expect(read).toEqual(parsed);
        },
      ),
      { numRuns: 50 },
    );
  });

  test('with as many participants as there may be, of the longest names', () => {
    const longest = '\u0001'.repeat(200);
    const workers = Array.from({ length: MAX_PARTICIPANTS }, (_, index) => ({
      workerId: `${index}`.padEnd(64, 'w'),
      name: longest,
      engine: longest,
      device: longest,
      isExact: false,
      numImages: Number.MAX_SAFE_INTEGER,
    }));
    const checkpoint = checkpointOf({ metrics: { workers } });
    expect(decodeCheckpoint(encodeCheckpoint(checkpoint)).metrics).toEqual({ workers });
  });

  test('or is not written: a header that is too long, JSON that is too deep', () => {
    expect(() => encodeCheckpoint(checkpointOf({ metrics: 'x'.repeat(2 ** 23) }))).toThrow(
      /Cannot encode a header of \d+ bytes, at most 8388608 can be read again/,
    );
    expect(() => encodeCheckpoint(checkpointOf({ metrics: [[[[[[[[[1]]]]]]]]] }))).toThrow(
      'JSON of more than 8 levels',
    );
  });

  test('a header of nothing but brackets is refused before it is parsed', () => {
    const depth = 2 ** 22;
    const file = Buffer.alloc(8 + 2 * depth, '[').fill(']', 8 + depth);
    file.writeBigUInt64LE(BigInt(2 * depth));
    expect(() => decodeCheckpoint(file)).toThrow('its header is no JSON, or too deep');
  });
});

describe('weightsSha256()', () => {
  test('hashes the little-endian bytes', () => {
    // 1 is 00 00 80 3f, -2 is 00 00 00 c0.
    const bytes = Buffer.from('0000803f000000c0', 'hex');
    const expected = createHash('sha256').update(bytes).digest('hex');
    expect(weightsSha256(Float32Array.of(1, -2))).toBe(expected);
    expect(weightsSha256(Float32Array.of(9, 1, -2, 9).subarray(1, 3))).toBe(expected);
  });
});

import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { describe, expect, it } from 'vitest';
import {
  bytesOf,
  decodeCoordinatorMessage,
  decodeWorkerMessage,
  encode,
  float32From,
  uint32From,
} from '../../src/shared/codec.js';
import { frameBytes, joinFrame, type Frame } from '../../src/shared/channel.js';
import { parseRunConfig } from '../../src/shared/config.js';
import { ProtocolError } from '../../src/shared/errors.js';
import {
  longestFrameBytes,
  type CoordinatorMessage,
  type WorkerMessage,
} from '../../src/shared/protocol.js';

const packr = new Packr({ useRecords: false, variableMapSize: true });
const pack = (value: unknown): Uint8Array => packr.pack(value);

const count = fc.integer({ min: 0, max: 0xffff_ffff });
const time = fc.double({ min: 0, max: 1e15, noNaN: true });
const duration = fc.double({ min: 0, max: 86_400_000, noNaN: true });
const bytes = fc.uint8Array({ maxLength: 64 });
const name = fc.string({ minLength: 1, maxLength: 200 });
const workerId = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/);
const secret = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((raw) => Buffer.from(raw).toString('hex'));
const range = fc
  .tuple(fc.integer({ min: 0, max: 1000 }), fc.integer({ min: 1, max: 1000 }))
  .map(([lo, length]): [number, number] => [lo, lo + length]);
const set = fc.constantFrom('validation' as const, 'test' as const);
const ranges = fc.array(range, { minLength: 1, maxLength: 4 });

const workerMessages: fc.Arbitrary<WorkerMessage> = fc.oneof(
  fc.record({
    type: fc.constant('hello' as const),
    protocolVersion: count,
    workerId: fc.option(workerId),
    secret: fc.option(secret),
    token: fc.option(fc.string({ maxLength: 1000 })),
    engine: name,
    name,
    host: name,
    datasetId: fc.option(name),
    cached: bytes,
  }),
  fc.record({
    type: fc.constant('ready' as const),
    fingerprint: name,
    device: name,
    proof: bytes,
  }),
  fc.record({
    type: fc.constant('gradientSlice' as const),
    globalStep: count,
    range,
    first: count,
    values: bytes,
  }),
  fc.record({
    type: fc.constant('partial' as const),
    globalStep: count,
    range,
    gradient: bytes,
    // msgpackr makes 0 of −0, which no sum of losses is.
    lossSum: fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0),
    numCorrect: count,
    numImages: count,
    startedAt: time,
    computeMs: duration,
  }),
  fc.record({
    type: fc.constant('evaluation' as const),
    globalStep: count,
    set,
    range,
    lossSums: bytes,
    predictions: bytes,
    computeMs: duration,
  }),
  fc.record(
    {
      type: fc.constant('pong' as const),
      sentAt: time,
      workerTime: time,
      numWorkers: fc.integer({ min: 0, max: 65_536 }),
    },
    { requiredKeys: ['type', 'sentAt', 'workerTime'] },
  ),
  fc.record({ type: fc.constant('leave' as const) }),
);

const coordinatorMessages: fc.Arbitrary<CoordinatorMessage> = fc.oneof(
  fc.record({
    type: fc.constant('welcome' as const),
    workerId,
    secret,
    runId: name,
    hyperparameters: fc.constant(parseRunConfig({}).hyperparameters),
    input: fc.record({
      channels: fc.integer({ min: 1, max: 4 }),
      height: fc.integer({ min: 1, max: 1024 }),
      width: fc.integer({ min: 1, max: 1024 }),
    }),
    numClasses: fc.integer({ min: 2, max: 1000 }),
    regularization: fc.record({
      seed: count,
      dropout: fc.double({ min: 0, max: 0.99, noNaN: true }),
      labelSmoothing: fc.double({ min: 0, max: 0.99, noNaN: true }),
      augment: fc.subarray([
        'shift=3',
        'rotate=10',
        'scale=0.1',
        'flip=0.5',
        'noise=8',
        'cutout=8',
      ]),
    }),
    microBatch: fc.integer({ min: 1, max: 4096 }),
    evaluationBlock: fc.integer({ min: 1, max: 4096 }),
    numParams: fc.integer({ min: 1, max: 1e9 }),
    sliceValues: fc.integer({ min: 1, max: 1e9 }),
    datasetId: name,
    numSamples: fc.integer({ min: 1, max: 2_000_000 }),
    proofSeed: count,
    heartbeatTimeoutMs: fc.double({ min: 100, max: 86_400_000, noNaN: true }),
    alternates: fc.array(fc.string({ maxLength: 1000 }), { maxLength: 8 }),
  }),
  fc.record({
    type: fc.constant('samples' as const),
    indices: bytes,
    labels: bytes,
    pixels: bytes,
  }),
  fc.record({
    type: fc.constant('paramsSlice' as const),
    globalStep: count,
    first: count,
    values: bytes,
  }),
  fc.record({
    type: fc.constant('step' as const),
    globalStep: count,
    epoch: count,
    params: fc.option(bytes),
    numImages: fc.integer({ min: 1, max: 1e6 }),
    ranges,
    indices: bytes,
  }),
  fc.record({
    type: fc.constant('evaluate' as const),
    globalStep: count,
    set,
    params: fc.option(bytes),
    first: count,
    numImages: fc.integer({ min: 1, max: 1e6 }),
    ranges,
  }),
  fc.record({ type: fc.constant('ping' as const), sentAt: time }),
  fc.record({
    type: fc.constant('finished' as const),
    isFinal: fc.boolean(),
    reason: fc.string({ maxLength: 1000 }),
  }),
  fc.record({
    type: fc.constant('refused' as const),
    reason: fc.string({ maxLength: 1000 }),
    retryAfterMs: fc.option(duration),
  }),
);

/** Arrays of bytes are Buffers on arrival: compared by value. */
const plain = (message: object) =>
  Object.fromEntries(
    Object.entries(message).map(([key, value]) => [
      key,
      value instanceof Uint8Array ? [...value] : (value as unknown),
    ]),
  );

/** The close code that the frame leads to; null if it is a message. */
function closeCodeOf(frame: Uint8Array, decode: (frame: Frame) => object = decodeWorkerMessage) {
  try {
    decode([frame]);
    return null;
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    return error.closeCode;
  }
}

/** Maps in maps. */
function nested(depth: number): object {
  return depth === 0 ? {} : { type: nested(depth - 1) };
}

describe('encode()', () => {
  it('gives back every message of a worker', () => {
    fc.assert(
      fc.property(workerMessages, (message) => {
        expect(plain(decodeWorkerMessage(encode(message)))).toEqual(plain(message));
      }),
    );
  });

  it('gives back every message of the coordinator', () => {
    fc.assert(
      fc.property(coordinatorMessages, (message) => {
        expect(plain(decodeCoordinatorMessage(encode(message)))).toEqual(plain(message));
      }),
    );
  });
});

describe('a frame', () => {
  const message: WorkerMessage = {
    type: 'ready',
    fingerprint: 'simd/1',
    device: 'a test',
    proof: Uint8Array.of(1, 2, 3, 4, 5),
  };

  it('has the bytes of its tail as they lie in memory, after the map', () => {
    const frame = encode(message);
    expect(frame).toHaveLength(2);
    expect(frame[1]).toBe(message.proof);
  });

  it('reads the same wherever it is cut into pieces on its way', () => {
    const whole = joinFrame(encode(message));
    const places = fc.array(fc.nat({ max: whole.length }), { maxLength: 4 });
    fc.assert(
      fc.property(places, (cuts) => {
        const at = [0, ...cuts.toSorted((a, b) => a - b), whole.length];
        const pieces = at.slice(1).map((end, i) => whole.subarray(at[i], end));
        expect(plain(decodeWorkerMessage(pieces))).toEqual(plain(message));
      }),
    );
  });

  it.each([
    ['more bytes than the map says', [pack({ ...message, proof: 5 }), new Uint8Array(6)]],
    ['fewer', [pack({ ...message, proof: 5 }), new Uint8Array(4)]],
    ['none', [pack({ ...message, proof: 5 })]],
    ['bytes after a message that has no tail', [pack({ type: 'leave' }), new Uint8Array(1)]],
    ['a length that is none', [pack({ ...message, proof: -5 }), new Uint8Array(5)]],
    ['a type that is a name of every object', [pack({ type: 'constructor' }), new Uint8Array(5)]],
  ])('ends in 4400 with %s', (_what, frame) => {
    expect(() => decodeWorkerMessage(frame)).toThrow(ProtocolError);
  });
});

describe('decodeWorkerMessage()', () => {
  const leave = { type: 'leave' };
  const pong = { type: 'pong', sentAt: 1, workerTime: 2, isHidden: true };
  const partial = {
    type: 'partial',
    globalStep: 1,
    range: [0, 1],
    // Whose bytes follow.
    gradient: 4,
    lossSum: 1,
    numCorrect: 1,
    numImages: 1,
    startedAt: 1,
    computeMs: 1,
  };

  it.each([
    ['nothing', new Uint8Array(0)],
    ['a byte that msgpack does not use', Uint8Array.of(0xc1)],
    ['a truncated message', pack(pong).subarray(0, 8)],
    ['bytes after the message', Buffer.concat([pack(leave), Uint8Array.of(0)])],
    ['a number', pack(7)],
    ['an array', pack([leave])],
    ['null', pack(null)],
    ['no type', pack({})],
    ['an unknown type', pack({ type: 'party' })],
    ['a type that only the coordinator sends', pack({ type: 'ping', sentAt: 1 })],
    ['a missing field', pack({ type: 'pong', sentAt: 1 })],
    ['a field too many', pack({ ...leave, reason: 'tired' })],
    ['a string for a number', pack({ ...pong, sentAt: '1' })],
    ['a negative time', pack({ ...pong, sentAt: -1 })],
    ['a page half out of sight', pack({ ...pong, isHidden: 0.5 })],
    ['a time of NaN', pack({ ...pong, sentAt: NaN })],
    ['a fraction of a step', pack({ ...partial, globalStep: 0.5 })],
    ['a step beyond 32 bits', pack({ ...partial, globalStep: 2 ** 40 })],
    ['an empty range', pack({ ...partial, range: [1, 1] })],
    ['a reversed range', pack({ ...partial, range: [2, 1] })],
    ['a range of three', pack({ ...partial, range: [0, 1, 2] })],
    ['numbers in place of bytes', pack({ ...partial, gradient: [1, 2, 3, 4] })],
    ['a name that is too long', pack({ ...partial, type: 'hello', name: 'x'.repeat(201) })],
  ])('closes with 4400 on %s', (_what, frame) => {
    expect(closeCodeOf(frame)).toBe(4400);
  });

  it.each([
    ['a date', Uint8Array.of(0xd6, 0xff, 0, 0, 0, 0)],
    ['a set', Uint8Array.of(0xd4, 0x73, 0, 0x90)],
    ['a record', Uint8Array.of(0xd4, 0x72, 0x40, 0x91, 0xa1, 0x61, 0x01)],
    ['an array of floats', Uint8Array.of(0xc7, 5, 0x74, 7, 0, 0, 0, 0)],
    ['a big number', Uint8Array.of(0xc7, 9, 0x42, 1, 0, 0, 0, 0, 0, 0, 0, 0)],
    ['an error', Uint8Array.of(0xd4, 0x65, 0, 0x92, 0xa1, 0x61, 0xa1, 0x62)],
    ['a bundle of strings', Uint8Array.of(0xd6, 0x62, 0, 0, 0, 2, 0xc1, 0xa0, 0xa0)],
    ['an array with an id', Uint8Array.of(0xd6, 0x69, 0, 0, 0, 1, 0x90)],
    ['a pointer', Uint8Array.of(0x91, 0xd6, 0x70, 0, 0, 0, 1)],
  ])('takes no extension of msgpack: %s', (_what, frame) => {
    expect(() => decodeWorkerMessage([frame])).toThrow(
      /^Not a frame of the protocol: a value of type/,
    );
  });

  it.each([
    ['nested arrays', Buffer.alloc(300_000, 0x91), 'levels'],
    ['nested maps', pack(nested(40)), 'levels'],
    ['a million values', pack({ type: 'leave', x: new Array(1_000_000).fill(1) }), '64 values'],
    ['an array that is longer than the frame', Uint8Array.of(0xdd, 0xff, 0xff, 0xff, 0xff), 'cut'],
    ['a map that is longer than the frame', Uint8Array.of(0xdf, 0x7f, 0xff, 0xff, 0xff), 'cut'],
    ['bytes that are longer', Uint8Array.of(0xc6, 0xff, 0xff, 0xff, 0xff), 'cut'],
    ['a key that is no string', Uint8Array.of(0x81, 0x01, 0x01), 'a key that is no string'],
    ['a string of 100 KB', pack({ type: 'x'.repeat(100_000) }), 'a string of more than'],
  ])('closes with 4400 on %s before it is built', (_what, frame, message) => {
    expect(() => decodeWorkerMessage([frame])).toThrow(message);
  });

  it('is done at once with a graph whose print has no end', () => {
    // Shared twice on each of 30 levels: a few hundred bytes that are 2³⁰ arrays to whoever prints them.
    const parts = [Uint8Array.of(0xdc, 0, 31, 0xd6, 0x69, 0, 0, 0, 0, 0x90)];
    for (let level = 1; level <= 30; level++) {
      parts.push(Uint8Array.of(0xd6, 0x69, 0, 0, 0, level, 0x92));
      for (let i = 0; i < 2; i++) parts.push(Uint8Array.of(0xd6, 0x70, 0, 0, 0, level - 1));
    }
    const frame = Buffer.concat([...parts, Uint8Array.of(0)]);
    expect(frame.length).toBeLessThan(700);
    expect(closeCodeOf(frame)).toBe(4400);
  });

  it('repeats nothing of what came: neither keys nor values', () => {
    const frame = pack({ type: 'leave', ['ключ'.repeat(40)]: 'значение' });
    expect(() => decodeWorkerMessage([frame])).toThrow(
      /^Not a message of the protocol: a field that it does not have$/,
    );
    const step = pack({
      ...{ type: 'step', globalStep: 0, epoch: 0, params: null, numImages: 1 },
      ...{ indices: new Uint8Array(0), ranges: [['ключ', 1]] },
    });
    expect(() => decodeCoordinatorMessage([step])).toThrow(/ in ranges$/);
  });

  it('takes integers of 64 bits from libraries that send them so', () => {
    const frame = Buffer.concat([
      Uint8Array.of(0x83),
      pack('type'),
      pack('pong'),
      pack('sentAt'),
      Uint8Array.of(0xcf, 0, 0, 0, 1, 0, 0, 0, 0),
      pack('workerTime'),
      pack(2),
    ]);
    expect(decodeWorkerMessage([frame])).toMatchObject({ sentAt: 2 ** 32 });
  });

  it('closes with 4400 on any other bytes, and never throws anything else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (frame) => {
        expect([null, 4400]).toContain(closeCodeOf(frame));
      }),
      { numRuns: 2000 },
    );
  });

  it('closes with 4400 or takes a message whose bits were changed on the way', () => {
    const flips = fc.tuple(workerMessages, fc.nat(), fc.integer({ min: 0, max: 7 }));
    fc.assert(
      fc.property(flips, ([message, at, bit]) => {
        const frame = Uint8Array.from(joinFrame(encode(message)));
        frame[at % frame.length] ^= 1 << bit;
        expect([null, 4400]).toContain(closeCodeOf(frame));
      }),
      { numRuns: 2000 },
    );
  });

  it('says in one short sentence what was wrong, and where', () => {
    expect(() =>
      decodeWorkerMessage([pack({ ...partial, range: [1, 1] }), new Uint8Array(4)]),
    ).toThrow('Not a message of the protocol: an empty or reversed range in range');
  });

  it('sets no prototype from a frame', () => {
    const frame = pack(new Map([['__proto__', { polluted: true }]]));
    expect(closeCodeOf(frame)).toBe(4400);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });
});

describe('float32From()', () => {
  it('copies values that are not aligned', () => {
    const packed = new Uint8Array(9);
    packed.set(bytesOf(Float32Array.of(1.5, -2)), 1);
    expect(float32From(packed.subarray(1), 2, 'values')).toEqual(Float32Array.of(1.5, -2));
  });

  it('names both lengths when they differ', () => {
    expect(() => float32From(new Uint8Array(7), 2, 'gradient')).toThrow(
      'Wrong length of gradient: 7 bytes, expected 8',
    );
  });
});

describe('uint32From()', () => {
  it('takes any whole number of values where no length is given', () => {
    expect(uint32From(bytesOf(Uint32Array.of(1, 2 ** 31)), 'indices')).toEqual(
      Uint32Array.of(1, 2 ** 31),
    );
  });

  it('refuses a value and a half', () => {
    expect(() => uint32From(new Uint8Array(6), 'indices')).toThrow(ProtocolError);
  });
});

describe('longestFrameBytes()', () => {
  const most = fc.integer({ min: 1, max: 300_000 });
  it('lets through whatever an honest worker says, however small its model', () => {
    fc.assert(
      fc.property(most, most, fc.integer({ min: 1, max: 500 }), (numParams, numSamples, block) => {
        const longest = longestFrameBytes(numParams, numSamples, block);
        const zeros = (count: number) => new Uint8Array(count);
        const range: [number, number] = [0, Math.ceil(numSamples / block)];
        const words = { engine: 'e'.repeat(200), name: 'ä'.repeat(200), host: 'h'.repeat(200) };
        const messages: WorkerMessage[] = [
          {
            ...{ type: 'hello', protocolVersion: 6, workerId: 'w', secret: 'ab'.repeat(32) },
            ...{ token: 't'.repeat(1000), datasetId: 'd'.repeat(32), ...words },
            cached: zeros(Math.ceil(numSamples / 8)),
          },
          { type: 'ready', fingerprint: 'f', device: 'd'.repeat(200), proof: zeros(4 * numParams) },
          {
            ...{ type: 'partial', globalStep: 1, range, gradient: zeros(4 * numParams) },
            ...{ lossSum: 1, numCorrect: 1, numImages: 1, startedAt: 1, computeMs: 1 },
          },
          {
            ...{ type: 'evaluation', globalStep: 1, set: 'test', range, computeMs: 1 },
            ...{ lossSums: zeros(4 * range[1]), predictions: zeros(2 * numSamples) },
          },
        ];
        for (const message of messages) {
          expect(frameBytes(encode(message))).toBeLessThanOrEqual(longest);
        }
      }),
      { numRuns: 30 },
    );
  });
});

/** A worker's side of a connection, with the test as the coordinator: what it accepts, refuses and disposes of. */
import { describe, expect, it } from 'vitest';
import { createSimdEngine } from '../../src/model/engine/simd/node.js';
import { buildModel, LENET5, type Model } from '../../src/model/lenet.js';
import { NO_REGULARIZATION, Regularizer } from '../../src/model/regularizer.js';
import type { Channel } from '../../src/shared/channel.js';
import { systemClock, type Clock } from '../../src/shared/clock.js';
import { bytesOf, decodeWorkerMessage, encode } from '../../src/shared/codec.js';
import { CLOSE_CODES, UserError } from '../../src/shared/errors.js';
import type {
  CoordinatorMessage,
  Message,
  Range,
  WorkerMessage,
} from '../../src/shared/protocol.js';
import { Slices, sliceOf } from '../../src/shared/slices.js';
import type { Computation } from '../../src/worker/computation.js';
import { EngineComputation } from '../../src/worker/engine-computation.js';
import type { Task } from '../../src/worker/task.js';
import { Memory } from '../../src/worker/memory.js';
import { Session, type SessionOptions } from '../../src/worker/session.js';
import { startThreads } from '../../src/worker/threads/thread-computation.js';
import { createManualClock } from '../support/manual-clock.js';

const MODEL = buildModel(LENET5);
const WELCOME: Message<'welcome'> = {
  type: 'welcome',
  workerId: 'w1',
  secret: 'ab'.repeat(32),
  runId: 'r1',
  hyperparameters: structuredClone(LENET5) as Message<'welcome'>['hyperparameters'],
  input: MODEL.input,
  numClasses: MODEL.numClasses,
  regularization: NO_REGULARIZATION,
  microBatch: 2,
  evaluationBlock: 10,
  numParams: MODEL.numParams,
  sliceValues: 1e9,
  datasetId: 'd1',
  numSamples: 20,
  proofSeed: 1,
  heartbeatTimeoutMs: 3000,
  alternates: [],
};
const PARAMS = bytesOf(new Float32Array(MODEL.numParams));
const STEP: Message<'step'> = {
  type: 'step',
  globalStep: 0,
  epoch: 0,
  params: PARAMS,
  numImages: 4,
  ranges: [[0, 2]],
  indices: bytesOf(Uint32Array.of(0, 1, 2, 3)),
};

function sliceOfStep(
  globalStep: number,
  first: number,
  values: Uint8Array,
): Message<'paramsSlice'> {
  return { type: 'paramsSlice', globalStep, first, values };
}

/** A computation that answers nothing by default; the test supplies `run`. */
class FakeComputation implements Computation {
  readonly model: Model = MODEL;
  readonly regularizer = new Regularizer(MODEL, NO_REGULARIZATION);
  readonly name = 'fake';
  readonly fingerprint = 'fake/1';
  readonly isExact = true;
  readonly device = 'nothing';
  isDisposed = false;
  readonly run: Computation['run'];

  constructor(run: Computation['run'] = () => Promise.resolve()) {
    this.run = run;
  }
  prove() {
    return Promise.resolve(new Float32Array(MODEL.numParams));
  }
  dispose() {
    this.isDisposed = true;
    return Promise.resolve();
  }
}

function connect(
  computations: Computation[],
  memory = new Memory(),
  maxMemoryBytes = 1e9,
  more: Partial<SessionOptions> = {},
) {
  const said: WorkerMessage[] = [];
  let closed: { code: number; reason: string } | null = null;
  const channel: Channel = {
    handler: { received: () => undefined, closed: () => undefined },
    bufferedBytes: 0,
    isReceiving: false,
    send: (frame, left) => {
      said.push(decodeWorkerMessage(frame));
      left?.();
    },
    close: (code, reason) => (closed ??= { code, reason }),
    terminate: () => (closed ??= { code: 1006, reason: '' }),
  };
  const session = new Session(
    {
      createComputation: () => {
        const next = computations.shift();
        return next ? Promise.resolve(next) : Promise.reject(new UserError('no engine here'));
      },
      engineName: 'fake',
      name: 'a',
      host: 'localhost',
      token: null,
      maxMemoryBytes,
      clock: createManualClock(0),
      collectGarbage: () => undefined,
      log: () => undefined,
      ...more,
    },
    channel,
    memory,
  );
  const ended = session.work(new AbortController().signal);
  return {
    said,
    ended,
    memory,
    closed: () => closed,
    /** The other side closes, or the network breaks. */
    break: (code: number) => channel.handler.closed(code, ''),
    say: async (...messages: CoordinatorMessage[]) => {
      for (const message of messages) {
        channel.handler.received(encode(message));
        await settled();
      }
    },
  };
}

/** Lets all promise reactions run. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a session', () => {
  it('proves its computation after the welcome', async () => {
    const { said, say } = connect([new FakeComputation()]);
    await say(WELCOME);
    expect(said.map(({ type }) => type)).toEqual(['hello', 'ready']);
  });

  it('disposes of a failed computation, and creates a new one on the next connection', async () => {
    const broken = new FakeComputation(() => Promise.reject(new Error('The GPU is lost')));
    const first = connect([broken]);
    await first.say(WELCOME, STEP);
    expect(await first.ended).toMatchObject({ outcome: 'lost', reason: 'The GPU is lost' });
    expect(broken.isDisposed).toBe(true);

    const sound = new FakeComputation();
    const second = connect([sound], first.memory);
    await second.say(WELCOME);
    expect(second.said).toMatchObject([{ type: 'hello', workerId: 'w1' }, { type: 'ready' }]);
    expect(first.memory.computation).toBe(sound);
  });

  it('does the same if the computation fails in its proof', async () => {
    class Lost extends FakeComputation {
      override prove() {
        return Promise.reject(new Error('The GPU is lost'));
      }
    }
    const lost = new Lost();
    const first = connect([lost]);
    await first.say(WELCOME);
    expect(await first.ended).toMatchObject({ outcome: 'lost', reason: 'The GPU is lost' });
    expect(lost.isDisposed).toBe(true);
    const second = connect([new FakeComputation()], first.memory);
    await second.say(WELCOME);
    expect(second.said.map(({ type }) => type)).toEqual(['hello', 'ready']);
  });

  it('assembles θ from slices, and sends gradients in the same slices', async () => {
    const numParams = MODEL.numParams;
    const params = Float32Array.from({ length: numParams }, (_, i) => i);
    const slices = new Slices(numParams, 10_000);
    const part = (slice: Range) => bytesOf(sliceOf(params, slice));
    const computation = new FakeComputation(async (task, _samples, answers) => {
      task.ranges.splice(0);
      await answers.partial(
        [0, 2],
        { gradient: task.params, lossSum: 1, numCorrect: 1, numImages: 4 },
        { startedAt: 1, computeMs: 1 },
      );
    });
    const { say, said } = connect([computation]);
    await say(
      { ...WELCOME, sliceValues: 10_000 },
      ...slices.early.map((slice) => {
        return sliceOfStep(STEP.globalStep, slice[0], part(slice));
      }),
      { ...STEP, params: part(slices.last) },
    );
    expect(said.slice(2)).toEqual([
      ...slices.early.map((slice) => ({
        ...{ type: 'gradientSlice', globalStep: STEP.globalStep, range: [0, 2] },
        ...{ first: slice[0], values: part(slice) },
      })),
      expect.objectContaining({ type: 'partial', range: [0, 2], gradient: part(slices.last) }),
    ]);
  });

  it('has a relay send slices on before their step has come', async () => {
    const slices = new Slices(MODEL.numParams, 20_000);
    const forwarded: [globalStep: number, index: number, value: number][] = [];
    const relay = Object.assign(new FakeComputation(), {
      forwardSlice: (globalStep: number, params: Float32Array, index: number) =>
        forwarded.push([globalStep, index, params[slices.ranges[index][0]]]),
    });
    const { say } = connect([relay]);
    const values = ([first, end]: Range) => bytesOf(new Float32Array(end - first).fill(first));
    const early = slices.early.map((slice) => sliceOfStep(7, slice[0], values(slice)));
    expect(early.length).toBeGreaterThan(1);
    await say({ ...WELCOME, sliceValues: 20_000 }, ...early);
    expect(forwarded).toEqual(early.map(({ first }, index) => [7, index, first]));
  });

  it('knows the samples of each range that it was asked for, whenever it was', async () => {
    let task: Task | null = null;
    const computation = new FakeComputation((given) => {
      task = given;
      return new Promise(() => undefined);
    });
    const { say } = connect([computation]);
    const ranges = {
      first: [[1, 2]] as [number, number][],
      later: [
        [2, 3],
        [0, 1],
      ] as [number, number][],
    };
    await say(
      WELCOME,
      { ...STEP, numImages: 5, ranges: ranges.first, indices: bytesOf(Uint32Array.of(7, 8)) },
      {
        ...{ ...STEP, params: null, numImages: 5, ranges: ranges.later },
        indices: bytesOf(Uint32Array.of(9, 5, 6)),
      },
    );
    expect(task).toMatchObject({
      numUnits: 3,
      indices: Uint32Array.of(5, 6, 7, 8, 9),
      ranges: [...ranges.first, ...ranges.later],
    });
  });

  it('keeps its computation if the coordinator breaks the protocol', async () => {
    const computation = new FakeComputation();
    const { say, ended, memory } = connect([computation]);
    await say(WELCOME, { ...STEP, ranges: [[0, 3]] });
    expect(await ended).toMatchObject({ outcome: 'lost', reason: 'Work on [0, 3) of 2' });
    expect(memory.computation).toBe(computation);
  });

  it.each<[string, CoordinatorMessage[], number]>([
    ['work before the welcome', [STEP], CLOSE_CODES.unexpected],
    [
      'samples before the welcome',
      [
        {
          type: 'samples',
          indices: new Uint8Array(0),
          labels: new Uint8Array(0),
          pixels: new Uint8Array(0),
        },
      ],
      CLOSE_CODES.unexpected,
    ],
    [
      'an evaluation of nonexistent samples',
      [
        WELCOME,
        {
          type: 'evaluate',
          globalStep: 0,
          set: 'test',
          params: PARAMS,
          first: 11,
          numImages: 10,
          ranges: [[0, 1]],
        },
      ],
      CLOSE_CODES.malformed,
    ],
    [
      'more ranges than units',
      [
        WELCOME,
        {
          ...STEP,
          ranges: [
            [0, 1],
            [0, 1],
            [0, 1],
          ],
        },
      ],
      CLOSE_CODES.malformed,
    ],
    [
      'fewer samples than its ranges have',
      [WELCOME, { ...STEP, indices: bytesOf(Uint32Array.of(0, 1, 2)) }],
      CLOSE_CODES.malformed,
    ],
    [
      'more samples than its ranges have',
      [WELCOME, { ...STEP, ranges: [[1, 2]] }],
      CLOSE_CODES.malformed,
    ],
    [
      'a batch of more samples than there are',
      [WELCOME, { ...STEP, numImages: 21 }],
      CLOSE_CODES.malformed,
    ],
    ['a second welcome', [WELCOME, WELCOME], CLOSE_CODES.unexpected],
    [
      'a model that cannot be built',
      [{ ...WELCOME, hyperparameters: { ...WELCOME.hyperparameters, stride: 28 } }],
      CLOSE_CODES.malformed,
    ],
    [
      'a label of a nonexistent class',
      [
        WELCOME,
        {
          type: 'samples',
          indices: bytesOf(Uint32Array.of(3)),
          labels: bytesOf(Uint16Array.of(10)),
          pixels: new Uint8Array(784),
        },
      ],
      CLOSE_CODES.malformed,
    ],
    [
      'slices of two steps',
      [
        { ...WELCOME, sliceValues: 20_000 },
        sliceOfStep(0, 0, new Uint8Array(80_000)),
        sliceOfStep(1, 20_000, new Uint8Array(80_000)),
      ],
      CLOSE_CODES.malformed,
    ],
    [
      'the last slice of another step',
      [
        { ...WELCOME, sliceValues: MODEL.numParams - 1 },
        sliceOfStep(1, 0, new Uint8Array(4 * (MODEL.numParams - 1))),
        { ...STEP, params: new Uint8Array(4) },
      ],
      CLOSE_CODES.malformed,
    ],
    [
      'parameters of another model',
      [WELCOME, { ...STEP, params: new Uint8Array(4) }],
      CLOSE_CODES.malformed,
    ],
  ])('does not accept %s', async (_, messages, code) => {
    const { say, closed, ended } = connect([new FakeComputation()]);
    await say(...messages);
    expect(closed()?.code).toBe(code);
    expect((await ended).outcome).toBe('lost');
  });

  it('does not join a run that needs more memory than allowed, and allocates none', async () => {
    const { say, ended, memory } = connect([new FakeComputation()], new Memory(), 1e8);
    await say({ ...WELCOME, numSamples: 2_000_000 });
    expect(await ended).toEqual({
      outcome: 'unable',
      reason: 'The run needs 1.6 GB of memory, more than the 100.0 MB that --max-memory allows',
    });
    expect(memory.samples).toBeNull();
  });

  it('counts the memory of a batch of large images, and of the layers', async () => {
    const large = { channels: 4, height: 1024, width: 1024 };
    const wide = { ...LENET5, channels: [64], kernelSize: 1, hidden: [], stride: 8, padding: 0 };
    for (const [changes, wanted] of [
      [{ input: large, microBatch: 4096, numSamples: 1 }, /^The run needs 3\d\.\d GB/],
      [
        { input: large, microBatch: 1, evaluationBlock: 4096, numSamples: 1 },
        /^The run needs 3\d\.\d GB/,
      ],
      [
        { input: large, microBatch: 1, evaluationBlock: 1, numSamples: 1 },
        /^The run needs \d\d\d\.\d MB/,
      ],
    ] as const) {
      const { numParams } = buildModel(wide, { input: large, numClasses: 10 });
      const { say, ended } = connect([new FakeComputation()], new Memory(), 1e8);
      await say({ ...WELCOME, hyperparameters: wide, numClasses: 10, numParams, ...changes });
      const ending = await ended;
      expect(ending.outcome).toBe('unable');
      expect('reason' in ending && ending.reason).toMatch(wanted);
    }
  });

  it.each<[string, SessionOptions['createComputation'], number, string]>([
    [
      'its engine',
      (model, regularizer) => {
        const engine = createSimdEngine(model);
        return Promise.resolve(new EngineComputation(engine, { clock: systemClock, regularizer }));
      },
      1,
      '; take a smaller model)',
    ],
    [
      'what its threads share',
      (model, regularizer) => startThreads(model, regularizer, 4, systemClock),
      4,
      '; take a smaller model); try fewer --threads',
    ],
  ])(
    'ends as unable where WebAssembly cannot hold %s',
    async (_, createComputation, numThreads, ending) => {
      const wide = { ...LENET5, channels: [6, 16], hidden: [4096, 4096] };
      const { numParams } = buildModel(wide);
      const { say, ended, closed } = connect([], new Memory(), Infinity, {
        createComputation,
        threadsFor: () => numThreads,
      });
      await say({ ...WELCOME, hyperparameters: wide, numParams });
      const outcome = await ended;
      expect(outcome.outcome).toBe('unable');
      expect('reason' in outcome && outcome.reason).toMatch(
        /^Cannot hold the run's model and samples in memory \(Cannot place \d+ bytes/,
      );
      expect('reason' in outcome && outcome.reason.endsWith(ending)).toBe(true);
      expect(closed()?.code).toBe(CLOSE_CODES.failed);
    },
  );

  it('ends as unable where it cannot reserve memory for the samples', async () => {
    const input = { channels: 4, height: 1024, width: 1024 };
    const sparse = { ...LENET5, channels: [1], kernelSize: 1, hidden: [], stride: 8, padding: 0 };
    const { numParams } = buildModel(sparse, { input, numClasses: 10 });
    const { say, ended } = connect([new FakeComputation()], new Memory(), Infinity);
    const large = { hyperparameters: sparse, input, numParams, numSamples: 2_000_000 };
    await say({ ...WELCOME, ...large });
    expect(await ended).toMatchObject({
      outcome: 'unable',
      reason: expect.stringMatching(/^Cannot hold the run's model and samples in memory/) as string,
    });
  });

  it('refuses a welcome with more samples than a run may have', async () => {
    const { say, ended, memory } = connect([new FakeComputation()], new Memory(), Infinity);
    await say({ ...WELCOME, numSamples: 2 ** 32 - 1 });
    const ending = await ended;
    expect(ending.outcome).toBe('lost');
    expect('reason' in ending && ending.reason).toMatch('numSamples');
    expect(memory.samples).toBeNull();
  });
});

describe('a worker in a browser', () => {
  const progress = {
    ...{ globalStep: 3, totalSteps: 9, testAccuracy: null },
    ...{ numImages: 12, numImagesOfAll: 48 },
  };

  it("reports whether its page is hidden, asks for the run's progress, and gets it", async () => {
    const told: unknown[] = [];
    const { said, say } = connect([new FakeComputation()], new Memory(), 1e9, {
      isHidden: () => true,
      onProgress: (...news) => told.push(news),
    });
    await say(WELCOME, { type: 'ping', sentAt: 5, progress }, { type: 'ping', sentAt: 6 });
    expect(said[0]).toMatchObject({ type: 'hello', wantsProgress: true });
    expect(said.slice(-2)).toMatchObject([
      { type: 'pong', sentAt: 5, isHidden: true },
      { type: 'pong', sentAt: 6, isHidden: true },
    ]);
    expect(told).toEqual([[progress, 5]]);
  });

  it('does not report pages or ask for progress elsewhere', async () => {
    const { said, say } = connect([new FakeComputation()]);
    await say(WELCOME, { type: 'ping', sentAt: 5, progress });
    expect(said[0]).not.toHaveProperty('wantsProgress');
    expect(said.at(-1)).not.toHaveProperty('isHidden');
  });

  it('notices a silent coordinator even if every timer is late, as in a hidden tab', async () => {
    const clock = createManualClock(0);
    const schedule: Clock['schedule'] = (delayMs, callback) =>
      clock.schedule(Math.max(60_000, delayMs), callback);
    const late = { now: () => clock.now(), schedule, yield: () => clock.yield() };
    const { say, ended, closed } = connect([new FakeComputation()], new Memory(), 1e9, {
      clock: late,
    });
    await say(WELCOME);
    clock.advance(60_000);
    // Its messages may still be waiting to be read.
    expect(closed()).toBeNull();
    await say({ type: 'ping', sentAt: 0 });
    clock.advance(60_000);
    expect(closed()).toBeNull();
    clock.advance(60_000);
    expect(await ended).toMatchObject({
      outcome: 'lost',
      reason: expect.stringContaining('silent') as string,
    });
  });

  it('passes its identity and samples to the keepsake', async () => {
    const kept: unknown[] = [];
    const { say } = connect([new FakeComputation()], new Memory(), 1e9, {
      keepsake: {
        identity: null,
        samples: null,
        keepWelcome: (identity, samples) => kept.push(identity, samples.datasetId),
        keepSamples: ({ labels }) => kept.push(labels.length),
      },
    });
    const indices = bytesOf(Uint32Array.of(0, 1));
    const labels = bytesOf(Uint16Array.of(3, 4));
    await say(WELCOME, { type: 'samples', indices, labels, pixels: new Uint8Array(2 * 784) });
    expect(kept).toEqual([{ workerId: 'w1', secret: 'ab'.repeat(32) }, 'd1', 4]);
  });

  it('returns as a new worker if a copy of its tab has its id, and as itself otherwise', async () => {
    const memory = new Memory();
    const lost = connect([new FakeComputation()], memory);
    await lost.say(WELCOME);
    lost.break(1006);
    expect((await lost.ended).outcome).toBe('lost');
    expect(memory.identity?.workerId).toBe('w1');
    const copied = connect([new FakeComputation()], memory);
    await copied.say(WELCOME);
    copied.break(CLOSE_CODES.replaced);
    expect((await copied.ended).outcome).toBe('lost');
    expect(memory.identity).toBeNull();
  });
});

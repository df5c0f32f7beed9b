/** A relay's crew between a test as the coordinator above and tests as workers below, on virtual time. */
import { describe, expect, it } from 'vitest';
import type { RunEvent } from '../../src/coordinator/events.js';
import { createVectorOps } from '../../src/model/engine/simd/node.js';
import { NO_REGULARIZATION, Regularizer } from '../../src/model/regularizer.js';
import { bytesOf } from '../../src/shared/codec.js';
import { CLOSE_CODES } from '../../src/shared/errors.js';
import type { Message, Range } from '../../src/shared/protocol.js';
import { createRandom } from '../../src/shared/random.js';
import { Slices } from '../../src/shared/slices.js';
import { Crew, type CrewOptions } from '../../src/relay/crew.js';
import type { Answers, Timing } from '../../src/worker/computation.js';
import type { EvaluationTask, StepTask } from '../../src/worker/task.js';
import { SampleCache } from '../../src/worker/sample-cache.js';
import { FakeWorker, type Harness } from '../support/coordinator-harness.js';
import { FakeChannel } from '../support/fake-channel.js';
import { IMAGE_BYTES } from '../support/mnist.js';
import { EVALUATION_BLOCK, allTrainings } from '../support/simulator/training.js';
import { VirtualProcess, VirtualTime } from '../support/virtual-clock.js';

const HEARTBEAT_TIMEOUT_MS = 3_000;
const NUM_UNITS = 7;

/** A crew with what it needs, and the tasks that it is given. */
function createCrew(
  overrides: Partial<CrewOptions> = {},
  sliceValues = 1e9,
  parent = () => 'ws://parent:7700',
) {
  const training = allTrainings()[0];
  const { samples, model, config } = training;
  const time = new VirtualTime();
  const { clock } = new VirtualProcess(time, { name: 'relay' });
  const events: RunEvent[] = [];
  const welcome: Message<'welcome'> = {
    type: 'welcome',
    workerId: 'r1',
    secret: 'ab'.repeat(32),
    runId: 'run',
    hyperparameters: structuredClone<Message<'welcome'>['hyperparameters']>(config.hyperparameters),
    input: model.input,
    numClasses: model.numClasses,
    regularization: NO_REGULARIZATION,
    microBatch: config.microBatch,
    evaluationBlock: EVALUATION_BLOCK,
    numParams: model.numParams,
    sliceValues,
    datasetId: samples.datasetId,
    numSamples: samples.numTrain + samples.numValidation + samples.numTest,
    proofSeed: 1,
    heartbeatTimeoutMs: HEARTBEAT_TIMEOUT_MS,
    alternates: ['ws://top:7700'],
  };
  const crew = new Crew(
    {
      clock,
      random: createRandom(1, 'crew'),
      auditRandom: createRandom(1, 'audit'),
      report: (event) => events.push(event),
      arbiter: training.createEngine(),
      vectors: createVectorOps(model.numParams),
      judge: () => ({ isAccepted: true, isExact: true }),
      isTokenRight: () => true,
      workerKey: Buffer.alloc(32, 'crew'),
      allowsApproximate: false,
      minWorkers: 1,
      maxWorkers: 8,
      audit: 0,
      ...overrides,
    },
    {
      model,
      regularizer: new Regularizer(model, NO_REGULARIZATION),
      welcome,
      parent,
      wasReady: false,
    },
  );
  crew.welcomed(welcome);
  const cache = SampleCache.create(samples.datasetId, welcome.numSamples, IMAGE_BYTES);
  const indices = Uint32Array.from({ length: welcome.numSamples }, (_, i) => i);
  cache.store({
    type: 'samples',
    indices: bytesOf(indices),
    labels: bytesOf(Uint16Array.from(indices, (index) => samples.label(index))),
    pixels: Buffer.concat(Array.from(indices, (index) => samples.image(index))),
  });
  const settle = () => time.advance(0);
  const abort = new AbortController();
  const partials: {
    range: Range;
    gradient: Float32Array;
    lossSum: number;
    numImages: number;
    timing: Timing;
  }[] = [];
  const evaluations: { range: Range; lossSums: Float32Array; predictions: Uint16Array }[] = [];
  const answers: Answers = {
    partial: (range, { gradient, lossSum, numImages }, timing) => {
      partials.push({ range, gradient: gradient.slice(), lossSum, numImages, timing });
      return Promise.resolve();
    },
    evaluation: (range, lossSums, predictions) =>
      evaluations.push({ range, lossSums, predictions: predictions.slice() }),
  };
  const task: StepTask = {
    kind: 'step',
    globalStep: 4,
    epoch: 0,
    params: training.params[0].slice(),
    numUnits: NUM_UNITS,
    unitSize: config.microBatch,
    ranges: [],
    signal: abort.signal,
    indices: Uint32Array.from({ length: NUM_UNITS * config.microBatch - 1 }, (_, i) => i),
  };
  return {
    ...{ crew, cache, time, events, training, welcome, task, partials, evaluations, abort },
    settle,
    give: (...ranges: Range[]) => {
      task.ranges.push(...ranges);
      return crew.run(task, cache, answers);
    },
    /** The same step again, as after a new connection to the parent. */
    giveAgain: (...ranges: Range[]) =>
      crew.run({ ...task, ranges, signal: new AbortController().signal }, cache, answers),
    evaluate: (evaluation: EvaluationTask) => crew.run(evaluation, cache, answers),
    join: async () => {
      const channel = new FakeChannel();
      crew.accept(channel, '10.0.0.1');
      const worker = new FakeWorker({ training, settle } as Harness, channel);
      worker.hello();
      worker.ready();
      await settle();
      return worker;
    },
  };
}

/** The sum of a node, each micro-batch by the worker that was asked for it, added as the contract has it. */
function nodeSum(workers: readonly FakeWorker[], node: Range): Message<'partial'> {
  const [lo, hi] = node;
  if (hi - lo === 1) {
    const wasAsked = (worker: FakeWorker) =>
      worker.rangesOf(4).some(([from, to]) => from <= lo && hi <= to);
    return workers.find(wasAsked)!.partialOf(node);
  }
  let half = 1;
  while (2 * half < hi - lo) half *= 2;
  const [left, right] = [nodeSum(workers, [lo, lo + half]), nodeSum(workers, [lo + half, hi])];
  const floats = ({ gradient }: Message<'partial'>) => new Float32Array(gradient.slice().buffer);
  const [a, b] = [floats(left), floats(right)];
  const gradient = bytesOf(a.map((value, i) => value + b[i]));
  return { ...left, range: node as [number, number], gradient };
}

describe('the crew of a relay', () => {
  it('names its parent and those above it to its workers, and keeps what is its own', async () => {
    const { join, welcome } = createCrew();
    const [sent] = (await join()).channel.sentOf('welcome');
    expect(sent.alternates).toEqual(['ws://parent:7700', 'ws://top:7700']);
    expect(sent).toMatchObject({ datasetId: welcome.datasetId, runId: welcome.runId });
    expect(sent.workerId).not.toBe(welcome.workerId);
    expect(sent.secret).not.toBe(welcome.secret);
  });

  it('names another parent to those that join after it has moved, and keeps the others', async () => {
    let parent = 'ws://parent:7700';
    const { crew, join, welcome } = createCrew({}, 1e9, () => parent);
    const anna = await join();
    parent = 'ws://top:7700';
    const moved = { ...welcome, workerId: 'r7', alternates: [] };
    expect(crew.isFor(moved)).toBe(true);
    crew.welcomed(moved);
    expect(anna.closeCode).toBeNull();
    const [sent] = (await join()).channel.sentOf('welcome');
    expect(sent.alternates).toEqual(['ws://top:7700']);
  });

  it('is ready when its workers are', async () => {
    const { crew, join, settle } = createCrew({ minWorkers: 2 });
    let isReady = false;
    const proof = crew.prove(1).then(() => (isReady = true));
    await join();
    expect(isReady).toBe(false);
    await join();
    await settle();
    expect(isReady).toBe(true);
    await proof;
    expect(crew.numWorkers).toBe(2);
  });

  it('is ready again with one worker, as the others may be gone for good', async () => {
    const { crew, join, settle } = createCrew({ minWorkers: 2 });
    const proof = crew.prove(1);
    const [first] = [await join(), await join()];
    await proof;
    first.channel.break();
    await settle();
    expect(crew.numWorkers).toBe(1);
    await expect(crew.prove(2)).resolves.toHaveLength(crew.model.numParams);
  });

  it('asks for what it was asked, and sends each node up once, with its bits', async () => {
    const { join, give, partials, settle } = createCrew();
    const workers = [await join(), await join()];
    const done = give([2, 7]);
    await settle();
    const asked = workers.flatMap((worker) => worker.rangesOf(4));
    const units = asked.flatMap(([lo, hi]) => Array.from({ length: hi - lo }, (_, i) => lo + i));
    expect(units.sort()).toEqual([2, 3, 4, 5, 6]);
    for (const worker of workers) await worker.answer(worker.rangesOf(4));
    await done;
    // The maximal nodes of [2, 7) among seven: [2, 4), [4, 7).
    expect(partials.map(({ range }) => range).sort()).toEqual([
      [2, 4],
      [4, 7],
    ]);
    for (const { range, gradient } of partials) {
      expect(Buffer.from(bytesOf(gradient))).toEqual(Buffer.from(nodeSum(workers, range).gradient));
    }
  });

  it('tells how fast its workers are together, though its ranges are done at the same time', async () => {
    const { join, give, partials, settle, time } = createCrew();
    const worker = await join();
    const done = give([2, 7]);
    await settle();
    await time.advance(10);
    await worker.answer([
      [4, 7],
      [2, 4],
    ]);
    await done;
    // Three units in 10 ms, then all five of them.
    expect(partials).toMatchObject([
      { range: [4, 7], timing: { computeMs: 10 } },
      { range: [2, 4], timing: { computeMs: 4 } },
    ]);
  });

  it('gives what is open of a worker that died to the others', async () => {
    const { join, give, partials, settle } = createCrew();
    const [a, b] = [await join(), await join()];
    const done = give([0, 7]);
    await settle();
    a.channel.break();
    await settle();
    await b.answer(b.rangesOf(4));
    await done;
    expect(partials).toMatchObject([{ range: [0, 7] }]);
  });

  it('gives its work back when nobody is left for a heartbeat timeout', async () => {
    const { join, give, time, settle } = createCrew();
    const worker = await join();
    const done = give([0, 7]).catch((error: unknown) => error);
    await settle();
    worker.channel.break();
    await time.advance(HEARTBEAT_TIMEOUT_MS - 1);
    (await join()).channel.break();
    await time.advance(HEARTBEAT_TIMEOUT_MS + 1);
    expect(await done).toMatchObject({ message: 'no worker is left behind the relay' });
  });

  it('drops a superseded task without a word', async () => {
    const { join, give, abort, partials, settle } = createCrew();
    const worker = await join();
    const done = give([0, 7]);
    await settle();
    abort.abort();
    await done;
    await worker.answer(worker.rangesOf(4));
    expect(partials).toEqual([]);
    expect(worker.closeCode).toBeNull();
  });

  it('takes the late answer to an earlier piece of the step for late, not for wrong', async () => {
    const { join, give, partials, settle } = createCrew();
    const [a, b] = [await join(), await join()];
    const first = give([0, 2]);
    await settle();
    await a.answer(a.rangesOf(4));
    await b.answer(b.rangesOf(4));
    await first;
    const second = give([4, 7]);
    await settle();
    a.say(a.partialOf([0, 1]));
    await settle();
    expect(a.closeCode).toBeNull();
    const asked = (worker: FakeWorker) => worker.rangesOf(4).filter(([lo]) => lo >= 4);
    await a.answer(asked(a));
    await b.answer(asked(b));
    await second;
    expect(partials.map(({ range }) => range)).toEqual([
      [0, 2],
      [4, 7],
    ]);
  });

  it('begins no further piece of a superseded task', async () => {
    const { join, give, task, abort, settle } = createCrew();
    const worker = await join();
    const done = give([0, 1]);
    await settle();
    task.ranges.push([2, 3]);
    abort.abort();
    await done;
    await settle();
    expect(worker.rangesOf(4)).toEqual([[0, 1]]);
  });

  it('takes the rest of a gradient that a piece before it began for late, not for wrong', async () => {
    const sliceValues = 50;
    const { join, give, giveAgain, abort, partials, settle, welcome, task } = createCrew(
      {},
      sliceValues,
    );
    const worker = await join();
    const first = give([0, 1]);
    await settle();
    const gradient = bytesOf(Float32Array.from({ length: welcome.numParams }, (_, i) => i));
    const slices = new Slices(welcome.numParams, sliceValues);
    const part = ([from, end]: Range) => gradient.subarray(4 * from, 4 * end);
    const sendSlice = (slice: Range) =>
      worker.say({
        ...{ type: 'gradientSlice', globalStep: 4, range: [0, 1] },
        ...{ first: slice[0], values: part(slice) },
      });
    const sendLast = () =>
      worker.say({
        ...{ type: 'partial', globalStep: 4, range: [0, 1], gradient: part(slices.last) },
        ...{ lossSum: 1, numCorrect: 0, numImages: task.unitSize, startedAt: 0, computeMs: 1 },
      });
    expect(slices.early.length).toBeGreaterThan(1);
    sendSlice(slices.early[0]);
    abort.abort();
    await first;

    const second = giveAgain([0, 1]);
    await settle();
    slices.early.slice(1).forEach(sendSlice);
    sendLast();
    await settle();
    expect(worker.closeCode).toBeNull();
    expect(partials).toEqual([]);
    slices.early.forEach(sendSlice);
    sendLast();
    await second;
    expect(partials.map(({ range }) => range)).toEqual([[0, 1]]);
    expect(Buffer.from(bytesOf(partials[0].gradient))).toEqual(Buffer.from(gradient));
  });

  it('sends slices of θ on as they come, and with the step only those that are missing', async () => {
    const sliceValues = 50;
    const { crew, join, give, task, settle, abort, welcome } = createCrew({}, sliceValues);
    const slices = new Slices(welcome.numParams, sliceValues);
    const early = slices.early.map(([first]) => first);
    expect(early.length).toBeGreaterThan(2);
    const worker = await join();
    const firsts = () => worker.channel.sentOf('paramsSlice').map(({ first }) => first);
    // As of a step in which the relay got no share.
    crew.forwardSlice(3, task.params, 0);
    for (const index of [0, 1]) crew.forwardSlice(4, task.params, index);
    expect(firsts()).toEqual([0, ...early.slice(0, 2)]);
    const done = give([0, 1]);
    await settle();
    expect(firsts()).toEqual([0, ...early]);
    expect(worker.channel.sentOf('paramsSlice').map(({ globalStep }) => globalStep)).toEqual([
      3,
      ...early.map(() => 4),
    ]);
    const [{ params }] = worker.channel.sentOf('step');
    expect(params).toHaveLength(4 * (slices.last[1] - slices.last[0]));
    abort.abort();
    await done;
  });

  it('sends a worker with NaN away, and sends up what its own engine gets', async () => {
    const { join, give, partials, settle, time, training } = createCrew();
    const worker = await join();
    const done = give([0, 1]);
    await settle();
    const truth = worker.partialOf([0, 1]);
    const gradient = bytesOf(new Float32Array(training.model.numParams).fill(NaN));
    worker.say({ ...truth, gradient });
    await time.advance(50);
    await done;
    expect(worker.closeCode).toBe(CLOSE_CODES.badNumbers);
    expect(Buffer.from(bytesOf(partials[0].gradient))).toEqual(Buffer.from(truth.gradient));
  });

  it('passes NaN on that its own engine gets too: the run is not its to end', async () => {
    const { join, give, partials, settle, time, training, task } = createCrew();
    const worker = await join();
    task.params.fill(NaN);
    const gradient = bytesOf(new Float32Array(training.model.numParams).fill(NaN));
    const done = give([0, 1]);
    await settle();
    worker.say({ ...worker.partialOf([0, 1]), gradient, lossSum: NaN });
    await time.advance(50);
    await done;
    expect(partials[0].gradient[0]).toBeNaN();
    expect(worker.closeCode).toBeNull();
  });

  it('evaluates', async () => {
    const { join, evaluate, evaluations, settle, training, abort } = createCrew();
    const worker = await join();
    const { first, labels } = training.samples.evaluationSet('test');
    const done = evaluate({
      kind: 'evaluation',
      globalStep: 5,
      params: training.params[0],
      numUnits: Math.ceil(labels.length / EVALUATION_BLOCK),
      unitSize: EVALUATION_BLOCK,
      ranges: [[0, 1]],
      signal: abort.signal,
      set: 'test',
      first,
      numImages: labels.length,
    });
    await settle();
    const answer = worker.evaluationOf([0, 1]);
    worker.say(answer);
    await done;
    expect(evaluations).toHaveLength(1);
    expect(Buffer.from(bytesOf(evaluations[0].predictions))).toEqual(
      Buffer.from(answer.predictions),
    );
    expect(Buffer.from(bytesOf(evaluations[0].lossSums))).toEqual(Buffer.from(answer.lossSums));
  });

  it('gives up samples that it was not sent', async () => {
    const { join, crew, task, welcome } = createCrew();
    await join();
    task.ranges.push([0, 1]);
    const empty = SampleCache.create('d', welcome.numSamples, IMAGE_BYTES);
    await expect(crew.run(task, empty, {} as Answers)).rejects.toThrow('was not sent');
  });

  it('goes on over connections of one run, and not in another', () => {
    const { crew, welcome } = createCrew();
    expect(crew.isFor({ ...welcome, proofSeed: 9, workerId: 'r2' })).toBe(true);
    expect(crew.isFor({ ...welcome, runId: 'another' })).toBe(false);
    crew.close(false, 'stopped');
    expect(crew.isFor(welcome)).toBe(false);
  });
});

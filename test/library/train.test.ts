import { readdir, readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  buildModel,
  loadDataset,
  loadModel,
  modelFrom,
  train,
  weightsSha256,
  type Dataset,
  type RunEvent,
  type TrainOptions,
} from '../../src/index.js';
import { UserError } from '../../src/shared/errors.js';
import type { RunConfig } from '../../src/shared/config.js';
import { initParams } from '../../src/model/init.js';
import { LENET5 } from '../../src/model/lenet.js';
import { smallMnist } from '../support/lockstep.js';
import { mnist } from '../support/mnist.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const CONFIG = { epochs: 2, batchSize: 64, seed: 5 };
let dataset: Dataset;

beforeAll(async () => {
  const all = await mnist();
  const first = ({ images, labels }: Dataset['train'], n: number) => ({
    images: images.slice(0, (images.length / labels.length) * n),
    labels: labels.slice(0, n),
  });
  dataset = { ...all, train: first(all.train, 320), test: first(all.test, 100) };
});

const run = (options: TrainOptions = {}) =>
  train({ config: CONFIG, dataset, threads: 1, ...options });

describe('train()', () => {
  test('gives the bits of the command', async () => {
    const { result } = await train({
      config: { epochs: 2, batchSize: 64, microBatch: 7, optimizer: 'sgd', lr: 0.2 },
      dataset: await loadDataset(await smallMnist()),
      threads: 2,
    });
    const golden = await readFile(new URL('../golden/run-sgd.sha256', import.meta.url), 'utf8');
    expect(`${result.weightsSha256}\n`).toBe(golden);
  });

  test('tells its events in order, and gives the same bits on any number of threads', async () => {
    const events: RunEvent[] = [];
    const one = await run({ onEvent: (event) => events.push(event) });
    expect(one.result).toMatchObject({ outcome: 'finished', globalStep: 10, reproducible: true });
    const types = events
      .map(({ type }) => type)
      .filter((type) => type !== 'workerPinged' && type !== 'notice');
    expect(types.slice(0, 3)).toEqual(['started', 'waiting', 'workerJoined']);
    expect(types.filter((type) => type === 'step')).toHaveLength(10);
    expect(types.filter((type) => type === 'evaluation')).toHaveLength(2);
    expect(types.at(-1)).toBe('finished');
    const three = await run({ threads: 3 });
    expect(three.result.weightsSha256).toBe(one.result.weightsSha256);
    expect(weightsSha256(one.last.params)).toBe(one.result.weightsSha256);
  });

  test('stops when the signal aborts, and goes on from there with the same bits', async () => {
    const whole = await run();
    const stop = new AbortController();
    const { result, last } = await run({
      signal: stop.signal,
      onEvent: (event) => {
        if (event.type === 'step' && event.globalStep === 3) stop.abort();
      },
    });
    expect(result).toMatchObject({ outcome: 'stopped', globalStep: 4 });
    const rest = await run({ resumeFrom: last });
    expect(rest.result.weightsSha256).toBe(whole.result.weightsSha256);
    const none = await run({ signal: AbortSignal.abort() });
    expect(none.result).toMatchObject({ outcome: 'stopped', globalStep: 0 });
    expect(none.last.params).toEqual(initParams(buildModel(LENET5), 5));
  });

  test('leaves no thread behind where there is nothing to train', async () => {
    const { last } = await run();
    const before = process.getActiveResourcesInfo().filter((name) => name === 'MessagePort').length;
    const again = await run({ resumeFrom: last, threads: 2 });
    expect(again.result.outcome).toBe('finished');
    const ports = () =>
      process.getActiveResourcesInfo().filter((name) => name === 'MessagePort').length;
    await expect.poll(ports, { timeout: 10_000 }).toBe(before);
  });

  test('rejects with what a callback throws', async () => {
    const onEvent = (event: RunEvent) => {
      if (event.type === 'step') throw new TypeError('a mistake of mine');
    };
    await expect(run({ onEvent })).rejects.toThrow(new TypeError('a mistake of mine'));
    const later = async (event: RunEvent) => {
      await Promise.resolve();
      onEvent(event);
    };
    await expect(run({ onEvent: later })).rejects.toThrow(new TypeError('a mistake of mine'));
  });

  test.each<[string, (all: Dataset) => Partial<Dataset>, RegExp]>([
    [
      'few images',
      ({ train: { images, labels } }) => ({ train: { images: images.slice(784), labels } }),
      /320 labels, and 250096 bytes of images of 784 bytes/,
    ],
    [
      'a label of no class',
      ({ test: { images, labels } }) => ({ test: { images, labels: labels.with(7, 10) } }),
      /the test set has a label 10, and there are 10 classes/,
    ],
    [
      'no test set',
      ({ test: { images, labels } }) => ({
        test: { images: images.slice(0, 0), labels: labels.slice(0, 0) },
      }),
      /the test set is empty/,
    ],
  ])('refuses a dataset with %s', async (_what, change, message) => {
    const wrong = { ...dataset, ...change(dataset) };
    const refused = run({ dataset: wrong });
    await expect(refused).rejects.toThrow(message);
    await expect(refused).rejects.toBeInstanceOf(UserError);
  });

  test.each<[TrainOptions, RegExp]>([
    [{ threads: 0 }, /threads/],
    [{ threads: NaN }, /threads/],
    [{ targetAccuracy: 98 }, /targetAccuracy/],
    [{ patience: -1 }, /patience/],
    [{ initialParams: new Float32Array(7) }, /7 parameters: the model has 61706/],
  ])('refuses %j', async (options, message) => {
    const refused = run(options);
    await expect(refused).rejects.toThrow(message);
    await expect(refused).rejects.toBeInstanceOf(UserError);
  });

  test('does not mix checkpoints of two runs in one folder', async () => {
    const checkpointsPath = await temporaryDirectory();
    const { last } = await run({ checkpointsPath });
    const names = await readdir(checkpointsPath);
    await expect(run({ checkpointsPath })).rejects.toThrow(/it has those of another run/);
    expect(await readdir(checkpointsPath)).toEqual(names);
    const config = { ...CONFIG, epochs: 3 };
    const { result } = await run({ config, checkpointsPath, resumeFrom: last });
    expect(result).toMatchObject({ outcome: 'finished', globalStep: 15 });
  });

  test('refuses a configuration that is wrong, and a model that does not fit', async () => {
    await expect(run({ config: { ...CONFIG, epochs: 0 } })).rejects.toThrow(/"epochs": 0/);
    const hyperparameters = { kernelSize: 40 };
    await expect(run({ config: { hyperparameters } })).rejects.toThrow(/Cannot build the model/);
  });

  test('starts from weights that are there', async () => {
    const { last } = await run({ config: { ...CONFIG, epochs: 1 } });
    const seen: Float32Array[] = [];
    const { result } = await run({
      config: { ...CONFIG, lr: 1e-30, weightDecay: 0 },
      initialParams: last.params,
      onEvent: (event) => {
        if (event.type === 'step') seen.push(event.params.slice());
      },
    });
    expect(seen[0]).toEqual(last.params);
    expect(result.weightsSha256).toBe(weightsSha256(last.params));
  });

  test('writes checkpoints that the command reads', async () => {
    const checkpointsPath = await temporaryDirectory();
    const { result, best } = await run({ checkpointsPath });
    expect(await readdir(checkpointsPath)).toContain('best.safetensors');
    const model = await loadModel(checkpointsPath);
    expect(model.sha256).toBe(weightsSha256(best!.params));
    const last = await loadModel(`${checkpointsPath}/step-00000010.safetensors`);
    expect(last.sha256).toBe(result.weightsSha256);
  });

  test('records the name of the dataset that it was given, or the one that it was told', async () => {
    const named = { ...dataset, name: 'fashion' };
    const datasetOf = ({ config }: { config: unknown }) => (config as RunConfig).dataset;
    const { last } = await run({ dataset: named });
    expect(datasetOf(last)).toBe('fashion');
    const told = await run({ dataset: named, config: { ...CONFIG, dataset: '/data/fashion' } });
    expect(datasetOf(told.last)).toBe('/data/fashion');
  });
});

describe('modelFrom()', () => {
  test('evaluates as the run did, and predicts what it evaluates', async () => {
    const { result, last } = await run();
    const model = modelFrom(last);
    const report = await model.evaluate(dataset.test);
    expect(report).toMatchObject({ accuracy: result.testAccuracy, loss: result.testLoss });
    const predictions = model.predict(dataset.test.images);
    expect(predictions).toHaveLength(100);
    const numRight = predictions.filter(({ index }, i) => index === dataset.test.labels[i]).length;
    expect(numRight).toBe(report.numCorrect);
    const [{ index, name, probability, probabilities }] = predictions;
    expect(name).toBe(model.classNames[index]);
    expect(probability).toBe(probabilities[index]);
    expect(() => model.predict(new Uint8Array(100))).toThrow(RangeError);
    expect(model.export('js').map((file) => file.name)).toEqual(['model.js', 'README.md']);
  });
});

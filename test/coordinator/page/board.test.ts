import { appendFile, mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createBoard } from '../../../src/coordinator/page/board.js';
import { Gate } from '../../../src/coordinator/page/gate.js';
import type { RunEvent } from '../../../src/coordinator/events.js';
import { createMetricsFile } from '../../../src/coordinator/observers/metrics-file.js';
import { openStoredRun, replayMetrics } from '../../../src/coordinator/run/stored-run.js';
import type { Update } from '../../../src/coordinator/page/update.js';
import { writeCheckpoint } from '../../../src/model/checkpoint.js';
import { initParams } from '../../../src/model/init.js';
import { buildModel, DIGITS, MNIST } from '../../../src/model/lenet.js';
import { createOptimizer } from '../../../src/model/optimizer.js';
import { parseRunConfig, type RunConfig } from '../../../src/shared/config.js';
import { systemClock } from '../../../src/shared/clock.js';
import { fileStorage } from '../../../src/shared/node/storage.js';
import * as run from '../../support/run-events.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

const ignore = { warn: () => undefined };

interface Contents {
  readonly config?: Partial<RunConfig>;
  readonly numSteps?: number;
  readonly hasResult?: boolean;
  readonly hasCheckpoint?: boolean;
}

/** A run directory as the coordinator writes it. */
async function runDirectory(name: string, contents: Contents = {}): Promise<string> {
  const { numSteps = 6, hasResult = true, hasCheckpoint = false } = contents;
  const dir = join(await temporaryDirectory(), name);
  await mkdir(dir);
  const config = parseRunConfig({ epochs: 2, ...contents.config });
  await writeFile(join(dir, 'config.json'), JSON.stringify(config));
  const metrics = await createMetricsFile(join(dir, 'metrics.jsonl'), ignore);
  for (let step = 0; step < numSteps; step += 1) {
    metrics.observe(run.step(step, { epoch: Math.floor(step / 3) }));
  }
  metrics.observe(run.evaluation({ globalStep: numSteps, epoch: 2 }));
  await metrics.close();
  if (hasResult) {
    const { result } = run.finished({ globalStep: numSteps, epochs: 2 });
    await writeFile(join(dir, 'result.json'), JSON.stringify(result));
  }
  if (hasCheckpoint) {
    const model = buildModel(config.hyperparameters);
    const checkpoint = {
      params: initParams(model, 1),
      optimizerState: createOptimizer({ ...config, name: config.optimizer }).init(model.numParams),
      globalStep: numSteps,
      epoch: 2,
      seed: 1,
      hyperparameters: config.hyperparameters,
      input: MNIST.input,
      classNames: DIGITS,
      config,
      engineFingerprint: 'simd/1',
      metrics: null,
    };
    await writeCheckpoint(fileStorage, join(dir, 'checkpoints'), checkpoint, false);
  }
  return dir;
}

async function serve(...dirs: string[]) {
  const gate = new Gate({
    ...{ joiningToken: null, lookingToken: null, key: new Uint8Array(32) },
    ...{ allowedHosts: [], clock: systemClock },
  });
  const board = await createBoard(await Promise.all(dirs.map((dir) => openStoredRun(dir, ignore))));
  const server = createServer((request, response) => {
    if (gate.turnsAway(request, response) || board.handle(request, response)) return;
    response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    board.close();
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, json: async <T>(path: string) => (await (await fetch(url + path)).json()) as T };
}

async function eventsOf(dir: string, warn = ignore.warn as (message: string) => void) {
  const events: RunEvent[] = [];
  const stored = await openStoredRun(dir, { warn });
  await stored.replay((event) => events.push(event));
  return events;
}

describe('openStoredRun()', () => {
  it('replays the events of the run', async () => {
    const events = await eventsOf(await runDirectory('first'));
    expect(events[0]).toMatchObject({
      type: 'started',
      name: 'first',
      numTrain: 3 * 64,
      numTest: 10_000,
      stepsPerEpoch: 3,
      totalSteps: 6,
    });
    const steps = events.filter((event) => event.type === 'step');
    expect(steps).toHaveLength(6);
    expect(steps[5]).toMatchObject({ globalStep: 5, loss: 0.5, times: { computeMs: 3 } });
    expect(events.filter((event) => event.type === 'workerJoined')).toHaveLength(2);
    expect(events.at(-1)).toMatchObject({ type: 'finished', result: { epochs: 2 } });
  });

  it('skips malformed lines, and says how many', async () => {
    const dir = await runDirectory('torn');
    await appendFile(join(dir, 'metrics.jsonl'), '{"type":"step","globalStep":-1}\nnonsense\n{"ty');
    const warnings: string[] = [];
    const events = await eventsOf(dir, (message) => warnings.push(message));
    expect(events.filter((event) => event.type === 'step')).toHaveLength(6);
    expect(warnings).toEqual([expect.stringMatching(/^Skipped 3 malformed lines/)]);
  });

  it('shows a run without a result as unfinished', async () => {
    const events = await eventsOf(await runDirectory('crashed', { hasResult: false }));
    expect(events.some((event) => event.type === 'finished')).toBe(false);
  });

  it('opens only the dataset that it is given', async () => {
    const dataset = await temporaryDirectory();
    const dir = await runDirectory('elsewhere', { config: { dataset }, hasCheckpoint: true });
    const replay = async (given: string | null) => {
      const warnings: string[] = [];
      const stored = await openStoredRun(dir, {
        warn: (message) => warnings.push(message),
        dataset: given,
      });
      await stored.replay(() => undefined);
      return warnings;
    };
    expect(await replay(null)).toEqual([
      expect.stringContaining(`the model was trained on ${dataset}, a path that is not opened`),
    ]);
    // It was opened, and found to be empty.
    expect(await replay(dataset)).toEqual([
      expect.stringContaining('train-images-idx3-ubyte is missing'),
    ]);
  });

  it('refuses a directory without a run, in one sentence', async () => {
    const dir = await temporaryDirectory();
    await expect(openStoredRun(dir, ignore)).rejects.toThrow(/^Cannot show .*: it contains no run/);
  });
});

const MNIST_DATA = { input: MNIST.input, classNames: DIGITS };

describe('replayMetrics()', () => {
  it('replays the earlier part of a resumed run', async () => {
    const dir = await runDirectory('resumed');
    const types: string[] = [];
    const config = parseRunConfig({});
    const path = join(dir, 'metrics.jsonl');
    await replayMetrics(path, 'resumed', config, MNIST_DATA, ({ type }) => types.push(type));
    expect(types.filter((type) => type === 'step')).toHaveLength(6);
    expect(types[0]).toBe('started');
    expect(types).not.toContain('finished');
  });

  it('replays nothing if there is no file', async () => {
    const path = join(await temporaryDirectory(), 'metrics.jsonl');
    const seen: RunEvent[] = [];
    await replayMetrics(path, 'new', parseRunConfig({}), MNIST_DATA, (event) => seen.push(event));
    expect(seen).toEqual([]);
  });
});

describe('createBoard()', () => {
  it('serves the page of a single run at its root', async () => {
    const { json } = await serve(await runDirectory('only'));
    const update = await json<Update>('/api/history');
    expect(update).toMatchObject({ state: 'finished', isLive: false, canPredict: false });
    expect(update.points?.numPoints).toBe(6);
  });

  it('shows the confusion matrix, filters and mistakes of the last checkpoint, and classifies with it', async () => {
    const { url, json } = await serve(await runDirectory('checked', { hasCheckpoint: true }));
    const update = await json<Update>('/api/history');
    const counts = update.confusion?.counts ?? [];
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(10_000);
    expect(update.filters?.numFilters).toBe(6);
    // The evaluation that is already in the metrics is not repeated.
    expect(update.evaluations).toHaveLength(1);
    const answer = await fetch(`${url}/api/predict`, { method: 'POST', body: new Uint8Array(784) });
    const { probabilities } = (await answer.json()) as { probabilities: number[] };
    expect(probabilities.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 4);
  });

  it('compares several runs, each with a page of its own', async () => {
    const dirs = [await runDirectory('a'), await runDirectory('b', { config: { lr: 0.1 } })];
    const { url, json } = await serve(...dirs);
    const runs = await json<Update[]>('/api/runs');
    expect(runs.map((update) => update.run?.config.lr)).toEqual([0.006, 0.1]);
    expect((await json<Update>('/runs/1/api/history')).run?.name).toBe('b');
    expect((await fetch(`${url}/runs/2/`)).status).toBe(404);
    expect((await fetch(`${url}/api/runs`, { method: 'POST' })).status).toBe(405);
    const foreign = await fetch(`${url}/api/runs`, { headers: { origin: 'http://evil.example' } });
    expect(foreign.status).toBe(403);
    expect(foreign.headers.get('content-security-policy')).toContain("default-src 'none'");
  });
});

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { RunEvent } from '../../../src/coordinator/events.js';
import { createTensorBoard, histogramOf } from '../../../src/coordinator/observers/tensorboard.js';
import { readEventFiles, type EventMessage } from '../../support/event-files.js';
import * as events from '../../support/run-events.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

const warn = (message: string) => expect.fail(`Unexpected warning: ${message}`);

async function writeEvents(directory: string, stream: RunEvent[]): Promise<void> {
  const tensorBoard = createTensorBoard(directory, { warn });
  for (const event of stream) tensorBoard.observe(event);
  await tensorBoard.close();
}

/** Scalars by `step tag`, as float32. */
function scalars(messages: EventMessage[]): Record<string, number> {
  const entries = messages.flatMap(({ step, summary }) =>
    (summary?.value ?? [])
      .filter(({ simpleValue }) => simpleValue !== undefined)
      .map(({ tag, simpleValue }) => [`${step} ${tag}`, simpleValue!] as const),
  );
  return Object.fromEntries(entries);
}

/** Parameters that differ from layer to layer: element i of θ is i / P. */
const params = Float32Array.from(
  { length: events.NUM_PARAMS },
  (_, index) => index / events.NUM_PARAMS,
);

describe('createTensorBoard()', () => {
  it('writes the scalars of steps, by the number of updates made', async () => {
    const directory = await temporaryDirectory();
    const steps = [events.step(0), events.step(1, { loss: 0.1, learningRate: 0.005 })];
    await writeEvents(directory, [events.started(), ...steps]);
    const messages = await readEventFiles(join(directory, 'train'));
    expect(messages[0]).toMatchObject({ fileVersion: 'brain.Event:2' });
    expect(messages[2].wallTime).toBe(steps[1].time / 1000);
    expect(scalars(messages)).toEqual({
      '1 loss': 0.5,
      '1 accuracy': 0.875,
      '1 learning_rate': Math.fround(0.006),
      '1 images_per_second': 16_000,
      '2 loss': Math.fround(0.1),
      '2 accuracy': 0.875,
      '2 learning_rate': Math.fround(0.005),
      '2 images_per_second': 16_000,
    });
    expect(await readdir(directory)).toEqual(['train']);
  });

  it('writes evaluations into the folder of their set, under the same tags', async () => {
    const directory = await temporaryDirectory();
    await writeEvents(directory, [
      events.started(),
      events.evaluation({ set: 'validation', loss: 0.25 }),
      events.evaluation({ loss: 0.5 }),
    ]);
    expect(scalars(await readEventFiles(join(directory, 'validation')))).toEqual({
      '938 loss': 0.25,
      '938 accuracy': Math.fround(0.9731),
    });
    expect(scalars(await readEventFiles(join(directory, 'test')))).toEqual({
      '938 loss': 0.5,
      '938 accuracy': Math.fround(0.9731),
    });
  });

  it('writes a histogram for each parameter tensor, once per evaluated step', async () => {
    const directory = await temporaryDirectory();
    await writeEvents(directory, [
      events.started(),
      events.evaluation({ set: 'validation', params }),
      events.evaluation({ params }),
    ]);
    const messages = await readEventFiles(join(directory, 'train'));
    expect(messages).toHaveLength(2);
    const values = messages[1].summary!.value;
    expect(values.map(({ tag }) => tag)).toEqual([
      'C1/weights',
      'C1/biases',
      'C3/weights',
      'C3/biases',
      'F5/weights',
      'F5/biases',
      'F6/weights',
      'F6/biases',
      'Output/weights',
      'Output/biases',
    ]);
    expect(values.map(({ histo }) => histo!.num)).toEqual([
      150, 6, 2400, 16, 48_000, 120, 10_080, 84, 840, 10,
    ]);
    const { histo } = values[2];
    expect(histo!.min).toBe(params[156]);
    expect(histo!.max).toBe(params[2555]);
    expect(histo!.bucketLimit).toHaveLength(50);
    expect(histo!.bucketLimit.at(-1)).toBe(histo!.max);
    expect(histo!.bucket.reduce((sum, count) => sum + count, 0)).toBe(2400);
    const theirs = params.subarray(156, 2556);
    expect(histo!.sum).toBeCloseTo(
      theirs.reduce((sum, value) => sum + value, 0),
      3,
    );
    expect(histo!.sumSquares).toBeCloseTo(
      theirs.reduce((sum, value) => sum + value * value, 0),
      3,
    );
  });

  it('starts a session on resume, so that later steps are discarded', async () => {
    const directory = await temporaryDirectory();
    await writeEvents(directory, [events.started(), events.step(0), events.step(1)]);
    const time = events.START + 60_000;
    const resumed = events.started({ isResumed: true, globalStep: 1, time });
    await writeEvents(directory, [resumed, events.step(1)]);
    expect(await readdir(join(directory, 'train'))).toHaveLength(2);
    const messages = await readEventFiles(join(directory, 'train'));
    expect(messages.slice(3).map(({ step, sessionLog }) => [step, sessionLog?.status])).toEqual([
      [0, undefined],
      [2, 'START'],
      [2, undefined],
    ]);
  });
});

describe('histogramOf()', () => {
  it('counts each value once', () => {
    const { min, max, count, counts } = histogramOf(Float32Array.from([-1, -1, 0, 0.5, 1]));
    expect({ min, max, count }).toEqual({ min: -1, max: 1, count: 5 });
    expect(counts[0]).toBe(2);
    expect(counts[25]).toBe(1);
    expect(counts[49]).toBe(1);
    expect(counts.reduce((sum, each) => sum + each, 0)).toBe(5);
  });

  it('has one bucket for equal values', () => {
    expect(histogramOf(new Float32Array(3))).toEqual({
      min: 0,
      max: 0,
      count: 3,
      sum: 0,
      sumOfSquares: 0,
      limits: [0],
      counts: [3],
    });
  });

  it('skips values that are not finite', () => {
    expect(histogramOf(Float32Array.from([NaN, 1, Infinity, 2]))).toMatchObject({
      count: 2,
      min: 1,
      max: 2,
    });
    expect(histogramOf(Float32Array.from([NaN]))).toMatchObject({ count: 0, counts: [0] });
  });
});

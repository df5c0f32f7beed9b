import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StepSeries, type StepSample } from '../../../src/coordinator/page/step-series.js';

function sample(globalStep: number, changes: Partial<StepSample> = {}): StepSample {
  return {
    globalStep,
    seconds: globalStep / 100,
    loss: 1 / (1 + globalStep),
    accuracy: (globalStep % 10) / 10,
    learningRate: 0.01,
    numImages: 64,
    worldSize: 2,
    planMs: 0.1,
    wireMs: 1,
    computeMs: 3,
    reduceMs: 0.2,
    updateMs: 0.2,
    waitMs: 0,
    ...changes,
  };
}

function filled(numSteps: number, capacity: number): StepSeries {
  const series = new StepSeries(capacity);
  for (let step = 0; step < numSteps; step += 1) series.add(sample(step));
  return series;
}

const contents = (series: StepSeries) => ({
  stride: series.stride,
  steps: Array.from(series.lastStep.subarray(0, series.length)),
  loss: Array.from(series.column('loss')),
  count: Array.from(series.column('count')),
});

describe('StepSeries', () => {
  it('keeps every step of a short run', () => {
    const series = filled(8, 8);
    expect(series.stride).toBe(1);
    expect(contents(series).steps).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('never exceeds its capacity, and stays at least half full', () => {
    for (const numSteps of [9, 17, 1000, 4097]) {
      const series = filled(numSteps, 8);
      expect(series.length).toBeGreaterThanOrEqual(4);
      expect(series.length).toBeLessThanOrEqual(8);
    }
  });

  it('keeps count, mean, minimum and maximum of merged steps', () => {
    const series = filled(1000, 16);
    const count = series.column('count');
    expect(count.reduce((sum, value) => sum + value, 0)).toBe(1000);
    const [from, to] = [series.lastStep[2] + 1, series.lastStep[3]];
    const steps = Array.from({ length: to - from + 1 }, (_, at) => from + at);
    const accuracies = steps.map((step) => sample(step).accuracy);
    const mean = accuracies.reduce((sum, value) => sum + value, 0) / accuracies.length;
    // Float32 means of at most 64 values below 1.
    expect(series.column('accuracy')[3]).toBeCloseTo(mean, 5);
    expect(series.column('accuracyMin')[3]).toBeCloseTo(Math.min(...accuracies), 6);
    expect(series.column('accuracyMax')[3]).toBeCloseTo(Math.max(...accuracies), 6);
  });

  it('drops steps that are repeated', () => {
    const series = filled(6, 8);
    series.add(sample(3, { loss: 7 }));
    expect(contents(series).steps).toEqual([0, 1, 2, 3]);
    expect(series.column('loss')[3]).toBe(7);
  });

  it('apply() makes a copy equal, whenever it is updated', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 20 }),
        (batches) => {
          const series = new StepSeries(16);
          const copy = new StepSeries(16);
          let step = 0;
          for (const numSteps of batches) {
            // A resumed run may go back.
            const from = numSteps % 7 === 0 ? Math.floor(step / 2) : step;
            for (step = from; step < from + numSteps; step += 1) series.add(sample(step));
            copy.apply(series.encode(from));
          }
          expect(contents(copy)).toEqual(contents(series));
        },
      ),
    );
  });

  it('apply() refuses points that do not fit', () => {
    const encoded = filled(100, 16).encode(0);
    expect(() => new StepSeries(4).apply(encoded)).toThrow(RangeError);
    const cells = encoded.cells.slice(4);
    expect(() => new StepSeries(16).apply({ ...encoded, cells })).toThrow(RangeError);
  });
});

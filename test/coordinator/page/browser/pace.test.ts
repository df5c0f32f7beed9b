import { describe, expect, it } from 'vitest';
import { paceOf } from '../../../../src/coordinator/page/browser/pace.js';
import { StepSeries } from '../../../../src/coordinator/page/step-series.js';

/** Steps of 0.1 s from those moments on, s. */
function seriesOf(...spans: (readonly [from: number, numSteps: number])[]): StepSeries {
  const series = new StepSeries(1_000);
  let globalStep = 0;
  for (const [from, numSteps] of spans) {
    for (let step = 1; step <= numSteps; step++) {
      series.add({
        ...{ globalStep: globalStep++, seconds: from + step / 10, numImages: 64 },
        ...{ loss: 1, accuracy: 0, learningRate: 1, worldSize: 1 },
        ...{ planMs: 0, wireMs: 10, computeMs: 90, reduceMs: 0, updateMs: 0, waitMs: 0 },
      });
    }
  }
  return series;
}

describe('paceOf()', () => {
  it('is that of the last seconds, with evaluations', () => {
    expect(paceOf(seriesOf([0, 1]))).toBeNull();
    expect(paceOf(seriesOf([0, 300]))?.secondsPerStep).toBeCloseTo(0.1);
    expect(paceOf(seriesOf([0, 300]))?.imagesPerSecond).toBeCloseTo(640);
    // Ten seconds, of which an evaluation takes five.
    expect(paceOf(seriesOf([0, 50], [10, 50]))?.secondsPerStep).toBeCloseTo(0.15, 2);
  });

  it('leaves out a pause', () => {
    const pause = 3 * 3600;
    expect(paceOf(seriesOf([0, 50], [pause, 1]))).toBeNull();
    expect(paceOf(seriesOf([0, 50], [pause, 50]))?.secondsPerStep).toBeCloseTo(0.1);
  });
});

import { describe, expect, test } from 'vitest';
import { createSchedule, type ScheduleConfig } from '../../src/model/schedule.js';

const config: ScheduleConfig = {
  name: 'constant',
  learningRate: 0.006,
  warmupSteps: 0,
  totalSteps: 1000,
  stepEvery: 100,
  stepFactor: 0.5,
};

describe('createSchedule()', () => {
  test('constant stays', () => {
    const rate = createSchedule(config);
    expect([rate(0), rate(1), rate(123_456)]).toEqual([0.006, 0.006, 0.006]);
  });

  test('cosine falls from the learning rate to zero', () => {
    const rate = createSchedule({ ...config, name: 'cosine' });
    for (let step = 0; step <= 1000; step++) {
      const expected = (0.006 * (1 + Math.cos((Math.PI * step) / 1000))) / 2;
      expect(Math.abs(rate(step) - expected)).toBeLessThan(1e-12);
    }
    expect(rate(0)).toBe(0.006);
    expect(rate(999)).toBeGreaterThan(0);
    expect([rate(1000), rate(1001)]).toEqual([0, 0]);
  });

  test.each(['constant', 'cosine', 'step'] as const)('%s warms up linearly', (name) => {
    const rate = createSchedule({ ...config, name, learningRate: 1, warmupSteps: 3 });
    expect([rate(0), rate(1), rate(2), rate(3)]).toEqual([0.25, 0.5, 0.75, 1]);
  });

  test('cosine ends at the total steps with a warm-up too', () => {
    const rate = createSchedule({ ...config, name: 'cosine', warmupSteps: 200 });
    expect(rate(600)).toBeCloseTo(0.003, 12);
    expect(rate(1000)).toBe(0);
  });

  test('step falls by its factor again and again', () => {
    const rate = createSchedule({ ...config, name: 'step', learningRate: 1 });
    expect([99, 100, 250, 700].map(rate)).toEqual([1, 0.5, 0.25, 2 ** -7]);
  });

  test('does not break off where a warm-up is longer than the run', () => {
    const rate = createSchedule({ ...config, name: 'cosine', warmupSteps: 10, totalSteps: 5 });
    expect([rate(9) > 0, rate(10)]).toEqual([true, 0]);
  });
});

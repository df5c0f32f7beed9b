import { describe, expect, it } from 'vitest';
import type { EvaluationDone } from '../../src/coordinator/events.js';
import { NO_PROGRESS } from '../../src/coordinator/progress.js';
import { Tally, type TallyRules } from '../../src/coordinator/tally.js';

const RULES: TallyRules = {
  totalSteps: 40,
  stepsPerEpoch: 10,
  decidingSet: 'test',
  targetAccuracy: null,
  patience: null,
};

/** A tally after evaluations with these accuracies, one per epoch. @returns it, and the number of updates */
function tallyOf(accuracies: readonly number[], rules: Partial<TallyRules> = {}) {
  const tally = new Tally(NO_PROGRESS, { ...RULES, ...rules }, 0);
  const areBest = accuracies.map((accuracy, epoch) => {
    const evaluation = { accuracy, loss: 1 } as EvaluationDone;
    return tally.evaluated(10 * (epoch + 1), evaluation, evaluation);
  });
  return { tally, areBest, globalStep: 10 * accuracies.length };
}

describe('Tally', () => {
  it('counts an evaluation as the best if it beats all before it', () => {
    expect(tallyOf([0.5, 0.5, 0.6, 0.4]).areBest).toEqual([true, false, true, false]);
  });

  it.each([
    ['finished', [0.1, 0.2, 0.3, 0.4], {}],
    ['stopped', [0.1, 0.2, 0.3], {}],
    ['targetReached', [0.1, 0.9], { targetAccuracy: 0.9 }],
    ['targetReached', [0.1, 0.2, 0.3, 0.9], { targetAccuracy: 0.9 }],
    ['stopped', [0.5, 0.4], { patience: 2 }],
    ['stoppedEarly', [0.5, 0.4, 0.5], { patience: 2 }],
  ] as const)('ends as %s after accuracies %j with %j', (outcome, accuracies, rules) => {
    const { tally, globalStep } = tallyOf(accuracies, rules);
    expect(tally.outcome(globalStep)).toBe(outcome);
    // Regardless of the evaluation, which was before the last update.
    expect(tally.outcome(globalStep + 1)).toBe('stopped');
  });

  it('considers an accuracy momentous if it would be the best, reach the target or exhaust the patience', () => {
    const { tally, globalStep } = tallyOf([0.5, 0.4], { targetAccuracy: 0.45, patience: 2 });
    expect(tally.isMomentous(globalStep, 0.6)).toBe(true);
    expect(tally.isMomentous(globalStep, 0.45)).toBe(true);
    expect(tally.isMomentous(globalStep, 0.4)).toBe(false);
    expect(tally.isMomentous(globalStep + 10, 0.4)).toBe(true);
  });

  it('calls nothing reproducible before the first step', () => {
    const tally = new Tally(NO_PROGRESS, RULES, 0);
    const isReproducible = (globalStep: number) =>
      tally.result(0, globalStep, new Float32Array(1), 'simd/1').reproducible;
    expect([0, 1].map(isReproducible)).toEqual([false, true]);
  });

  it('adds its time to that of earlier processes', () => {
    const spent = { seconds: 100, trainingMs: 50_000, numImages: 1_000 };
    const tally = new Tally({ ...NO_PROGRESS, spent }, RULES, 7_000);
    expect(tally.store(9_000).spent).toEqual({ ...spent, seconds: 102 });
  });
});

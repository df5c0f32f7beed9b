/** Learning-rate schedules: pure functions of the step. */
import type { RunConfig } from '../shared/config.js';
import { cosPi } from './elementary.js';

export interface ScheduleConfig {
  readonly name: RunConfig['schedule'];
  /** η, the rate at the end of the warm-up; ≥ 0. */
  readonly learningRate: number;
  /** Updates of linear growth from 0 to η, in all schedules; 0 for none. */
  readonly warmupSteps: number;
  /** Of `cosine`: updates of the whole run, the warm-up among them. */
  readonly totalSteps: number;
  /** Of `step`: updates after which the rate falls, again and again; ≥ 1. */
  readonly stepEvery: number;
  /** Of `step`: what the rate is multiplied by. */
  readonly stepFactor: number;
}

/** Learning rate of the update `globalStep`, 0-based. */
export type Schedule = (globalStep: number) => number;

/**
 * The schedule of that configuration, with t the 0-based step, W the warm-up and T the total steps:
 *
 *   warm-up   η·(t + 1) / (W + 1)                        for t < W, in all of them
 *   constant  η
 *   cosine    η·(1 + cos(π·(t − W) / (T − W))) / 2       0 from t = T on
 *   step      η·stepFactor^⌊(t − W) / stepEvery⌋
 *
 * Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017. The cosine is our own and the power
 * a product, as the bits of `Math.cos` and `Math.pow` are the host's choice.
 */
export function createSchedule(config: ScheduleConfig): Schedule {
  const { name, learningRate, warmupSteps, totalSteps, stepEvery, stepFactor } = config;
  const factor: Schedule = (step) => {
    switch (name) {
      case 'constant':
        return 1;
      case 'cosine': {
        if (step >= totalSteps - warmupSteps) return 0;
        // cos² of the half angle: near the end exact where 1 + cos would cancel.
        const half = cosPi(step / (totalSteps - warmupSteps) / 2);
        return half * half;
      }
      case 'step':
        return power(stepFactor, Math.floor(step / stepEvery));
    }
  };
  return (globalStep) =>
    globalStep < warmupSteps
      ? (learningRate * (globalStep + 1)) / (warmupSteps + 1)
      : learningRate * factor(globalStep - warmupSteps);
}

/** The schedule of a run, whose configuration counts in epochs. */
export function createRunSchedule(config: RunConfig, stepsPerEpoch: number): Schedule {
  return createSchedule({
    name: config.schedule,
    learningRate: config.lr,
    warmupSteps: Math.round(config.warmupEpochs * stepsPerEpoch),
    totalSteps: config.epochs * stepsPerEpoch,
    stepEvery: Math.max(1, Math.round(config.stepEpochs * stepsPerEpoch)),
    stepFactor: config.stepFactor,
  });
}

/** base^exponent for an integer exponent ≥ 0, by squaring. */
function power(base: number, exponent: number): number {
  let result = 1;
  for (let rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result *= base;
    base *= base;
  }
  return result;
}

import { describe, expect, it } from 'vitest';
import { parseRunConfig } from '../../src/shared/config.js';

describe('parseRunConfig()', () => {
  // What makes an optimizer or a schedule is not checked again.
  it.each([
    [{ momentum: 1 }, '"momentum": 1'],
    [{ beta1: -0.1 }, '"beta1": -0.1'],
    [{ beta2: 1 }, '"beta2": 1'],
    // As a float32 it is zero, and would divide by zero where no gradient has been.
    [{ epsilon: 1e-60 }, '"epsilon": 1e-60'],
    [{ weightDecay: -1 }, '"weightDecay": -1'],
    [{ lr: 0 }, '"lr": 0'],
    [{ warmupEpochs: -1 }, '"warmupEpochs": -1'],
    [{ stepEpochs: 0 }, '"stepEpochs": 0'],
    [{ stepFactor: 2 }, '"stepFactor": 2'],
  ])('refuses %o', (config, message) => {
    expect(() => parseRunConfig(config)).toThrow(message);
  });
});

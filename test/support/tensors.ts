/**
 * Matchers for parameters and gradients that say where they differ:
 *
 *   expect(gradient).toAgreePerTensor(model, expected, 1e-4)     within a tolerance
 *   expect(gradient).toEqualBits(expected)                       to the bit
 */
import { expect } from 'vitest';
import type { Model } from '../../src/model/lenet.js';
import { paramTensorsOf } from '../../src/model/param-tensors.js';
import { createRandom } from '../../src/shared/random.js';

/** (P,) parameters that any language can make: not trained, biases not zero, each a hash of its place. */
export function hashedParams(model: Model, scale: number): Float32Array {
  return Float32Array.from({ length: model.numParams }, (_, index) => {
    let word = index + 1;
    word = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
    word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
    return (((word ^ (word >>> 16)) >>> 0) / 2 ** 32 - 0.5) * scale;
  });
}

export function norm(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

/**
 * A direction that a wrong gradient shows in: half along the gradient, where the slope is largest, half random.
 *
 * @returns of length 1
 */
export function checkedDirection(gradient: Float32Array): Float64Array {
  const random = createRandom(1, 'direction');
  const along = 1 / (norm(gradient) + 1e-30);
  const across = Math.sqrt(3 / gradient.length);
  const mixed = Float64Array.from(gradient, (g) => g * along + (2 * random.float() - 1) * across);
  const length = Math.sqrt(mixed.reduce((sum, d) => sum + d * d, 0));
  return mixed.map((d) => d / length);
}

const MAX_SHOWN = 5;

function firstDifferences(
  actual: Float32Array,
  expected: Float32Array,
  differs: (index: number) => boolean,
  nameOf: (index: number) => string,
): string {
  const lines = [];
  let numDiffering = 0;
  for (let i = 0; i < expected.length; i++) {
    if (!differs(i)) continue;
    numDiffering += 1;
    if (lines.length < MAX_SHOWN) {
      lines.push(`  ${nameOf(i)}: got ${actual[i]}, expected ${expected[i]}`);
    }
  }
  return `${numDiffering} of ${expected.length} values differ, the first of them:\n${lines.join('\n')}`;
}

expect.extend({
  toAgreePerTensor(actual: Float32Array, model: Model, expected: Float32Array, tolerance: number) {
    if (actual.length !== expected.length) {
      return {
        pass: false,
        message: () => `Got ${actual.length} values, expected ${expected.length}`,
      };
    }
    for (const { name, offset, length } of paramTensorsOf(model)) {
      const got = actual.subarray(offset, offset + length);
      const wanted = expected.subarray(offset, offset + length);
      const error = norm(got.map((value, index) => value - wanted[index]));
      if (error <= tolerance * norm(wanted)) continue;
      // Of the values, those whose error alone would be too much for an average one.
      const share = (tolerance * norm(wanted)) / Math.sqrt(length);
      return {
        pass: false,
        message: () =>
          `${name}: relative error ${error / norm(wanted)}, expected at most ${tolerance}; ` +
          firstDifferences(
            got,
            wanted,
            (index) => !(Math.abs(got[index] - wanted[index]) <= share),
            (index) => `${name}[${index}]`,
          ),
      };
    }
    return { pass: true, message: () => `Expected a tensor to differ by more than ${tolerance}` };
  },

  toEqualBits(actual: Float32Array, expected: Float32Array) {
    if (actual.length !== expected.length) {
      return {
        pass: false,
        message: () => `Got ${actual.length} values, expected ${expected.length}`,
      };
    }
    const [actualBits, expectedBits] = [actual, expected].map(
      (values) => new Uint32Array(values.slice().buffer),
    );
    const differs = (index: number): boolean => actualBits[index] !== expectedBits[index];
    return {
      pass: !actualBits.some((_, index) => differs(index)),
      message: () => firstDifferences(actual, expected, differs, (index) => `[${index}]`),
    };
  },
});

declare module 'vitest' {
  // eslint-disable-next-line @typescript-eslint/no-explicit-any, @typescript-eslint/no-unused-vars -- vitest's own signature
  interface Matchers<T = any> {
    /** ‖actual − expected‖ ≤ tolerance · ‖expected‖ for each parameter tensor of the model. */
    toAgreePerTensor(model: Model, expected: Float32Array, tolerance: number): void;
    toEqualBits(expected: Float32Array): void;
  }
}

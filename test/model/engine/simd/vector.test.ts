import { describe, expect, test } from 'vitest';
import { createOptimizer, OPTIMIZERS } from '../../../../src/model/optimizer.js';
import { createVectorOps } from '../../../../src/model/engine/simd/node.js';
import { createRandom } from '../../../../src/shared/random.js';
import '../../../support/tensors.js';

function randomVector(length: number, seed: number): Float32Array {
  const random = createRandom(seed, 'vector');
  // Magnitudes from 2⁻³⁰ to 2¹⁰, both signs, some zeros.
  return Float32Array.from({ length }, () =>
    random.below(10) === 0 ? 0 : (2 * random.float() - 1) * 2 ** (random.below(40) - 30),
  );
}

describe.each([1, 3, 4, 5, 16, 17, 61_706])('vectors of %i values', (length) => {
  const places = ['allocated', 'ordinary'] as const;

  test.each(places)('add() and divide() round like float32 arithmetic, %s arrays', (place) => {
    const ops = createVectorOps(length);
    const make = (seed: number): Float32Array => {
      const vector = place === 'allocated' ? ops.allocate() : new Float32Array(length);
      vector.set(randomVector(length, seed));
      return vector;
    };
    const [sum, term] = [make(1), make(2)];
    const expected = sum.map((value, i) => Math.fround(value + term[i]));
    ops.add(sum, term);
    expect(sum.slice()).toEqualBits(expected);
    expect(term.slice()).toEqualBits(randomVector(length, 2));
    ops.divide(sum, 48);
    expect(sum.slice()).toEqualBits(expected.map((value) => value / 48));
  });

  test.each(places)('isFinite() finds NaN and Inf anywhere, %s arrays', (place) => {
    const ops = createVectorOps(length);
    const vector = place === 'allocated' ? ops.allocate() : new Float32Array(length);
    vector.set(randomVector(length, 1));
    expect(ops.isFinite(vector)).toBe(true);
    for (const value of [NaN, Infinity, -Infinity]) {
      vector[length - 1] = value;
      expect(ops.isFinite(vector)).toBe(false);
    }
  });

  test.each(places.flatMap((place) => OPTIMIZERS.map((name) => ({ place, name }))))(
    '$name has the bits of the plain loops, $place arrays',
    ({ place, name }) => {
      const config = {
        ...{ name, momentum: 0.9, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.02 },
      };
      const ops = createVectorOps(length);
      const make = (): Float32Array =>
        place === 'allocated' ? ops.allocate() : new Float32Array(length);
      const plain = createOptimizer(config);
      const fast = createOptimizer(config, ops);
      const expected = randomVector(length, 1);
      const actual = make();
      actual.set(expected);
      const plainState = plain.init(length);
      const { scalars, tensors } = fast.init(length);
      const state = {
        scalars,
        tensors: Object.fromEntries(Object.keys(tensors).map((key) => [key, make()])),
      };
      const gradient = make();
      for (let step = 0; step < 5; step++) {
        gradient.set(randomVector(length, 10 + step));
        plain.update(expected, plainState, gradient, 0.003 / (step + 1));
        fast.update(actual, state, gradient, 0.003 / (step + 1));
        expect(actual.slice()).toEqualBits(expected);
      }
      for (const [key, tensor] of Object.entries(plainState.tensors)) {
        expect(state.tensors[key].slice()).toEqualBits(tensor);
      }
    },
  );
});

test('vectors of another length are refused', () => {
  const ops = createVectorOps(4);
  expect(() => ops.add(ops.allocate(), new Float32Array(3))).toThrow(RangeError);
});

test('allocate() goes on with ordinary arrays when its memory is full', () => {
  const ops = createVectorOps(4, { numVectors: 1 });
  const [inside, outside] = [ops.allocate(), ops.allocate()];
  inside.fill(1);
  outside.fill(2);
  ops.add(outside, inside);
  expect([...outside]).toEqual([3, 3, 3, 3]);
});

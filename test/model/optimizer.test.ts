import { describe, expect, test } from 'vitest';
import {
  createOptimizer,
  type OptimizerConfig,
  type OptimizerName,
} from '../../src/model/optimizer.js';
import { createRandom } from '../../src/shared/random.js';

const config: OptimizerConfig = {
  name: 'sgd',
  momentum: 0.9,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0,
};

const NUM_PARAMS = 37;
const LEARNING_RATE = 0.01;

/** (count,) values in (−scale, scale). */
function randomVector(count: number, scale: number, label: string): Float32Array {
  const random = createRandom(1, label);
  return Float32Array.from({ length: count }, () => (2 * random.float() - 1) * scale);
}

/** θ after steps with gradients of their own, as the textbook has it, in float64. */
function textbook(optimizer: OptimizerConfig, numSteps: number): Float64Array {
  const params = Float64Array.from(randomVector(NUM_PARAMS, 0.5, 'params'));
  const first = new Float64Array(NUM_PARAMS);
  const second = new Float64Array(NUM_PARAMS);
  const { name, momentum, beta1, beta2, epsilon, weightDecay } = optimizer;
  for (let t = 1; t <= numSteps; t++) {
    const gradient = randomVector(NUM_PARAMS, 0.1, `gradient ${t}`);
    for (let i = 0; i < NUM_PARAMS; i++) {
      const g = gradient[i];
      params[i] *= 1 - LEARNING_RATE * weightDecay;
      if (name === 'sgd') params[i] -= LEARNING_RATE * g;
      if (name === 'momentum') {
        first[i] = momentum * first[i] + g;
        params[i] -= LEARNING_RATE * first[i];
      }
      if (name === 'adam') {
        first[i] = beta1 * first[i] + (1 - beta1) * g;
        second[i] = beta2 * second[i] + (1 - beta2) * g * g;
        const mean = first[i] / (1 - beta1 ** t);
        const meanSquare = second[i] / (1 - beta2 ** t);
        params[i] -= (LEARNING_RATE * mean) / (Math.sqrt(meanSquare) + epsilon);
      }
    }
  }
  return params;
}

function train(optimizerConfig: OptimizerConfig, numSteps: number): Float32Array {
  const optimizer = createOptimizer(optimizerConfig);
  const params = randomVector(NUM_PARAMS, 0.5, 'params');
  const state = optimizer.init(NUM_PARAMS);
  for (let t = 1; t <= numSteps; t++) {
    optimizer.update(params, state, randomVector(NUM_PARAMS, 0.1, `gradient ${t}`), LEARNING_RATE);
  }
  return params;
}

const cases = (['sgd', 'momentum', 'adam'] as const).flatMap((name) =>
  [0, 0.1].map((weightDecay) => ({ name, weightDecay })),
);

describe.each(cases)('update() of $name with weight decay $weightDecay', (change) => {
  test('follows the textbook', () => {
    const optimizer = { ...config, ...change };
    const params = train(optimizer, 50);
    const expected = textbook(optimizer, 50);
    // 50 steps of some float32 roundings each, of values below one.
    for (let i = 0; i < NUM_PARAMS; i++) {
      expect(Math.abs(params[i] - expected[i])).toBeLessThan(2e-6);
    }
  });

  test('goes on from a copied state with the same bits', () => {
    const optimizer = createOptimizer({ ...config, ...change });
    const params = randomVector(NUM_PARAMS, 0.5, 'params');
    let state = optimizer.init(NUM_PARAMS);
    for (let t = 1; t <= 10; t++) {
      optimizer.update(
        params,
        state,
        randomVector(NUM_PARAMS, 0.1, `gradient ${t}`),
        LEARNING_RATE,
      );
      state = structuredClone(state);
    }
    expect(params).toEqual(train({ ...config, ...change }, 10));
  });
});

describe('update()', () => {
  test.each<[OptimizerName, number[]]>([
    ['sgd', [1044884227, 3155025598, 1035749476, 1055883768]],
    ['momentum', [1043677747, 3128426372, 1035917084, 1055682723]],
    ['adam', [1043726675, 1002761382, 1040457789, 1054525743]],
  ])('of %s gives the golden bits', (name, golden) => {
    const bits = new Uint32Array(train({ ...config, name, weightDecay: 0.02 }, 20).buffer);
    expect([...bits.subarray(0, 4)]).toEqual(golden);
  });

  test('leaves the gradient as it is', () => {
    const gradient = randomVector(NUM_PARAMS, 0.1, 'gradient');
    const copy = gradient.slice();
    const optimizer = createOptimizer({ ...config, name: 'adam' });
    optimizer.update(new Float32Array(NUM_PARAMS), optimizer.init(NUM_PARAMS), gradient, 0.1);
    expect(gradient).toEqual(copy);
  });

  test('leaves a parameter without a gradient where it is', () => {
    for (const name of ['sgd', 'momentum', 'adam'] as const) {
      const optimizer = createOptimizer({ ...config, name });
      const params = Float32Array.of(0, -0, 0.3);
      optimizer.update(params, optimizer.init(3), new Float32Array(3), 0.1);
      expect(params).toEqual(Float32Array.of(0, -0, 0.3));
    }
  });

  test('refuses lengths that differ', () => {
    const optimizer = createOptimizer(config);
    const state = optimizer.init(3);
    expect(() => optimizer.update(new Float32Array(3), state, new Float32Array(4), 0.1)).toThrow(
      'Cannot update 3 parameters with a gradient of 4 values',
    );
  });

  test('refuses the state of another optimizer', () => {
    const adam = createOptimizer({ ...config, name: 'adam' });
    const state = createOptimizer({ ...config, name: 'momentum' }).init(3);
    expect(() => adam.update(new Float32Array(3), state, new Float32Array(3), 0.1)).toThrow(
      'Cannot update with adam: expected a state of [mean, meanSquare], 3 values each, got [velocity]',
    );
  });
});

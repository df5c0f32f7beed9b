/**
 * The optimizers: from the mean gradient to the next θ. Nothing else changes θ.
 *
 * Every operation on an element rounds to float32, in the order written here, and only + − × ÷ √ occur; so any
 * implementation with IEEE 754 arithmetic that keeps the order gives the same bits. What is not per element (rates,
 * running products) is float64 and rounded to float32 once, before the loop. Weight decay is decoupled in all of them:
 * θ shrinks by (1 − learningRate·weightDecay), whatever the gradient (Loshchilov and Hutter, Decoupled Weight Decay
 * Regularization, 2019).
 *
 * Shapes: params θ, gradient g and each tensor of a state are (P,) float32.
 */
import { runOptions, type RunConfig } from '../shared/config.js';

export const OPTIMIZERS = runOptions.optimizer.unwrap().options;
export type OptimizerName = (typeof OPTIMIZERS)[number];

/** With the bounds of the run's options: src/shared/config.ts. */
export type OptimizerConfig = { readonly name: OptimizerName } & Readonly<
  Pick<RunConfig, 'momentum' | 'beta1' | 'beta2' | 'epsilon' | 'weightDecay'>
>;

/** What an optimizer remembers between steps; a checkpoint stores it as it is. */
export interface OptimizerState {
  /** (P,) each. */
  readonly tensors: Readonly<Record<string, Float32Array>>;
  /** float64 running values. */
  readonly scalars: Record<string, number>;
}

export interface Optimizer {
  readonly config: OptimizerConfig;
  /**
   * The state before the first step.
   *
   * @param allocate makes a zeroed (P,) tensor where the kernels are fastest
   */
  init(numParams: number, allocate?: () => Float32Array): OptimizerState;
  /**
   * θ, state ← update(θ, state, g, learningRate), both in place.
   *
   * @param gradient (P,) mean over the global batch; not changed
   * @throws {RangeError} if the lengths differ or the state is that of another optimizer
   */
  update(
    params: Float32Array,
    state: OptimizerState,
    gradient: Float32Array,
    learningRate: number,
  ): void;
  /**
   * One update, slice by slice: each element of θ is to be in one of them. The bits are those of `update`.
   *
   * @returns what updates the values [first, end) by the whole (P,) gradient, of which it reads no others
   */
  begin(
    params: Float32Array,
    state: OptimizerState,
    learningRate: number,
  ): (gradient: Float32Array, slice: readonly [first: number, end: number]) => void;
}

/** The loops over the elements. Scalars are float32 values; arrays are (P,), changed in place but for `gradient`. */
export interface OptimizerKernels {
  /** θ ← decay·θ − rate·g */
  sgd(params: Float32Array, gradient: Float32Array, rate: number, decay: number): void;
  /** v ← momentum·v + g;  θ ← decay·θ − rate·v */
  momentum(
    params: Float32Array,
    velocity: Float32Array,
    gradient: Float32Array,
    momentum: number,
    rate: number,
    decay: number,
  ): void;
  /**
   *   m ← beta1·m + rest1·g
   *   v ← beta2·v + rest2·(g·g)
   *   θ ← decay·θ − (rate·m) / (scale·√v + epsilon)
   */
  adam(
    params: Float32Array,
    mean: Float32Array,
    meanSquare: Float32Array,
    gradient: Float32Array,
    scalars: AdamScalars,
  ): void;
}

/** float32 values, the same for all elements of one step. */
export interface AdamScalars {
  readonly beta1: number;
  /** 1 − beta1 */
  readonly rest1: number;
  readonly beta2: number;
  /** 1 − beta2 */
  readonly rest2: number;
  /** learningRate / (1 − beta1ᵗ), t = 1 in the first step */
  readonly rate: number;
  /** 1 / √(1 − beta2ᵗ) */
  readonly scale: number;
  readonly epsilon: number;
  /** 1 − learningRate·weightDecay */
  readonly decay: number;
}

const { fround, sqrt } = Math;

/** The formulas, one rounding at a time: what faster kernels are proved against. */
const plainKernels: OptimizerKernels = {
  sgd(params, gradient, rate, decay) {
    for (let i = 0; i < params.length; i++) {
      params[i] = fround(decay * params[i]) - fround(rate * gradient[i]);
    }
  },

  momentum(params, velocity, gradient, momentum, rate, decay) {
    for (let i = 0; i < params.length; i++) {
      const v = fround(fround(momentum * velocity[i]) + gradient[i]);
      velocity[i] = v;
      params[i] = fround(decay * params[i]) - fround(rate * v);
    }
  },

  adam(params, mean, meanSquare, gradient, scalars) {
    const { beta1, rest1, beta2, rest2, rate, scale, epsilon, decay } = scalars;
    for (let i = 0; i < params.length; i++) {
      const g = gradient[i];
      const m = fround(fround(beta1 * mean[i]) + fround(rest1 * g));
      const v = fround(fround(beta2 * meanSquare[i]) + fround(rest2 * fround(g * g)));
      mean[i] = m;
      meanSquare[i] = v;
      const root = fround(fround(scale * fround(sqrt(v))) + epsilon);
      params[i] = fround(decay * params[i]) - fround(fround(rate * m) / root);
    }
  },
};

/**
 * The optimizer of that configuration.
 *
 *   sgd       θ ← θ − η·g
 *   momentum  v ← μ·v + g;  θ ← θ − η·v                                            (Sutskever et al. 2013, PyTorch's form)
 *   adam      m, v ← means of g and g²;  θ ← θ − η·m̂ / (√v̂ + ε)                    (Kingma and Ba 2015)
 *
 * @param kernels the loops; all give the same bits
 */
export function createOptimizer(
  config: OptimizerConfig,
  kernels: OptimizerKernels = plainKernels,
): Optimizer {
  const { name } = config;
  const names = STATE_TENSORS[name];
  return {
    config,
    init(numParams, allocate = () => new Float32Array(numParams)) {
      const tensors = names.map((tensor) => [tensor, allocate()] as const);
      return {
        tensors: Object.fromEntries(tensors),
        scalars: name === 'adam' ? { beta1Power: 1, beta2Power: 1 } : {},
      };
    },
    update(params, state, gradient, learningRate) {
      checkLength(params, gradient);
      this.begin(params, state, learningRate)(gradient, [0, params.length]);
    },
    begin(params, state, learningRate) {
      checkState(name, params, state);
      const rate = fround(learningRate);
      const decay = fround(1 - learningRate * config.weightDecay);
      const { velocity, mean, meanSquare } = state.tensors;
      const adam =
        name === 'adam' ? { ...nextAdamScalars(config, state.scalars, learningRate), decay } : null;
      return (gradient, [first, end]) => {
        checkLength(params, gradient);
        const slice = (values: Float32Array) => values.subarray(first, end);
        const [p, g] = [slice(params), slice(gradient)];
        if (adam) kernels.adam(p, slice(mean), slice(meanSquare), g, adam);
        else if (name === 'sgd') kernels.sgd(p, g, rate, decay);
        else kernels.momentum(p, slice(velocity), g, fround(config.momentum), rate, decay);
      };
    },
  };
}

/** Names of the (P,) tensors that each optimizer keeps. */
const STATE_TENSORS: Readonly<Record<OptimizerName, readonly string[]>> = {
  sgd: [],
  momentum: ['velocity'],
  adam: ['mean', 'meanSquare'],
};

/** Moves the powers of the betas on by one step: running products, as the bits of `Math.pow` are the host's choice. */
function nextAdamScalars(
  config: OptimizerConfig,
  powers: Record<string, number>,
  learningRate: number,
): Omit<AdamScalars, 'decay'> {
  powers.beta1Power *= config.beta1;
  powers.beta2Power *= config.beta2;
  return {
    beta1: fround(config.beta1),
    rest1: fround(1 - config.beta1),
    beta2: fround(config.beta2),
    rest2: fround(1 - config.beta2),
    rate: fround(learningRate / (1 - powers.beta1Power)),
    scale: fround(1 / sqrt(1 - powers.beta2Power)),
    epsilon: fround(config.epsilon),
  };
}

function checkLength(params: Float32Array, gradient: Float32Array): void {
  if (gradient.length === params.length) return;
  throw new RangeError(
    `Cannot update ${params.length} parameters with a gradient of ${gradient.length} values`,
  );
}

function checkState(name: OptimizerName, params: Float32Array, state: OptimizerState): void {
  const names = Object.keys(state.tensors);
  const wanted = STATE_TENSORS[name];
  const fits =
    names.length === wanted.length &&
    wanted.every((tensor) => names.includes(tensor)) &&
    wanted.every((tensor) => state.tensors[tensor].length === params.length) &&
    (name !== 'adam' || ('beta1Power' in state.scalars && 'beta2Power' in state.scalars));
  if (!fits) {
    throw new RangeError(
      `Cannot update with ${name}: expected a state of [${wanted.join(', ')}], ${params.length} values each, got [${names.join(', ')}]`,
    );
  }
}

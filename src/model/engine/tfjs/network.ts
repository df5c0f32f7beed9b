/**
 * The layers in tfjs operations, forward and backward, without a tape: each step keeps what its backward step needs.
 *
 * Activations are (N, H, W, C), parameters keep the layout of θ until they are used.
 */
import type * as Core from '@tensorflow/tfjs-core';
import type { Activation, ConvLayer, DenseLayer, Model, PoolLayer } from '../../lenet.js';

/** The operations of `@tensorflow/tfjs-core`, whatever backend computes them. */
export type Tfjs = typeof Core;

export interface Network {
  readonly tf: Tfjs;
  readonly model: Model;
  readonly prefersDepthwise: boolean;
}

/** A layer that has been computed, and its way back. */
interface Step {
  readonly y: Core.Tensor;
  /** What the gradient of y makes of the layer's parameters, each flat as in θ, and of its input. */
  backward(dy: Core.Tensor): {
    readonly params: Core.Tensor1D[];
    readonly input: () => Core.Tensor;
  };
}

/**
 * (N, numClasses) logits of x (N, H, W, C); `theta` holds weights and biases in turn, each flat as in θ, `mask` (N, H) the
 * factors of the hidden dense units.
 */
export function forward(
  { tf, model, prefersDepthwise }: Network,
  theta: readonly Core.Tensor1D[],
  x: Core.Tensor4D,
  mask: Core.Tensor2D | null = null,
): { readonly logits: Core.Tensor2D; readonly steps: readonly Step[] } {
  const steps: Step[] = [];
  let value: Core.Tensor = x;
  let next = 0;
  let unit = 0;
  for (const layer of model.layers) {
    let step: Step;
    if (layer.kind === 'pool') {
      step = pool(tf, layer, value as Core.Tensor4D);
    } else {
      const [weights, biases] = [theta[next++], theta[next++]];
      step =
        layer.kind === 'conv'
          ? convolve(tf, layer, value as Core.Tensor4D, weights, biases, prefersDepthwise)
          : dense(tf, layer, value as Core.Tensor2D | Core.Tensor4D, weights, biases);
      if (mask !== null && layer.kind === 'dense' && layer.activation !== null) {
        step = drop(tf, step, tf.slice2d(mask, [0, unit], [-1, layer.numOutputs]));
        unit += layer.numOutputs;
      }
    }
    steps.push(step);
    value = step.y;
  }
  return { logits: value as Core.Tensor2D, steps };
}

/**
 * The gradient's tensors in the order of θ, each flat.
 *
 * @param dy ∂ loss / ∂ logits (N, numClasses)
 */
export function backward(steps: readonly Step[], dy: Core.Tensor): Core.Tensor1D[] {
  const gradients: Core.Tensor1D[][] = [];
  for (let i = steps.length - 1; i >= 0; i--) {
    const { params, input } = steps[i].backward(dy);
    gradients.unshift(params);
    if (i > 0) dy = input();
  }
  return gradients.flat();
}

function convolve(
  tf: Tfjs,
  layer: ConvLayer,
  x: Core.Tensor4D,
  weights: Core.Tensor1D,
  biases: Core.Tensor1D,
  prefersDepthwise: boolean,
): Step {
  const { kernelSize: K, padding, stride, inChannels, outChannels } = layer;
  const isDepthwise = prefersDepthwise && inChannels === 1;
  const border: [number, number] = [padding, padding];
  // Only the first convolution is padded, and nobody asks for the gradient of its input.
  const padded = padding === 0 ? x : tf.pad4d(x, [[0, 0], border, border, [0, 0]]);
  // (outChannels, inChannels, K, K) → (K, K, inChannels, outChannels)
  const filter = tf.transpose<Core.Tensor4D>(
    tf.reshape(weights, [outChannels, inChannels, K, K]),
    [2, 3, 1, 0],
  );
  const z = isDepthwise
    ? tf.depthwiseConv2d(padded, filter, stride, 'valid')
    : tf.conv2d(padded, filter, stride, 'valid');
  const y = activate(tf, layer.activation, tf.add(z, biases));
  const attributes = { strides: stride, pad: 'valid', dataFormat: 'NHWC' };
  const { engine, Conv2DBackpropFilter, Conv2DBackpropInput } = tf;
  return {
    y,
    backward(dy) {
      const dz: Core.Tensor4D = tf.mul(dy, activationSlope(tf, layer.activation, y));
      const dFilter: Core.Tensor4D = isDepthwise
        ? depthwiseFilterGradient(tf, layer, padded, dz)
        : engine().runKernel(
            Conv2DBackpropFilter,
            { x: padded, dy: dz },
            { ...attributes, filterShape: filter.shape },
          );
      return {
        params: [flatten(tf, tf.transpose(dFilter, [3, 2, 0, 1])), tf.sum(dz, [0, 1, 2])],
        input: () =>
          engine().runKernel(
            Conv2DBackpropInput,
            { dy: dz, filter },
            { ...attributes, inputShape: x.shape },
          ),
      };
    },
  };
}

/**
 * (K, K, 1, O) from x (N, H, W, 1) and dz (N, H′, W′, O). Each image is taken for a channel and its dz for a filter:
 *
 *   dFilter[i, j, o] = Σ_n Σ_{p,q} x[n, i + stride · p, j + stride · q] · dz[n, p, q, o]
 */
function depthwiseFilterGradient(
  tf: Tfjs,
  { kernelSize: K, stride }: ConvLayer,
  x: Core.Tensor4D,
  dz: Core.Tensor4D,
): Core.Tensor4D {
  const [N, , , O] = dz.shape;
  const images = tf.transpose(x, [3, 1, 2, 0]);
  const filters = tf.transpose(dz, [1, 2, 0, 3]);
  const all = tf.depthwiseConv2d(images, filters, 1, 'valid', 'NHWC', stride);
  // Rows and columns that no window reached give a few values more.
  const inside = tf.slice(all, [0, 0, 0, 0], [1, K, K, N * O]);
  return tf.sum(tf.reshape(inside, [K, K, 1, N, O]), 3);
}

function pool(tf: Tfjs, layer: PoolLayer, x: Core.Tensor4D): Step {
  const attributes = { filterSize: 2, strides: 2, pad: 'valid' };
  if (layer.pool === 'avg') {
    return {
      y: tf.avgPool(x, 2, 2, 'valid'),
      backward: (dy) => ({
        params: [],
        input: () => tf.engine().runKernel(tf.AvgPoolGrad, { dy, input: x }, attributes),
      }),
    };
  }
  const y = tf.maxPool(x, 2, 2, 'valid');
  return {
    y,
    backward: (dy) => ({
      params: [],
      input: () => tf.engine().runKernel(tf.MaxPoolGrad, { dy, input: x, output: y }, attributes),
    }),
  };
}

/** θ counts the inputs of the first dense layer channel by channel, its input x (N, H, W, C) pixel by pixel. */
function dense(
  tf: Tfjs,
  layer: DenseLayer,
  x: Core.Tensor2D | Core.Tensor4D,
  weights: Core.Tensor1D,
  biases: Core.Tensor1D,
): Step {
  const { numInputs, numOutputs, activation } = layer;
  const [N, H, W, C] = x.shape.length === 4 ? x.shape : [x.shape[0], 1, 1, numInputs];
  const rows: Core.Tensor2D = tf.reshape(x, [N, numInputs]);
  const byChannel = tf.reshape(weights, [numOutputs, C, H, W]);
  // (numOutputs, numInputs)
  const matrix: Core.Tensor2D = tf.reshape(
    H * W === 1 ? byChannel : tf.transpose(byChannel, [0, 2, 3, 1]),
    [numOutputs, numInputs],
  );
  const z: Core.Tensor2D = tf.add(tf.matMul(rows, matrix, false, true), biases);
  const y = activation === null ? z : activate(tf, activation, z);
  return {
    y,
    backward(dy) {
      const dz: Core.Tensor2D =
        activation === null
          ? (dy as Core.Tensor2D)
          : tf.mul(dy, activationSlope(tf, activation, y));
      const byPixel = tf.reshape(tf.matMul(dz, rows, true, false), [numOutputs, H, W, C]);
      const dWeights = H * W === 1 ? byPixel : tf.transpose(byPixel, [0, 3, 1, 2]);
      return {
        params: [flatten(tf, dWeights), tf.sum(dz, 0)],
        input: () => tf.reshape(tf.matMul(dz, matrix), x.shape),
      };
    },
  };
}

/** A step whose values are multiplied by factors that have no gradient. */
function drop(tf: Tfjs, step: Step, mask: Core.Tensor2D): Step {
  return {
    y: tf.mul(step.y, mask),
    backward: (dy) => step.backward(tf.mul(dy, mask)),
  };
}

function flatten(tf: Tfjs, tensor: Core.Tensor): Core.Tensor1D {
  return tf.reshape(tensor, [tensor.size]);
}

function activate<T extends Core.Tensor>(tf: Tfjs, activation: Activation, z: T): T {
  switch (activation) {
    case 'sigmoid':
      return tf.sigmoid(z);
    case 'tanh':
      return tf.tanh(z);
    case 'relu':
      return tf.relu(z);
  }
}

/** dy / dz, told from y. */
function activationSlope(tf: Tfjs, activation: Activation, y: Core.Tensor): Core.Tensor {
  switch (activation) {
    case 'sigmoid':
      return tf.mul(y, tf.sub(1, y));
    case 'tanh':
      return tf.sub(1, tf.square(y));
    case 'relu':
      return tf.step(y);
  }
}

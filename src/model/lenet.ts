/**
 * LeNet-5 as data: its layers, their shapes, where each keeps its parameters, and what it costs.
 *
 * Nothing here computes; the engines read this description. Parameters live in one flat float32 vector θ of
 * `numParams` values, layer after layer, weights before biases, in the order and layout that PyTorch uses:
 * convolution weights (outChannels, inChannels, K, K), dense weights (numOutputs, numInputs).
 *
 * LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998 (with the sigmoid, average pooling
 * and full connections of the course note that the project follows).
 */
import { modelOptions, parseRunConfig } from '../shared/config.js';

export const ACTIVATIONS = modelOptions.activation.unwrap().options;
export type Activation = (typeof ACTIVATIONS)[number];
export const POOLS = modelOptions.pool.unwrap().options;
export type Pool = (typeof POOLS)[number];

/** Side of the input images, in pixels. */
export const IMAGE_SIZE = 28;
/** Bytes of one image: one byte a pixel, row-major. */
export const IMAGE_BYTES = IMAGE_SIZE * IMAGE_SIZE;
export const NUM_CLASSES = 10;

export interface Hyperparameters {
  /** K: side of every convolution kernel, in pixels. */
  readonly kernelSize: number;
  /** Output channels of each convolution; as many convolutions (each followed by a pooling) as entries. */
  readonly channels: readonly number[];
  /** Zeros added around the input image, in pixels; the other convolutions are not padded. */
  readonly padding: number;
  /** Stride of every convolution, in pixels. */
  readonly stride: number;
  /** Sizes of the fully connected layers between the convolutions and the output. */
  readonly hidden: readonly number[];
  /** Follows every layer but the last. */
  readonly activation: Activation;
  /** Pooling over 2×2 windows with stride 2; an odd last row or column is left out. */
  readonly pool: Pool;
}

/** What `lockstep train` takes by default. */
export const LENET5: Hyperparameters = parseRunConfig({}).hyperparameters;

/** A range [offset, offset + length) of the parameter vector. */
export interface ParamSlice {
  readonly offset: number;
  readonly length: number;
}

export interface ConvLayer {
  readonly kind: 'conv';
  readonly name: string;
  readonly inChannels: number;
  /** Height and width of the input without padding. */
  readonly inSize: number;
  readonly padding: number;
  readonly kernelSize: number;
  readonly stride: number;
  readonly outChannels: number;
  /** Height and width of the output. */
  readonly outSize: number;
  /** (outChannels, inChannels, K, K) */
  readonly weights: ParamSlice;
  /** (outChannels,) */
  readonly biases: ParamSlice;
  readonly activation: Activation;
}

export interface PoolLayer {
  readonly kind: 'pool';
  readonly name: string;
  readonly channels: number;
  readonly inSize: number;
  /** ⌊inSize / 2⌋ */
  readonly outSize: number;
  readonly pool: Pool;
}

export interface DenseLayer {
  readonly kind: 'dense';
  readonly name: string;
  readonly numInputs: number;
  readonly numOutputs: number;
  /** (numOutputs, numInputs) */
  readonly weights: ParamSlice;
  /** (numOutputs,) */
  readonly biases: ParamSlice;
  /** `null` for the output layer, whose values are the logits. */
  readonly activation: Activation | null;
}

export type Layer = ConvLayer | PoolLayer | DenseLayer;

export interface Model {
  readonly hyperparameters: Hyperparameters;
  /** conv, pool, conv, pool, …, dense, …, dense */
  readonly layers: readonly Layer[];
  /** P, the length of θ. */
  readonly numParams: number;
  /** Multiply–adds of one image's forward pass in convolutions and dense layers, without biases. */
  readonly numMultiplyAdds: number;
}

/**
 * The layers that the hyperparameters describe.
 *
 * @throws {RangeError} if a kernel does not fit the input of its convolution, or nothing is left to pool
 */
export function buildModel(hyperparameters: Hyperparameters): Model {
  const { kernelSize, channels, padding, stride, hidden, activation, pool } = hyperparameters;
  const layers: Layer[] = [];
  let numParams = 0;
  let numMultiplyAdds = 0;
  const takeParams = (length: number): ParamSlice => {
    const slice = { offset: numParams, length };
    numParams += length;
    return slice;
  };

  let size = IMAGE_SIZE;
  let inChannels = 1;
  channels.forEach((outChannels, index) => {
    const pad = index === 0 ? padding : 0;
    const padded = size + 2 * pad;
    if (kernelSize > padded) {
      throw new RangeError(
        `Cannot build the model: a ${square(kernelSize)} kernel does not fit the ${square(padded)} input ` +
          `of the ${ordinal(index)} convolution; take a smaller --kernel-size, more --padding or fewer --channels`,
      );
    }
    const outSize = Math.floor((padded - kernelSize) / stride) + 1;
    const fanIn = inChannels * kernelSize * kernelSize;
    layers.push({
      kind: 'conv',
      name: `C${2 * index + 1}`,
      inChannels,
      inSize: size,
      padding: pad,
      kernelSize,
      stride,
      outChannels,
      outSize,
      weights: takeParams(outChannels * fanIn),
      biases: takeParams(outChannels),
      activation,
    });
    numMultiplyAdds += outChannels * outSize * outSize * fanIn;
    if (outSize < 2) {
      throw new RangeError(
        `Cannot build the model: the ${ordinal(index)} convolution leaves ${square(outSize)}, ` +
          `too small for 2×2 pooling; take a smaller --kernel-size or --stride, or fewer --channels`,
      );
    }
    const pooled = Math.floor(outSize / 2);
    const poolName = `S${2 * index + 2}`;
    layers.push({
      kind: 'pool',
      name: poolName,
      channels: outChannels,
      inSize: outSize,
      outSize: pooled,
      pool,
    });
    size = pooled;
    inChannels = outChannels;
  });

  let numInputs = inChannels * size * size;
  [...hidden, NUM_CLASSES].forEach((numOutputs, index) => {
    const isOutput = index === hidden.length;
    layers.push({
      kind: 'dense',
      name: isOutput ? 'Output' : `F${2 * channels.length + 1 + index}`,
      numInputs,
      numOutputs,
      weights: takeParams(numOutputs * numInputs),
      biases: takeParams(numOutputs),
      activation: isOutput ? null : activation,
    });
    numMultiplyAdds += numOutputs * numInputs;
    numInputs = numOutputs;
  });
  return { hyperparameters, layers, numParams, numMultiplyAdds };
}

function square(side: number): string {
  return `${side}×${side}`;
}

function ordinal(index: number): string {
  return ['first', 'second', 'third'][index] ?? `${index + 1}th`;
}

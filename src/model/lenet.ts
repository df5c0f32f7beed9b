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
import {
  inputShapeSchema,
  modelOptions,
  numClassesSchema,
  parseRunConfig,
} from '../shared/config.js';

export const ACTIVATIONS = modelOptions.activation.unwrap().options;
export type Activation = (typeof ACTIVATIONS)[number];
export const POOLS = modelOptions.pool.unwrap().options;
export type Pool = (typeof POOLS)[number];

/** An image, (channels, height, width): one byte a value, channel after channel, row-major. */
export interface InputShape {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

/** What the dataset says of a model: an image goes in, the logits of the classes 0 … numClasses − 1 come out. */
export interface DataShape {
  readonly input: InputShape;
  readonly numClasses: number;
}

/** Grey images of digits. */
export const MNIST: DataShape = {
  input: { channels: 1, height: 28, width: 28 },
  numClasses: 10,
};

/** The names of MNIST's classes. */
export const DIGITS: readonly string[] = Array.from({ length: 10 }, (_, digit) => String(digit));

/** Grey, grey with alpha, RGB, RGB with alpha. */
export const MAX_CHANNELS = inputShapeSchema.shape.channels.maxValue!;
/** Height and width of an image at most, in pixels. */
export const MAX_SIDE = inputShapeSchema.shape.height.maxValue!;
/** Class numbers travel and are kept as uint16. */
export const MAX_CLASSES = numClassesSchema.maxValue!;
/** Of the name of a class, in UTF-16 units. */
export const MAX_CLASS_NAME = 100;

/** Bytes of one image. */
export function imageBytes({ channels, height, width }: InputShape): number {
  return channels * height * width;
}

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
  /** Of the input, without padding. */
  readonly inHeight: number;
  readonly inWidth: number;
  readonly padding: number;
  readonly kernelSize: number;
  readonly stride: number;
  readonly outChannels: number;
  readonly outHeight: number;
  readonly outWidth: number;
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
  readonly inHeight: number;
  readonly inWidth: number;
  /** ⌊inHeight / 2⌋ */
  readonly outHeight: number;
  /** ⌊inWidth / 2⌋ */
  readonly outWidth: number;
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

export interface Model extends DataShape {
  readonly hyperparameters: Hyperparameters;
  /** conv, pool, conv, pool, …, dense, …, dense */
  readonly layers: readonly Layer[];
  /** P, the length of θ. */
  readonly numParams: number;
  /** Multiply–adds of one image's forward pass in convolutions and dense layers, without biases. */
  readonly numMultiplyAdds: number;
}

/**
 * The layers that the hyperparameters describe, between the images and the classes of a dataset.
 *
 * @throws {RangeError} if the dataset's shape is none, a kernel does not fit the input of its convolution, or nothing is
 * left to pool
 */
export function buildModel(hyperparameters: Hyperparameters, data: DataShape = MNIST): Model {
  const { kernelSize, channels, padding, stride, hidden, activation, pool } = hyperparameters;
  const { numClasses } = data;
  const input = checkShape(data);
  const layers: Layer[] = [];
  let numParams = 0;
  let numMultiplyAdds = 0;
  const takeParams = (length: number): ParamSlice => {
    const slice = { offset: numParams, length };
    numParams += length;
    return slice;
  };

  let { channels: inChannels, height, width } = input;
  channels.forEach((outChannels, index) => {
    const pad = index === 0 ? padding : 0;
    const [paddedHeight, paddedWidth] = [height + 2 * pad, width + 2 * pad];
    if (kernelSize > Math.min(paddedHeight, paddedWidth)) {
      throw new RangeError(
        `Cannot build the model: a ${area(kernelSize, kernelSize)} kernel does not fit the ` +
          `${area(paddedHeight, paddedWidth)} input of the ${ordinal(index)} convolution; ` +
          'take a smaller --kernel-size, more --padding or fewer --channels',
      );
    }
    const outHeight = Math.floor((paddedHeight - kernelSize) / stride) + 1;
    const outWidth = Math.floor((paddedWidth - kernelSize) / stride) + 1;
    const fanIn = inChannels * kernelSize * kernelSize;
    layers.push({
      kind: 'conv',
      name: `C${2 * index + 1}`,
      inChannels,
      inHeight: height,
      inWidth: width,
      padding: pad,
      kernelSize,
      stride,
      outChannels,
      outHeight,
      outWidth,
      weights: takeParams(outChannels * fanIn),
      biases: takeParams(outChannels),
      activation,
    });
    numMultiplyAdds += outChannels * outHeight * outWidth * fanIn;
    if (Math.min(outHeight, outWidth) < 2) {
      throw new RangeError(
        `Cannot build the model: the ${ordinal(index)} convolution leaves ${area(outHeight, outWidth)}, ` +
          'too small for 2×2 pooling; take a smaller --kernel-size or --stride, or fewer --channels',
      );
    }
    [height, width] = [Math.floor(outHeight / 2), Math.floor(outWidth / 2)];
    layers.push({
      kind: 'pool',
      name: `S${2 * index + 2}`,
      channels: outChannels,
      inHeight: outHeight,
      inWidth: outWidth,
      outHeight: height,
      outWidth: width,
      pool,
    });
    inChannels = outChannels;
  });

  let numInputs = inChannels * height * width;
  [...hidden, numClasses].forEach((numOutputs, index) => {
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
  return { hyperparameters, input, numClasses, layers, numParams, numMultiplyAdds };
}

function checkShape({ input, numClasses }: DataShape): InputShape {
  const { channels, height, width } = input;
  const isWithin = (value: number, min: number, max: number): boolean =>
    Number.isInteger(value) && value >= min && value <= max;
  if (
    !isWithin(channels, 1, MAX_CHANNELS) ||
    ![height, width].every((n) => isWithin(n, 1, MAX_SIDE))
  ) {
    throw new RangeError(
      `Cannot build a model for images of ${channels} channels and ${area(height, width)} pixels, ` +
        `expected 1 to ${MAX_CHANNELS} channels and up to ${area(MAX_SIDE, MAX_SIDE)}`,
    );
  }
  if (!isWithin(numClasses, 2, MAX_CLASSES)) {
    throw new RangeError(
      `Cannot build a model for ${numClasses} classes, expected 2 to ${MAX_CLASSES}`,
    );
  }
  return { channels, height, width };
}

/** Units of the hidden fully connected layers, which dropout is about. */
export function numHiddenUnits({ hyperparameters }: Model): number {
  return hyperparameters.hidden.reduce((sum, size) => sum + size, 0);
}

/** `28×28`, `3 channels of 32×32`. */
export function describeInput({ channels, height, width }: InputShape): string {
  return (channels === 1 ? '' : `${channels} channels of `) + area(height, width);
}

/** `28×28`: height and width. */
export function area(height: number, width: number): string {
  return `${height}×${width}`;
}

function ordinal(index: number): string {
  return ['first', 'second', 'third'][index] ?? `${index + 1}th`;
}

/**
 * LeNet-5 in tfjs operations: the one model behind the engines `tensorflow` and `webgpu`. The backend comes from
 * outside; nothing here imports tfjs, only its types.
 *
 * Approximate: a backend adds in an order of its own. The whole share of a worker goes up in one array, and gradient,
 * loss and correct count come down in one.
 *
 * Shapes: N images (padded up to few distinct sizes, so that a backend builds its programs once), P parameters;
 * activations are (N, H, W, C), parameters keep the layout of θ until they are used.
 */
import type * as Core from '@tensorflow/tfjs-core';
import {
  PLAIN_LOSS,
  type Engine,
  type EngineName,
  type Evaluation,
  type LossSum,
  type TrainingLoss,
} from '../engine.js';
import { checkBatch, checkImages, checkLength, checkLoss } from '../checks.js';
import { imageBytes, numHiddenUnits } from '../../lenet.js';
import type { Activation, ConvLayer, DenseLayer, Model, PoolLayer } from '../../lenet.js';

/** The operations of `@tensorflow/tfjs-core`, whatever backend computes them. */
export type Tfjs = typeof Core;

export interface TfjsEngineOptions {
  readonly name: EngineName;
  readonly fingerprint: string;
  readonly device: string;
  /**
   * Whether a convolution of one channel is done as a depthwise one, which it also is. WebGPU's program for those has a
   * thread for each output, where the general one fills tiles of 32 channels and its filter gradient has only as many
   * threads as the filter has values.
   */
  readonly prefersDepthwise?: boolean;
}

/** Images of one call of the backend; more are computed in several, whose gradients are added on the device. */
const MAX_CHUNK = 4096;
/** What one activation of a chunk may take: WebGPU guarantees bindings of 128 MiB. */
const MAX_ACTIVATION_BYTES = 2 ** 27;
/** Label of the images that only fill the batch up: it equals no class, so they add exact zeros everywhere. */
const NO_LABEL = -1;

/**
 * An engine on the active backend of `tf`. `gradient`, `evaluate` and `predict` must not overlap.
 *
 * Every call disposes all that it makes; between calls only θ is on the device.
 */
export function createTfjsEngine(tf: Tfjs, model: Model, options: TfjsEngineOptions): Engine {
  const { name, fingerprint, device, prefersDepthwise = false } = options;
  const { input, numClasses } = model;
  const numBytes = imageBytes(input);
  const numHidden = numHiddenUnits(model);
  const network: Network = { tf, model, prefersDepthwise };
  const slices = model.layers.flatMap((layer) =>
    layer.kind === 'pool' ? [] : [layer.weights, layer.biases],
  );
  const maxChunk = maxChunkOf(model);
  let params: Core.Tensor1D[] = [];
  let staging = new Float32Array(0);

  /** Puts (n, C, H, W) bytes and, behind them, (n,) labels into one array for `size` images, and sends it. */
  const upload = (images: Uint8Array, labels: Uint16Array | null, size: number): Core.Tensor1D => {
    const numPixels = size * numBytes;
    if (staging.length !== numPixels + size) staging = new Float32Array(numPixels + size);
    staging.set(images);
    staging.fill(0, images.length, numPixels);
    staging.fill(NO_LABEL, numPixels);
    if (labels !== null) staging.set(labels, numPixels);
    return tf.tensor1d(staging);
  };
  const pixelsOf = (batch: Core.Tensor1D, size: number): Core.Tensor4D => {
    const { channels, height, width } = input;
    const x = tf.div<Core.Tensor1D>(tf.slice1d(batch, 0, size * numBytes), 255);
    if (channels === 1) return tf.reshape(x, [size, height, width, 1]);
    return tf.transpose(tf.reshape(x, [size, channels, height, width]), [0, 2, 3, 1]);
  };
  const labelsOf = (batch: Core.Tensor1D, size: number): Core.Tensor2D =>
    tf.reshape(tf.slice1d(batch, size * numBytes, size), [size, 1]);

  /** (size, H) factors of dropout; those of the images that fill up are of no matter. */
  const maskOf = (masks: Float32Array, size: number): Core.Tensor2D => {
    const padded = new Float32Array(size * numHidden);
    padded.set(masks);
    return tf.tensor2d(padded, [size, numHidden]);
  };

  /** (P + 2,) gradient, loss sum and correct count of one chunk. */
  const gradientOfChunk = (
    images: Uint8Array,
    labels: Uint16Array,
    { labelSmoothing, masks }: TrainingLoss,
  ): Core.Tensor1D =>
    tf.tidy(() => {
      const size = paddedSize(labels.length);
      const batch = upload(images, labels, size);
      const y = labelsOf(batch, size);
      const mask = masks === null ? null : maskOf(masks, size);
      const { logits, steps } = forward(network, params, pixelsOf(batch, size), mask);
      const target = targetOf(tf, y, numClasses, labelSmoothing);
      return tf.concat([
        ...backward(tf, logits, target, steps),
        tf.reshape(lossSum(tf, logits, target), [1]),
        countCorrect(tf, logits, y),
      ]);
    });

  const chunks = function* (n: number): Generator<[number, number]> {
    for (let start = 0; start < n; start += maxChunk) yield [start, Math.min(start + maxChunk, n)];
  };
  const imagesOf = (images: Uint8Array, start: number, end: number): Uint8Array =>
    images.subarray(start * numBytes, end * numBytes);

  return {
    name,
    fingerprint,
    device,
    isExact: false,
    model,

    allocateGradient: () => new Float32Array(model.numParams),

    setParams(theta) {
      checkLength('parameters', theta, model.numParams);
      tf.dispose(params);
      params = tf.tidy(() => {
        // A copy, as some backends upload at first use.
        const whole = tf.tensor1d(theta.slice());
        return slices.map(({ offset, length }) => tf.slice1d(whole, offset, length));
      });
    },

    async gradient(images, labels, out, loss = PLAIN_LOSS): Promise<LossSum> {
      const numImages = checkBatch(model, images, labels);
      checkLoss(model, loss, numImages);
      checkLength('gradient values', out, model.numParams);
      const flats: Core.Tensor1D[] = [];
      for (const [start, end] of chunks(numImages)) {
        const masks = loss.masks?.subarray(start * numHidden, end * numHidden) ?? null;
        const part = imagesOf(images, start, end);
        flats.push(gradientOfChunk(part, labels.subarray(start, end), { ...loss, masks }));
      }
      const total = flats.length === 1 ? flats[0] : tf.addN(flats);
      if (flats.length > 1) tf.dispose(flats);
      const values = await read(total);
      out.set(values.subarray(0, model.numParams));
      return { lossSum: values[model.numParams], numCorrect: values[model.numParams + 1] };
    },

    add(sum, term) {
      checkLength('values to add', term, sum.length);
      for (let i = 0; i < sum.length; i++) sum[i] += term[i];
    },

    async evaluate(images, labels): Promise<Evaluation> {
      const numImages = checkBatch(model, images, labels);
      const predictions = new Uint16Array(numImages);
      let loss = 0;
      let numCorrect = 0;
      for (const [start, end] of chunks(numImages)) {
        const result = tf.tidy(() => {
          const size = paddedSize(end - start);
          const batch = upload(imagesOf(images, start, end), labels.subarray(start, end), size);
          const y = labelsOf(batch, size);
          const { logits } = forward(network, params, pixelsOf(batch, size));
          const classes = firstOfLargest(tf, logits);
          return tf.concat([
            tf.reshape(classes, [size]),
            tf.reshape(lossSum(tf, logits, targetOf(tf, y, numClasses, 0)), [1]),
            countCorrect(tf, logits, y),
          ]);
        });
        const values = await read(result);
        predictions.set(values.subarray(0, end - start), start);
        loss = Math.fround(loss + values[values.length - 2]);
        numCorrect += values[values.length - 1];
      }
      return { lossSum: loss, numCorrect, predictions };
    },

    async predict(images): Promise<Float32Array> {
      const numImages = checkImages(model, images);
      const probabilities = new Float32Array(numImages * numClasses);
      for (const [start, end] of chunks(numImages)) {
        const result = tf.tidy(() => {
          const size = paddedSize(end - start);
          const batch = upload(imagesOf(images, start, end), null, size);
          return tf.softmax(forward(network, params, pixelsOf(batch, size)).logits);
        });
        const values = await read(result);
        probabilities.set(values.subarray(0, (end - start) * numClasses), start * numClasses);
      }
      return probabilities;
    },

    dispose() {
      tf.dispose(params);
      params = [];
    },
  };
}

/**
 * The batch size that n images are padded up to: n itself to 16, then eight sizes an octave, so less than an eighth
 * is wasted and a run whose shares vary still meets few sizes.
 */
export function paddedSize(n: number): number {
  const step = 2 ** Math.max(0, Math.ceil(Math.log2(n)) - 4);
  return Math.ceil(n / step) * step;
}

/** The most images whose largest activation fits one binding, a power of two. */
function maxChunkOf(model: Model): number {
  let largest = imageBytes(model.input) + 1;
  for (const layer of model.layers) {
    if (layer.kind === 'conv') {
      const paddedArea = (layer.inHeight + 2 * layer.padding) * (layer.inWidth + 2 * layer.padding);
      const output = layer.outChannels * layer.outHeight * layer.outWidth;
      largest = Math.max(largest, output, layer.inChannels * paddedArea);
    }
  }
  const fitting = Math.max(1, Math.floor(MAX_ACTIVATION_BYTES / (4 * largest)));
  return Math.min(MAX_CHUNK, 2 ** Math.floor(Math.log2(fitting)));
}

/** Downloads and disposes a result. */
async function read(result: Core.Tensor): Promise<Float32Array> {
  try {
    return await result.data<'float32'>();
  } finally {
    result.dispose();
  }
}

interface Network {
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
function forward(
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

/** The gradient's tensors in the order of θ, each flat. */
function backward(
  tf: Tfjs,
  logits: Core.Tensor2D,
  target: Core.Tensor2D,
  steps: readonly Step[],
): Core.Tensor1D[] {
  // ∂ loss / ∂ logits = softmax − target; nothing comes from the images that only fill up.
  const isImage = tf.sum(target, 1, true);
  let dy: Core.Tensor = tf.mul(tf.sub(tf.softmax(logits), target), isImage);
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
 * (K, K, 1, O) from x (N, H, H, 1) and dz (N, H', H', O). Each image is taken for a channel and its dz for a filter:
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

/** (N, numClasses); a row of zeros for an image without label. */
function oneHot(tf: Tfjs, labels: Core.Tensor2D, numClasses: number): Core.Tensor2D {
  return tf.cast(tf.equal(labels, classRow(tf, numClasses)), 'float32');
}

/** (N, numClasses) the share of each class in each label, 1 in all; a row of zeros for an image without label. */
function targetOf(
  tf: Tfjs,
  labels: Core.Tensor2D,
  numClasses: number,
  labelSmoothing: number,
): Core.Tensor2D {
  const hot = oneHot(tf, labels, numClasses);
  if (labelSmoothing === 0) return hot;
  const isImage = tf.sum(hot, 1, true);
  return tf.add(tf.mul(hot, 1 - labelSmoothing), tf.mul(isImage, labelSmoothing / numClasses));
}

/** Σ −target · log softmax(logits). Scalar. */
function lossSum(tf: Tfjs, logits: Core.Tensor2D, target: Core.Tensor2D): Core.Scalar {
  return tf.neg(tf.sum(tf.mul(target, tf.logSoftmax(logits))));
}

/** (1,) images whose largest logit is that of their label. */
function countCorrect(tf: Tfjs, logits: Core.Tensor2D, labels: Core.Tensor2D): Core.Tensor1D {
  const isCorrect = tf.equal(firstOfLargest(tf, logits), labels);
  return tf.reshape(tf.sum(tf.cast(isCorrect, 'float32')), [1]);
}

/**
 * (N, 1) the first class whose logit is the largest. `argMax` leaves it to the backend which of equal ones it takes.
 */
function firstOfLargest(tf: Tfjs, logits: Core.Tensor2D): Core.Tensor2D {
  const numClasses = logits.shape[1];
  const isLargest = tf.equal(logits, tf.max(logits, 1, true));
  const classes = tf.where(isLargest, classRow(tf, numClasses), tf.fill([1, 1], numClasses - 1));
  return tf.min(classes, 1, true);
}

/** (1, numClasses) the classes 0 … numClasses − 1. */
function classRow(tf: Tfjs, numClasses: number): Core.Tensor2D {
  return tf.reshape(tf.range(0, numClasses), [1, numClasses]);
}

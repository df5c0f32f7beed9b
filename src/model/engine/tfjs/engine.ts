/**
 * LeNet-5 in tfjs operations: the one model behind the engines `tensorflow` and `webgpu`. The backend comes from
 * outside; nothing here imports tfjs, only its types.
 *
 * Approximate: each backend has its own order of additions. A worker's whole share is uploaded in one array, and gradient, loss
 * and correct count are downloaded in one.
 *
 * Shapes: N images (padded up to few distinct sizes, so that a backend builds its programs once), P parameters.
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
import { imageBytes, numHiddenUnits, type Model } from '../../lenet.js';
import { countCorrect, firstOfLargest, lossGradient, lossSum, targetOf } from './loss.js';
import { backward, forward, type Network, type Tfjs } from './network.js';

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
        ...backward(steps, lossGradient(tf, logits, target)),
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

/**
 * The reference engine: LeNet-5's forward and backward pass as a reader would write them down. Never fast; every other
 * engine is tested against it.
 *
 * It computes in float64, image after image, and rounds the sum to float32 at the end, so that its own error is far
 * below that of a float32 engine. All sums start from zero and run in the order of the loops here; exp and log are our
 * own (elementary.ts). So its bits, too, are the same on every machine.
 *
 * Shapes: C channels, O outputs, K kernel, H × W input, S stride. A value of layer l's output is
 * flat, (O, H, W) row-major or (O,); gradients are `d` + name and are those of the loss of one image.
 */
import { exp, log, sigmoid, tanh } from '../elementary.js';
import { PLAIN_LOSS, type Engine, type Evaluation } from './engine.js';
import { checkBatch, checkImages, checkLength, checkLoss } from './checks.js';
import {
  imageBytes,
  numHiddenUnits,
  type Activation,
  type ConvLayer,
  type DenseLayer,
  type InputShape,
  type Layer,
  type Model,
  type PoolLayer,
} from '../lenet.js';

export function createReferenceEngine(model: Model): Engine {
  const { layers, numParams, input, numClasses } = model;
  const numHidden = numHiddenUnits(model);
  /** θ */
  const params = new Float64Array(numParams);

  return {
    name: 'reference',
    fingerprint: 'reference/1',
    isExact: true,
    device: 'plain TypeScript',
    model,

    allocateGradient: () => new Float32Array(numParams),

    setParams(newParams) {
      checkLength('parameters', newParams, numParams);
      params.set(newParams);
    },

    gradient(images, labels, out, { labelSmoothing, masks } = PLAIN_LOSS) {
      checkBatch(model, images, labels);
      checkLoss(model, { labelSmoothing, masks }, labels.length);
      checkLength('gradient values', out, numParams);
      const dparams = new Float64Array(numParams);
      let lossSum = 0;
      let numCorrect = 0;
      labels.forEach((label, index) => {
        const mask = masks?.subarray(index * numHidden, (index + 1) * numHidden) ?? null;
        const values = forward(layers, params, imageAt(input, images, index), mask);
        const logits = values[layers.length];
        const { loss, probabilities } = softmaxCrossEntropy(logits, label);
        // Σ −target · ln probability; a smoothed label has a part of every class, the mean of their losses.
        const mean = logits.reduce((sum, logit) => sum + logit, 0) / numClasses;
        lossSum += loss + labelSmoothing * (logits[label] - mean);
        if (argmax(logits) === label) numCorrect += 1;

        // d loss / d logit = probability − target
        const dlogits = probabilities.map((p) => p - labelSmoothing / numClasses);
        dlogits[label] -= 1 - labelSmoothing;
        backward(layers, params, values, dlogits, dparams, mask);
      });
      out.set(dparams);
      return { lossSum: Math.fround(lossSum), numCorrect };
    },

    add(sum, term) {
      checkLength('values of the sum', sum, numParams);
      checkLength('values of the term', term, numParams);
      for (let i = 0; i < numParams; i++) sum[i] += term[i];
    },

    evaluate(images, labels): Evaluation {
      checkBatch(model, images, labels);
      let lossSum = 0;
      let numCorrect = 0;
      const predictions = Uint16Array.from(labels, (label, index) => {
        const logits = forward(layers, params, imageAt(input, images, index))[layers.length];
        lossSum += softmaxCrossEntropy(logits, label).loss;
        const prediction = argmax(logits);
        if (prediction === label) numCorrect += 1;
        return prediction;
      });
      return { lossSum: Math.fround(lossSum), numCorrect, predictions };
    },

    predict(images) {
      const numImages = checkImages(model, images);
      const out = new Float32Array(numImages * numClasses);
      for (let index = 0; index < numImages; index++) {
        const logits = forward(layers, params, imageAt(input, images, index))[layers.length];
        out.set(softmaxCrossEntropy(logits, 0).probabilities, index * numClasses);
      }
      return out;
    },

    dispose: () => undefined,
  };
}

/** x = byte / 255 of one image, (C, H, W). */
function imageAt(input: InputShape, images: Uint8Array, index: number): Float64Array {
  const numBytes = imageBytes(input);
  const bytes = images.subarray(index * numBytes, (index + 1) * numBytes);
  return Float64Array.from(bytes, (byte) => byte / 255);
}

/**
 * The input of every layer, and the logits last.
 *
 * @param mask (H,) of dropout, what the outputs of the hidden dense layers are multiplied by; null for none
 */
function forward(
  layers: readonly Layer[],
  params: Float64Array,
  x: Float64Array,
  mask: Float32Array | null = null,
): Float64Array[] {
  const values = [x];
  let unit = 0;
  for (const layer of layers) {
    const y = forwardLayer(layer, params, values.at(-1)!);
    if (mask !== null && isHidden(layer)) {
      for (let i = 0; i < y.length; i++) y[i] *= mask[unit++];
    }
    values.push(y);
  }
  return values;
}

function isHidden(layer: Layer): layer is DenseLayer {
  return layer.kind === 'dense' && layer.activation !== null;
}

function forwardLayer(layer: Layer, params: Float64Array, x: Float64Array): Float64Array {
  switch (layer.kind) {
    case 'conv':
      return convForward(layer, params, x).map((z) => activate(layer.activation, z));
    case 'pool':
      return poolForward(layer, x);
    case 'dense':
      return denseForward(layer, params, x).map((z) => activate(layer.activation, z));
  }
}

/**
 * dparams += the gradient of one image, by the chain rule from the last layer to the first.
 *
 * @param values the inputs of the layers and the logits, from `forward`
 * @param dlogits (numClasses,)
 * @param mask as in `forward`
 */
function backward(
  layers: readonly Layer[],
  params: Float64Array,
  values: readonly Float64Array[],
  dlogits: Float64Array,
  dparams: Float64Array,
  mask: Float32Array | null,
): void {
  let dy = dlogits;
  let unit = mask?.length ?? 0;
  for (let l = layers.length - 1; l >= 0; l--) {
    const layer = layers[l];
    const x = values[l];
    let y = values[l + 1];
    if (mask !== null && isHidden(layer)) {
      // A unit that is dropped passes nothing back; the slope of another is told from its activation itself.
      unit -= layer.numOutputs;
      const factors = mask.subarray(unit, unit + layer.numOutputs);
      dy = dy.map((d, i) => d * factors[i]);
      y = y.map((value, i) => (factors[i] === 0 ? 0 : value / factors[i]));
    }
    switch (layer.kind) {
      case 'conv':
        dy = convBackward(layer, params, x, dActivation(layer.activation, y, dy), dparams);
        break;
      case 'pool':
        dy = poolBackward(layer, x, dy);
        break;
      case 'dense':
        dy = denseBackward(layer, params, x, dActivation(layer.activation, y, dy), dparams);
        break;
    }
  }
}

/**
 * z[o, r, c] = b[o] + Σ_{i, u, v} w[o, i, u, v] · x[i, r·S + u − padding, c·S + v − padding], zero outside of x.
 *
 * @param x (C, H, W)
 * @returns (O, outHeight, outWidth)
 */
function convForward(layer: ConvLayer, params: Float64Array, x: Float64Array): Float64Array {
  const area = layer.outHeight * layer.outWidth;
  const z = new Float64Array(layer.outChannels * area);
  for (let o = 0; o < layer.outChannels; o++) {
    z.fill(params[layer.biases.offset + o], o * area, (o + 1) * area);
  }
  forEachTap(layer, (weight, input, output) => {
    z[output] += params[weight] * x[input];
  });
  return z;
}

/** dx (C, H, W) from dz (O, outHeight, outWidth); adds dw and db to `dparams`. */
function convBackward(
  layer: ConvLayer,
  params: Float64Array,
  x: Float64Array,
  dz: Float64Array,
  dparams: Float64Array,
): Float64Array {
  const dx = new Float64Array(x.length);
  const area = layer.outHeight * layer.outWidth;
  dz.forEach((value, output) => {
    dparams[layer.biases.offset + Math.floor(output / area)] += value;
  });
  forEachTap(layer, (weight, input, output) => {
    dparams[weight] += dz[output] * x[input];
    dx[input] += dz[output] * params[weight];
  });
  return dx;
}

/** Visits every product of a convolution, as places in θ, in the input and in the output. */
function forEachTap(
  layer: ConvLayer,
  visit: (weight: number, input: number, output: number) => void,
): void {
  const { inChannels, inHeight, inWidth, padding, kernelSize, stride } = layer;
  const { outChannels, outHeight, outWidth } = layer;
  let weight = layer.weights.offset;
  for (let o = 0; o < outChannels; o++) {
    for (let i = 0; i < inChannels; i++) {
      for (let u = 0; u < kernelSize; u++) {
        for (let v = 0; v < kernelSize; v++, weight++) {
          for (let r = 0; r < outHeight; r++) {
            const row = r * stride + u - padding;
            if (row < 0 || row >= inHeight) continue;
            for (let c = 0; c < outWidth; c++) {
              const column = c * stride + v - padding;
              if (column < 0 || column >= inWidth) continue;
              visit(
                weight,
                (i * inHeight + row) * inWidth + column,
                (o * outHeight + r) * outWidth + c,
              );
            }
          }
        }
      }
    }
  }
}

/** Mean or largest value of each 2×2 window: (C, H, W) → (C, ⌊H/2⌋, ⌊W/2⌋). */
function poolForward(layer: PoolLayer, x: Float64Array): Float64Array {
  const y = new Float64Array(layer.channels * layer.outHeight * layer.outWidth);
  forEachWindow(layer, (window, output) => {
    y[output] =
      layer.pool === 'avg'
        ? (x[window[0]] + x[window[1]] + x[window[2]] + x[window[3]]) / 4
        : x[largest(x, window)];
  });
  return y;
}

/** dx (C, H, W) from dy; under `max` all of it goes to the largest value, the first of equal ones. */
function poolBackward(layer: PoolLayer, x: Float64Array, dy: Float64Array): Float64Array {
  const dx = new Float64Array(x.length);
  forEachWindow(layer, (window, output) => {
    if (layer.pool === 'max') dx[largest(x, window)] = dy[output];
    else for (const input of window) dx[input] = dy[output] / 4;
  });
  return dx;
}

/** Visits every 2×2 window: the places of its four values in the input, row by row, and its place in the output. */
function forEachWindow(
  { channels, inHeight, inWidth, outHeight, outWidth }: PoolLayer,
  visit: (window: readonly number[], output: number) => void,
): void {
  let output = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let r = 0; r < outHeight; r++) {
      for (let c = 0; c < outWidth; c++, output++) {
        const first = (channel * inHeight + 2 * r) * inWidth + 2 * c;
        visit([first, first + 1, first + inWidth, first + inWidth + 1], output);
      }
    }
  }
}

function largest(x: Float64Array, window: readonly number[]): number {
  return window.reduce((best, place) => (x[place] > x[best] ? place : best));
}

/** z = b + W·x: (numInputs,) → (numOutputs,). */
function denseForward(layer: DenseLayer, params: Float64Array, x: Float64Array): Float64Array {
  const z = new Float64Array(layer.numOutputs);
  let weight = layer.weights.offset;
  for (let o = 0; o < layer.numOutputs; o++) {
    let sum = params[layer.biases.offset + o];
    for (let i = 0; i < layer.numInputs; i++, weight++) sum += params[weight] * x[i];
    z[o] = sum;
  }
  return z;
}

/** dx = Wᵀ·dz; adds dW = dz·xᵀ and db = dz to `dparams`. */
function denseBackward(
  layer: DenseLayer,
  params: Float64Array,
  x: Float64Array,
  dz: Float64Array,
  dparams: Float64Array,
): Float64Array {
  const dx = new Float64Array(layer.numInputs);
  let weight = layer.weights.offset;
  for (let o = 0; o < layer.numOutputs; o++) {
    dparams[layer.biases.offset + o] += dz[o];
    for (let i = 0; i < layer.numInputs; i++, weight++) {
      dparams[weight] += dz[o] * x[i];
      dx[i] += dz[o] * params[weight];
    }
  }
  return dx;
}

function activate(activation: Activation | null, z: number): number {
  switch (activation) {
    case 'sigmoid':
      return sigmoid(z);
    case 'tanh':
      return tanh(z);
    case 'relu':
      return z > 0 ? z : 0;
    case null:
      return z;
  }
}

/** dz from dy, where y = activation(z) tells the slope. */
function dActivation(
  activation: Activation | null,
  y: Float64Array,
  dy: Float64Array,
): Float64Array {
  switch (activation) {
    case 'sigmoid':
      return dy.map((d, i) => d * y[i] * (1 - y[i]));
    case 'tanh':
      return dy.map((d, i) => d * (1 - y[i] * y[i]));
    case 'relu':
      return dy.map((d, i) => (y[i] > 0 ? d : 0));
    case null:
      return dy;
  }
}

/** loss = −ln p[label], p = softmax(logits); the largest logit is taken off first, so that nothing overflows. */
function softmaxCrossEntropy(
  logits: Float64Array,
  label: number,
): { loss: number; probabilities: Float64Array } {
  const max = logits.reduce((a, b) => (b > a ? b : a));
  const exps = logits.map((logit) => exp(logit - max));
  const sum = exps.reduce((a, b) => a + b);
  return { loss: log(sum) - (logits[label] - max), probabilities: exps.map((e) => e / sum) };
}

/** The first of the largest. */
function argmax(values: Float64Array): number {
  return values.reduce((best, value, index) => (value > values[best] ? index : best), 0);
}

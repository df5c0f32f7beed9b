/**
 * A model as one JavaScript file without dependencies, for browsers and Node. It contains the weights as base64; the code
 * below them is the forward pass in its simplest form.
 */
import { bytesOf } from '../../shared/codec.js';
import type { Network } from './network.js';

/** The text of model.js. */
export function javascriptSource(network: Network, version: string): string {
  const { input, classNames, params, sha256 } = network;
  const layers = layersOf(network)
    .map((layer) => `  ${JSON.stringify(layer)},\n`)
    .join('');
  return `\
// A model trained by Lockstep ${version}: no dependencies, for browsers and Node.
//
//   import { predict } from './model.js';
//   const { name, probability } = predict(pixels);

/** Of the weights, float32 little-endian. */
export const weightsSha256 = '${sha256}';

/** Names of the classes. */
export const classNames = ${JSON.stringify(classNames)};

/** What \`predict\` takes. */
export const inputShape = ${JSON.stringify(input)};

const layers = [
${layers}];

const params = new Float32Array(
  Uint8Array.from(atob('${Buffer.from(bytesOf(params)).toString('base64')}'), (c) => c.charCodeAt(0)).buffer,
);
${CODE}`;
}

/** What the code below needs to know of each layer. */
function layersOf({ layers }: Network): object[] {
  return layers.map((layer) => {
    const { name, kind } = layer;
    switch (layer.kind) {
      case 'conv': {
        const { inChannels, inHeight, inWidth, outChannels, outHeight, outWidth } = layer;
        const { kernelSize, stride, padding, activation, weights, biases } = layer;
        return {
          ...{ name, kind, inChannels, inHeight, inWidth, outChannels, outHeight, outWidth },
          ...{ kernelSize, stride, padding, activation },
          ...{ weights: weights.offset, biases: biases.offset },
        };
      }
      case 'pool': {
        const { channels, inHeight, inWidth, outHeight, outWidth, pool } = layer;
        return { name, kind, channels, inHeight, inWidth, outHeight, outWidth, pool };
      }
      case 'dense': {
        const { numInputs, numOutputs, activation, weights, biases } = layer;
        return {
          ...{ name, kind, numInputs, numOutputs, activation },
          ...{ weights: weights.offset, biases: biases.offset },
        };
      }
    }
  });
}

const CODE = String.raw`
/**
 * @param {ArrayLike<number>} pixels one image, 0 to 255: channel after channel, row after row
 * @returns {{ index: number, name: string, probability: number, probabilities: Float64Array }}
 */
export function predict(pixels) {
  const { channels, height, width } = inputShape;
  const expected = channels * height * width;
  if (pixels.length !== expected) {
    throw new RangeError('Expected ' + expected + ' pixels, got ' + pixels.length);
  }
  let values = Float64Array.from(pixels, (byte) => byte / 255);
  for (const layer of layers) values = forward[layer.kind](layer, values);
  const probabilities = softmax(values);
  const index = probabilities.indexOf(Math.max(...probabilities));
  return { index, name: classNames[index], probability: probabilities[index], probabilities };
}

/**
 * The pixels of an ImageData of the right size, such as context.getImageData gives. A model of one channel gets the
 * brightness; MNIST's digits are light on dark.
 */
export function pixelsOf({ data, width, height }) {
  const area = inputShape.height * inputShape.width;
  if (width !== inputShape.width || height !== inputShape.height) {
    throw new RangeError(
      'Expected ' + inputShape.width + '×' + inputShape.height + ' pixels, got ' + width + '×' + height,
    );
  }
  const pixels = new Uint8ClampedArray(inputShape.channels * area);
  for (let place = 0; place < area; place++) {
    const [red, green, blue, alpha] = data.subarray(4 * place, 4 * place + 4);
    // Transparency becomes black, unless the model sees it.
    const light = inputShape.channels % 2 === 0 ? 1 : alpha / 255;
    if (inputShape.channels < 3) pixels[place] = light * (0.299 * red + 0.587 * green + 0.114 * blue);
    else for (let c = 0; c < inputShape.channels; c++) pixels[c * area + place] = light * data[4 * place + c];
    if (inputShape.channels === 2) pixels[area + place] = alpha;
  }
  return pixels;
}

const activations = {
  sigmoid: (z) => 1 / (1 + Math.exp(-z)),
  tanh: Math.tanh,
  relu: (z) => Math.max(0, z),
};

const forward = {
  // (inChannels, inHeight, inWidth) → (outChannels, outHeight, outWidth)
  conv(layer, x) {
    const { inChannels, inHeight, inWidth, outChannels, outHeight, outWidth } = layer;
    const { kernelSize, stride, padding } = layer;
    const y = new Float64Array(outChannels * outHeight * outWidth);
    for (let o = 0; o < outChannels; o++) {
      for (let r = 0; r < outHeight; r++) {
        for (let c = 0; c < outWidth; c++) {
          let sum = params[layer.biases + o];
          for (let i = 0; i < inChannels; i++) {
            for (let u = 0; u < kernelSize; u++) {
              const row = r * stride + u - padding;
              if (row < 0 || row >= inHeight) continue;
              const weights = layer.weights + ((o * inChannels + i) * kernelSize + u) * kernelSize;
              const pixels = (i * inHeight + row) * inWidth + c * stride - padding;
              const from = Math.max(0, padding - c * stride);
              const to = Math.min(kernelSize, inWidth + padding - c * stride);
              for (let v = from; v < to; v++) sum += params[weights + v] * x[pixels + v];
            }
          }
          y[(o * outHeight + r) * outWidth + c] = sum;
        }
      }
    }
    return y.map(activations[layer.activation]);
  },
  // 2×2 windows; an odd last row or column is left out
  pool({ channels, inHeight, inWidth, outHeight, outWidth, pool }, x) {
    const y = new Float64Array(channels * outHeight * outWidth);
    let place = 0;
    for (let c = 0; c < channels; c++) {
      for (let r = 0; r < outHeight; r++) {
        for (let s = 0; s < outWidth; s++) {
          const at = (c * inHeight + 2 * r) * inWidth + 2 * s;
          const window = [x[at], x[at + 1], x[at + inWidth], x[at + inWidth + 1]];
          y[place++] =
            pool === 'max'
              ? Math.max(...window)
              : (window[0] + window[1] + window[2] + window[3]) / 4;
        }
      }
    }
    return y;
  },
  dense({ numInputs, numOutputs, activation, weights, biases }, x) {
    const y = new Float64Array(numOutputs);
    for (let o = 0; o < numOutputs; o++) {
      let sum = params[biases + o];
      for (let i = 0; i < numInputs; i++) sum += params[weights + o * numInputs + i] * x[i];
      y[o] = sum;
    }
    return activation === null ? y : y.map(activations[activation]);
  },
};

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((z) => Math.exp(z - largest));
  const sum = powers.reduce((total, power) => total + power);
  return powers.map((power) => power / sum);
}
`;

/**
 * A model as a LayersModel of TensorFlow.js: model.json and weights.bin, which `tf.loadLayersModel` takes.
 *
 * It computes on (N, height, width, channels) values from 0 to 255, as `tf.browser.fromPixels` gives them, and divides
 * them itself; out come (N, numClasses) probabilities. Keras has its own order of weights: those of a convolution
 * are (K, K, inChannels, outChannels), dense ones (numInputs, numOutputs).
 */
import { bytesOf } from '../../shared/codec.js';
import type { Network } from './network.js';

interface Weight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** @returns the text of model.json, and the bytes of weights.bin */
export function encodeTfjs(network: Network, version: string): { json: string; bin: Uint8Array } {
  const { classNames, sha256 } = network;
  const weights = weightsOf(network);
  const json = {
    format: 'layers-model',
    generatedBy: `Lockstep ${version}`,
    convertedBy: null,
    modelTopology: {
      class_name: 'Sequential',
      config: { name: 'lenet', layers: layersOf(network) },
      keras_version: 'tfjs-layers 4',
      backend: 'tensor_flow.js',
    },
    weightsManifest: [
      {
        paths: ['weights.bin'],
        weights: weights.map(({ name, shape }) => ({ name, shape, dtype: 'float32' })),
      },
    ],
    userDefinedMetadata: { classNames, weightsSha256: sha256 },
  };
  return {
    json: `${JSON.stringify(json, null, 1)}\n`,
    bin: Buffer.concat(weights.map(({ values }) => bytesOf(values))),
  };
}

function layersOf({ layers, input }: Network): object[] {
  const { channels, height, width } = input;
  const configs: { class_name: string; config: Record<string, unknown> }[] = [];
  const append = (className: string, name: string, config: object = {}) =>
    configs.push({ class_name: className, config: { name, ...config } });
  const dataFormat = { data_format: 'channels_last' };

  append('Rescaling', 'normalize', {
    batch_input_shape: [null, height, width, channels],
    dtype: 'float32',
    scale: 1 / 255,
    offset: 0,
  });
  for (const layer of layers) {
    const { name } = layer;
    switch (layer.kind) {
      case 'conv': {
        const { padding, kernelSize, stride, outChannels, activation } = layer;
        if (padding > 0) {
          const sides = [padding, padding];
          append('ZeroPadding2D', `${name}_padding`, { ...dataFormat, padding: [sides, sides] });
        }
        append('Conv2D', name, {
          ...dataFormat,
          filters: outChannels,
          kernel_size: [kernelSize, kernelSize],
          strides: [stride, stride],
          padding: 'valid',
          use_bias: true,
          activation,
        });
        break;
      }
      case 'pool':
        append(layer.pool === 'avg' ? 'AveragePooling2D' : 'MaxPooling2D', name, {
          ...dataFormat,
          pool_size: [2, 2],
          strides: [2, 2],
          padding: 'valid',
        });
        break;
      case 'dense':
        if (configs.every(({ class_name }) => class_name !== 'Flatten')) {
          append('Flatten', 'flatten', dataFormat);
        }
        append('Dense', name, {
          units: layer.numOutputs,
          use_bias: true,
          activation: layer.activation ?? 'softmax',
        });
        break;
    }
  }
  return configs;
}

function weightsOf({ layers, params }: Network): Weight[] {
  const weights: Weight[] = [];
  /** Of the images that a dense layer reads flattened: (channels, height · width); null for a plain vector. */
  let image: readonly [number, number] | null = null;
  for (const layer of layers) {
    if (layer.kind === 'pool') {
      image = [layer.channels, layer.outHeight * layer.outWidth];
      continue;
    }
    const { name } = layer;
    const kernel = params.subarray(
      layer.weights.offset,
      layer.weights.offset + layer.weights.length,
    );
    const bias = params.slice(layer.biases.offset, layer.biases.offset + layer.biases.length);
    if (layer.kind === 'conv') {
      const { outChannels, inChannels, kernelSize } = layer;
      weights.push({
        name: `${name}/kernel`,
        shape: [kernelSize, kernelSize, inChannels, outChannels],
        // (O, C, K·K) → (K·K, C, O)
        values: transposed(kernel, [outChannels, inChannels, kernelSize ** 2]),
      });
    } else {
      const { numInputs, numOutputs } = layer;
      const [channels, area] = image ?? [1, numInputs];
      weights.push({
        name: `${name}/kernel`,
        shape: [numInputs, numOutputs],
        // (numOutputs, C, H·W) → (H·W, C, numOutputs): Keras flattens (H, W, C).
        values: transposed(kernel, [numOutputs, channels, area]),
      });
      image = null;
    }
    weights.push({ name: `${name}/bias`, shape: [bias.length], values: bias });
  }
  return weights;
}

/** (A, B, C) → (C, B, A), a fresh array. */
function transposed(
  values: Float32Array,
  [a, b, c]: readonly [number, number, number],
): Float32Array {
  const out = new Float32Array(a * b * c);
  let place = 0;
  for (let k = 0; k < c; k++) {
    for (let j = 0; j < b; j++) {
      for (let i = 0; i < a; i++) out[place++] = values[(i * b + j) * c + k];
    }
  }
  return out;
}

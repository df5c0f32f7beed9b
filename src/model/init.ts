/** The initial parameters. */
import { createRandom } from '../shared/random.js';
import type { Layer, Model } from './lenet.js';

/**
 * θ₀: Glorot uniform weights, zero biases.
 *
 *   w ~ U(−limit, limit),  limit = √(6 / (fanIn + fanOut))
 *
 * Each tensor has its own stream of the seed, so it does not depend on the sizes of the others. Glorot and Bengio,
 * Understanding the difficulty of training deep feedforward neural networks, 2010.
 *
 * @returns (P,) a fresh buffer, in the layout of the model
 */
export function initParams(model: Model, seed: number): Float32Array {
  const params = new Float32Array(model.numParams);
  for (const layer of model.layers) {
    if (layer.kind === 'pool') continue;
    const random = createRandom(seed, 'init', layer.name);
    const { fanIn, fanOut } = fans(layer);
    const limit = Math.sqrt(6 / (fanIn + fanOut));
    const { offset, length } = layer.weights;
    for (let i = 0; i < length; i++) params[offset + i] = (2 * random.float() - 1) * limit;
  }
  return params;
}

/** Values that one output reads and that one input reaches; for a convolution, channels · K · K. */
function fans(layer: Exclude<Layer, { kind: 'pool' }>): { fanIn: number; fanOut: number } {
  if (layer.kind === 'dense') return { fanIn: layer.numInputs, fanOut: layer.numOutputs };
  const taps = layer.kernelSize * layer.kernelSize;
  return { fanIn: layer.inChannels * taps, fanOut: layer.outChannels * taps };
}

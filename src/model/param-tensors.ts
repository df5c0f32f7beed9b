/** The tensors that make up θ, with their names in files. */
import type { Model, ParamSlice } from './lenet.js';

export interface ParamTensor extends ParamSlice {
  /** `C1.weight`, `C1.bias`, … */
  readonly name: string;
  /** (outChannels, inChannels, K, K) or (numOutputs, numInputs) of weights; (outChannels,) or (numOutputs,) of biases. */
  readonly shape: readonly number[];
}

/** In the order of θ, without gaps. */
export function paramTensorsOf(model: Pick<Model, 'layers'>): ParamTensor[] {
  return model.layers.flatMap((layer): ParamTensor[] => {
    if (layer.kind === 'pool') return [];
    const { name, weights, biases } = layer;
    const shape =
      layer.kind === 'conv'
        ? [layer.outChannels, layer.inChannels, layer.kernelSize, layer.kernelSize]
        : [layer.numOutputs, layer.numInputs];
    return [
      { name: `${name}.weight`, shape, ...weights },
      { name: `${name}.bias`, shape: shape.slice(0, 1), ...biases },
    ];
  });
}

/**
 * A model for PyTorch: a safetensors file that `load_state_dict(strict=True)` takes, and the module that it is for.
 * θ has PyTorch's layout already; the names are those of the layers.
 */
import { encodeSafetensors } from '../safetensors.js';
import { paramTensorsOf } from '../param-tensors.js';
import type { Network } from './network.js';

const ACTIVATIONS = { sigmoid: 'Sigmoid', tanh: 'Tanh', relu: 'ReLU' } as const;
const POOLS = { avg: 'AvgPool2d', max: 'MaxPool2d' } as const;

/** The bytes of model.safetensors. */
export function encodePytorchWeights(network: Network): Uint8Array {
  const { params, classNames, sha256 } = network;
  return encodeSafetensors(
    // The format is what other readers ask for.
    { format: 'pt', classNames: JSON.stringify(classNames), weightsSha256: sha256 },
    paramTensorsOf(network).map(({ name, shape, offset, length }) => ({
      name,
      shape,
      values: params.subarray(offset, offset + length),
    })),
  );
}

/** The text of model.py. */
export function pytorchSource(network: Network, version: string): string {
  const { channels, height, width } = network.input;
  const { classNames } = network;
  return `\
"""The model of model.safetensors, for PyTorch. Written by Lockstep ${version}.

    from model import CLASSES, load, predict
    probabilities = predict(load(), images)
"""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

# A text in JSON is one in Python, too.
CLASSES = ${JSON.stringify(classNames)}


def build():
    return nn.Sequential(OrderedDict([
${modulesOf(network)
  .map((line) => `        ${line},\n`)
  .join('')}    ]))


def load(path=Path(__file__).with_name("model.safetensors")):
    from safetensors.torch import load_file

    model = build()
    model.load_state_dict(load_file(path), strict=True)
    return model.eval()


@torch.no_grad()
def predict(model, images):
    """(N, ${channels}, ${height}, ${width}) bytes -> (N, ${classNames.length}) probabilities"""
    return model(images.float() / 255).softmax(1)
`;
}

function modulesOf({ layers }: Network): string[] {
  const lines: string[] = [];
  let isFlat = false;
  for (const layer of layers) {
    const { name } = layer;
    switch (layer.kind) {
      case 'conv': {
        const { inChannels, outChannels, kernelSize, stride, padding, activation } = layer;
        const sizes = `${inChannels}, ${outChannels}, ${kernelSize}`;
        lines.push(
          `("${name}", nn.Conv2d(${sizes}, stride=${stride}, padding=${padding})), ` +
            `("${name}_activation", nn.${ACTIVATIONS[activation]}())`,
        );
        break;
      }
      case 'pool':
        lines.push(`("${name}", nn.${POOLS[layer.pool]}(2))`);
        break;
      case 'dense': {
        const { numInputs, numOutputs, activation } = layer;
        const flatten = isFlat ? '' : '("flatten", nn.Flatten()), ';
        isFlat = true;
        lines.push(
          `${flatten}("${name}", nn.Linear(${numInputs}, ${numOutputs}))` +
            (activation ? `, ("${name}_activation", nn.${ACTIVATIONS[activation]}())` : ''),
        );
        break;
      }
    }
  }
  return lines;
}

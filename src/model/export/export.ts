/**
 * Exports a trained model to the formats of other libraries. A run loads none of this.
 */
import { version } from '../../shared/node/version.js';
import type { Checkpoint } from '../checkpoint.js';
import type { ExportFormat } from './format.js';
import { javascriptSource } from './javascript.js';
import { modelCard } from './model-card.js';
import { networkOf, type Network } from './network.js';
import { encodeOnnx } from './onnx.js';
import { encodePytorchWeights, pytorchSource } from './pytorch.js';
import { encodeTfjs } from './tfjs.js';

export interface ExportedFile {
  /** Without a folder. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

/**
 * The files of a model in one or more formats, and README.md, its model card. The same checkpoint gives the same bytes.
 */
export function exportModel(
  checkpoint: Checkpoint,
  formats: readonly ExportFormat[],
): ExportedFile[] {
  const network = networkOf(checkpoint);
  const card = modelCard(checkpoint, network, formats, version);
  return [
    ...formats.flatMap((format) => encode(network, format)),
    { name: 'README.md', bytes: Buffer.from(card) },
  ];
}

function encode(network: Network, format: ExportFormat): ExportedFile[] {
  switch (format) {
    case 'onnx':
      return [{ name: 'model.onnx', bytes: encodeOnnx(network, version) }];
    case 'pytorch':
      return [
        { name: 'model.safetensors', bytes: encodePytorchWeights(network) },
        { name: 'model.py', bytes: Buffer.from(pytorchSource(network, version)) },
      ];
    case 'tfjs': {
      const { json, bin } = encodeTfjs(network, version);
      return [
        { name: 'model.json', bytes: Buffer.from(json) },
        { name: 'weights.bin', bytes: bin },
      ];
    }
    case 'js':
      return [{ name: 'model.js', bytes: Buffer.from(javascriptSource(network, version)) }];
  }
}

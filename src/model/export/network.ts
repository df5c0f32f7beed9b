/** What every export reads of a checkpoint. */
import { weightsSha256, type Checkpoint } from '../checkpoint.js';
import {
  buildModel,
  IMAGE_SIZE,
  NUM_CLASSES,
  type ConvLayer,
  type DenseLayer,
  type PoolLayer,
} from '../lenet.js';

interface Sides {
  readonly inHeight: number;
  readonly inWidth: number;
  readonly outHeight: number;
  readonly outWidth: number;
}

export interface Network {
  readonly layers: readonly ((ConvLayer & Sides) | (PoolLayer & Sides) | DenseLayer)[];
  readonly input: { readonly channels: number; readonly height: number; readonly width: number };
  readonly classNames: readonly string[];
  readonly numParams: number;
  /** θ, (P,) */
  readonly params: Float32Array;
  readonly sha256: string;
}

export function networkOf(checkpoint: Checkpoint): Network {
  const { params, hyperparameters } = checkpoint;
  const { layers, numParams } = buildModel(hyperparameters);
  return {
    layers: layers.map((layer) => {
      if (layer.kind === 'dense') return layer;
      const { inSize, outSize } = layer;
      const sides = { inHeight: inSize, inWidth: inSize, outHeight: outSize, outWidth: outSize };
      return { ...layer, ...sides };
    }),
    input: { channels: 1, height: IMAGE_SIZE, width: IMAGE_SIZE },
    classNames: Array.from({ length: NUM_CLASSES }, (_, digit) => String(digit)),
    numParams,
    params,
    sha256: weightsSha256(params),
  };
}

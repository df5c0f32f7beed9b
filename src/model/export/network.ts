/** What every export reads from a checkpoint. */
import { modelOf, weightsSha256, type Checkpoint } from '../checkpoint.js';
import type { InputShape, Layer } from '../lenet.js';

export interface Network {
  readonly layers: readonly Layer[];
  readonly input: InputShape;
  readonly classNames: readonly string[];
  readonly numParams: number;
  /** θ, (P,) */
  readonly params: Float32Array;
  readonly sha256: string;
}

export function networkOf(checkpoint: Checkpoint): Network {
  const { params, input, classNames } = checkpoint;
  const { layers, numParams } = modelOf(checkpoint);
  return { layers, input, classNames, numParams, params, sha256: weightsSha256(params) };
}

import { createHash } from 'node:crypto';
import type { OptimizerState } from './optimizer.js';
import type { Hyperparameters } from './lenet.js';
export interface Checkpoint {
  params: Float32Array;
  optimizerState: OptimizerState;
  globalStep: number;
  epoch: number;
  seed: number;
  hyperparameters: Hyperparameters;
  config: unknown;
  engineFingerprint: string;
  metrics: unknown;
}
export function weightsSha256(params: Float32Array): string {
  return createHash('sha256')
    .update(new Uint8Array(params.buffer, params.byteOffset, params.byteLength))
    .digest('hex');
}

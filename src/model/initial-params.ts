/** θ₀ from existing weights: for fine-tuning, or trained by PyTorch. */
import { createHash } from 'node:crypto';
import { UserError } from '../shared/errors.js';
import type { Storage } from '../shared/node/storage.js';
import { flagName, textOf } from '../shared/option.js';
import { decodeCheckpoint, findCheckpoint, isCheckpoint, modelOf } from './checkpoint.js';
import { initParams } from './init.js';
import { describeInput, type Model } from './lenet.js';
import { paramTensorsOf } from './param-tensors.js';
import { readPyTorchTensors } from './pytorch-weights.js';
import { checkLength, readSafetensors } from './safetensors.js';

/** A file of weights, not looked into yet. */
export interface WeightsFile {
  readonly path: string;
  readonly bytes: Uint8Array;
  /** Of the bytes, hex. */
  readonly sha256: string;
}

/**
 * @param path a checkpoint or another safetensors file, or a run directory: its best checkpoint, else its last
 * @param skipped is told of each damaged checkpoint, in a sentence
 * @throws {UserError} if there is none, or it is no safetensors file
 */
export async function readWeightsFile(
  storage: Storage,
  path: string,
  skipped: (message: string) => void,
): Promise<WeightsFile> {
  const isFolder = (await storage.list(path)).length > 0;
  const file = isFolder ? (await findCheckpoint(storage, path, skipped)).path : path;
  const bytes = await readSafetensors(storage, file, checkLength);
  return { path: file, bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/**
 * θ₀ for the model from a checkpoint, or from a safetensors file of PyTorch's with the same layers. An output layer for
 * another number of classes begins anew, from the seed.
 *
 * @returns (P,) a fresh buffer
 * @throws {UserError} in one sentence, if the file is damaged or is of another model
 */
export function initParamsFrom(
  { path, bytes }: Pick<WeightsFile, 'path' | 'bytes'>,
  model: Model,
  seed: number,
): Float32Array {
  const params = initParams(model, seed);
  const tensors = isCheckpoint(bytes)
    ? checkpointTensors(bytes, model, path)
    : readPyTorchTensors(bytes, model, path);
  for (const { name, offset, length } of paramTensorsOf(model)) {
    const values = tensors.get(name);
    if (values?.length === length) params.set(values, offset);
  }
  return params;
}

function checkpointTensors(
  bytes: Uint8Array,
  model: Model,
  path: string,
): Map<string, Float32Array> {
  const checkpoint = decodeCheckpoint(bytes, path);
  const { hyperparameters, input, params } = checkpoint;
  const wanted = new Map(Object.entries<unknown>({ ...model.hyperparameters }));
  for (const [key, value] of Object.entries<unknown>({ ...hyperparameters })) {
    if (textOf(value) === textOf(wanted.get(key))) continue;
    throw new UserError(
      `Cannot start from ${path}: its model has another ${key}; ` +
        `give ${flagName(key)} ${textOf(value) || '""'}`,
    );
  }
  if (describeInput(input) !== describeInput(model.input)) {
    throw new UserError(
      `Cannot start from ${path}: its model is for images of ${describeInput(input)}, ` +
        `those of the dataset are ${describeInput(model.input)}`,
    );
  }
  const tensors = paramTensorsOf(modelOf(checkpoint));
  return new Map(
    tensors.map(({ name, offset, length }) => [name, params.subarray(offset, offset + length)]),
  );
}

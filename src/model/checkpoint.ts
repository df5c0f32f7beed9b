/**
 * The state of a run as one file, in the safetensors format.
 *
 * The tensors are θ, layer by layer in its order (`C1.weight` (6, 1, 5, 5), `C1.bias` (6,), …), then those of the
 * optimizer (`optimizer.mean` (P,), …); everything else is metadata. The header has a SHA-256 of the whole file,
 * so that any damage is detected. Files are untrusted: everything is checked before it is used.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import * as z from 'zod';
import { bytesOf } from '../shared/codec.js';
import { hyperparametersSchema, inputShapeSchema } from '../shared/config.js';
import { messageOf, UserError } from '../shared/errors.js';
import { formatBytes } from '../shared/format.js';
import { parseJson, stringifyJson } from '../shared/json.js';
import type { Storage } from '../shared/node/storage.js';
import { shorten } from '../shared/option.js';
import { simdMemoryBytes } from './engine/simd/engine.js';
import { MAX_MEMORY_BYTES } from './engine/simd/wasm.js';
import {
  buildModel,
  DIGITS,
  MAX_CLASSES,
  MAX_CLASS_NAME,
  MNIST,
  type Hyperparameters,
  type InputShape,
  type Model,
} from './lenet.js';
import type { OptimizerState } from './optimizer.js';
import { paramTensorsOf } from './param-tensors.js';
import {
  describeEntry,
  encodeSafetensors,
  entriesOf,
  parseHeader,
  readSafetensors,
  type NamedTensor,
  type SafetensorsHeader,
} from './safetensors.js';

export interface Checkpoint {
  /** θ, (P,) */
  readonly params: Float32Array;
  readonly optimizerState: OptimizerState;
  /** Updates done. */
  readonly globalStep: number;
  /** Passes over the training set done. */
  readonly epoch: number;
  readonly seed: number;
  readonly hyperparameters: Hyperparameters;
  /** Of the images that it was trained on. */
  readonly input: InputShape;
  /** (numClasses,) */
  readonly classNames: readonly string[];
  /** The run's whole configuration, a JSON value. */
  readonly config: unknown;
  /** Whose bits θ are: `simd/1`. */
  readonly engineFingerprint: string;
  /** What was measured so far, a JSON value. */
  readonly metrics: unknown;
}

/** A checkpoint and where it was found. */
export interface StoredCheckpoint {
  readonly checkpoint: Checkpoint;
  readonly path: string;
}

const FORMAT = 'lockstep checkpoint';
const FORMAT_VERSION = '2';
/** Had no `input` and no `classNames`: all images were MNIST's. */
const FORMAT_VERSION_OF_MNIST = '1';
const OPTIMIZER_PREFIX = 'optimizer.';
const MAX_OPTIMIZER_TENSORS = 8;
/** Stands in the place of the digest while it is computed. */
const NO_DIGEST = '0'.repeat(64);

const BEST_NAME = 'best.safetensors';
const STEP_NAME = /^step-(\d{8,15})\.safetensors$/;
const NUM_KEPT = 3;

/** SHA-256 of the little-endian bytes of θ (P,), in hex: the name of a run's result. */
export function weightsSha256(params: Float32Array): string {
  return createHash('sha256').update(bytesOf(params)).digest('hex');
}

/** The model that the checkpoint's θ is of. */
export function modelOf({
  hyperparameters,
  input,
  classNames,
}: Pick<Checkpoint, 'hyperparameters' | 'input' | 'classNames'>): Model {
  return buildModel(hyperparameters, { input, numClasses: classNames.length });
}

/**
 * The bytes of the file; the same checkpoint gives the same bytes.
 *
 * @throws {RangeError} if the length of a tensor does not match the hyperparameters
 */
export function encodeCheckpoint(checkpoint: Checkpoint): Uint8Array {
  const { params, optimizerState } = checkpoint;
  const model = modelOf(checkpoint);
  const ofOptimizer = Object.entries(optimizerState.tensors);
  for (const { length } of [params, ...ofOptimizer.map(([, values]) => values)]) {
    if (length !== model.numParams) {
      throw new RangeError(
        `Cannot encode the checkpoint: a tensor has ${length} values, expected ${model.numParams}`,
      );
    }
  }
  const file = encodeSafetensors(metadataOf(checkpoint), [
    ...paramTensorsOf(model).map(({ name, shape, offset, length }) => ({
      name,
      shape,
      values: params.subarray(offset, offset + length),
    })),
    ...ofOptimizer.map(([name, values]) => ({
      name: OPTIMIZER_PREFIX + name,
      shape: [model.numParams],
      values,
    })),
  ]);
  file.write(digestOf(file), file.indexOf(NO_DIGEST), 'latin1');
  return file;
}

/** @returns whether the bytes say that they are a checkpoint; they may still be damaged */
export function isCheckpoint(bytes: Uint8Array): boolean {
  try {
    const { metadata } = parseHeader(bytes);
    return isRecord(metadata) && metadata.format === FORMAT;
  } catch {
    return false;
  }
}

/**
 * The checkpoint in the bytes of a file; its arrays are fresh.
 *
 * @param file the name in messages
 * @throws {UserError} in one sentence, if the file is damaged or is no checkpoint of Lockstep
 */
export function decodeCheckpoint(bytes: Uint8Array, file = 'the checkpoint'): Checkpoint {
  const fail = failing(file);
  const header = attempt(() => parseHeader(bytes), fail);
  const { metadata, numParams, optimizerNames } = checkHeader(header, bytes.length, fail);
  checkDigest(bytes, metadata.sha256, fail);
  const vectorAt = (index: number): Float32Array => {
    const from = header.dataFrom + index * 4 * numParams;
    return new Float32Array(Uint8Array.from(bytes.subarray(from, from + 4 * numParams)).buffer);
  };
  const params = vectorAt(0);
  if (!params.every(Number.isFinite)) fail('its weights are not all finite');
  const { hyperparameters, input, classNames } = metadata;
  return {
    params,
    optimizerState: {
      tensors: Object.fromEntries(optimizerNames.map((name, index) => [name, vectorAt(index + 1)])),
      scalars: metadata.optimizerScalars,
    },
    globalStep: metadata.globalStep,
    epoch: metadata.epoch,
    seed: metadata.seed,
    hyperparameters,
    input,
    classNames,
    config: metadata.config,
    engineFingerprint: metadata.engineFingerprint,
    metrics: metadata.metrics,
  };
}

/**
 * All that can be known before the data are read.
 *
 * @param fileBytes of the whole file
 */
function checkHeader(header: SafetensorsHeader, fileBytes: number, fail: Fail) {
  const { metadata: rawMetadata, entries, dataFrom } = header;
  if (!isRecord(rawMetadata) || rawMetadata.format !== FORMAT) {
    return fail('it is no checkpoint of Lockstep');
  }
  const { formatVersion } = rawMetadata;
  if (formatVersion !== FORMAT_VERSION && formatVersion !== FORMAT_VERSION_OF_MNIST) {
    const found = shorten(JSON.stringify(formatVersion ?? null));
    return fail(`its format has the version ${found}, expected "${FORMAT_VERSION}"`);
  }
  const parsed = metadataSchema.safeParse(rawMetadata);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = issue.path.map(String).join('.');
    return fail(`its metadata are wrong: ${shorten(`${where}: ${issue.message}`)}`);
  }
  const metadata = parsed.data;
  const model = attempt(() => modelOf(metadata), fail);
  const neededBytes = simdMemoryBytes(model);
  if (neededBytes > MAX_MEMORY_BYTES) {
    fail(
      `its model needs ${formatBytes(neededBytes)} of memory, more than the ` +
        `${formatBytes(MAX_MEMORY_BYTES)} of the largest that can be trained`,
    );
  }
  const optimizerNames = Object.keys(entries)
    .filter((name) => name.startsWith(OPTIMIZER_PREFIX))
    .map((name) => name.slice(OPTIMIZER_PREFIX.length));
  if (optimizerNames.length > MAX_OPTIMIZER_TENSORS) {
    return fail(`it has ${optimizerNames.length} tensors of the optimizer`);
  }
  const wanted = entriesOf(tensorsOf(model, optimizerNames));
  for (const name of new Set([...Object.keys(wanted), ...Object.keys(entries)])) {
    const [found, expected] = [entries[name], wanted[name]].map((entry) => describeEntry(entry));
    if (found !== expected) {
      fail(`its tensor ${shorten(name)} is ${found}, expected ${expected}`);
    }
  }
  const numBytes = dataFrom + (1 + optimizerNames.length) * 4 * model.numParams;
  if (fileBytes !== numBytes) {
    fail(`it has ${fileBytes} bytes, but its header promises ${numBytes}`);
  }
  return { metadata, numParams: model.numParams, optimizerNames };
}

/** The file of the state after that many updates. */
export function checkpointName(globalStep: number): string {
  return `step-${String(globalStep).padStart(8, '0')}.safetensors`;
}

/**
 * Stores the checkpoint as `step-00001234.safetensors`, and as `best.safetensors` too if it is the best so far; then
 * removes older ones but for the last three, and what was left half-written.
 *
 * @returns where it is, and its size
 */
export async function writeCheckpoint(
  storage: Storage,
  dir: string,
  checkpoint: Checkpoint,
  isBest: boolean,
): Promise<{ path: string; bytes: number }> {
  const bytes = encodeCheckpoint(checkpoint);
  const name = checkpointName(checkpoint.globalStep);
  const path = join(dir, name);
  // First: a run that is resumed from the other would not evaluate this state again.
  if (isBest) await storage.writeDurably(join(dir, BEST_NAME), bytes);
  await storage.writeDurably(path, bytes);
  const names = await storage.list(dir);
  const others = stepNames(names).filter((other) => other !== name);
  // Half-written ones are what a process that was killed has left.
  const partials = names.filter((other) => other.endsWith('.partial'));
  for (const other of [...others.slice(NUM_KEPT - 1), ...partials]) {
    await storage.remove(join(dir, other));
  }
  return { path, bytes: bytes.length };
}

/**
 * @throws {UserError} if there is no such file or it is no sound checkpoint
 */
export async function readCheckpoint(storage: Storage, path: string): Promise<Checkpoint> {
  const fail = failing(path);
  const bytes = await readSafetensors(storage, path, (header, fileBytes) => {
    checkHeader(header, fileBytes, fail);
  });
  return decodeCheckpoint(bytes, path);
}

/**
 * The newest sound checkpoint of the folder, the best one if no other is; null if there is none.
 *
 * @param skipped is told of each that is passed over, in a sentence
 * @param check throws a `UserError` for one that is sound, but not to be used
 */
export async function readLatestCheckpoint(
  storage: Storage,
  dir: string,
  skipped: (message: string) => void,
  check: (checkpoint: Checkpoint) => void = () => undefined,
): Promise<StoredCheckpoint | null> {
  const names = await storage.list(dir);
  const best = names.filter((name) => name === BEST_NAME);
  for (const name of [...stepNames(names), ...best]) {
    const path = join(dir, name);
    try {
      const checkpoint = await readCheckpoint(storage, path);
      check(checkpoint);
      return { checkpoint, path };
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      skipped(error.message);
    }
  }
  return null;
}

/**
 * The checkpoint in a file; of a run directory, or a folder of checkpoints, the best one, else the newest sound one.
 *
 * @param skipped is told of each damaged one, in a sentence
 * @throws {UserError} if there is none
 */
export async function findCheckpoint(
  storage: Storage,
  path: string,
  skipped: (message: string) => void,
): Promise<StoredCheckpoint> {
  for (const dir of [join(path, 'checkpoints'), path]) {
    const names = await storage.list(dir);
    if (names.includes(BEST_NAME)) {
      const best = join(dir, BEST_NAME);
      try {
        return { checkpoint: await readCheckpoint(storage, best), path: best };
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        skipped(error.message);
      }
    }
    const latest = await readLatestCheckpoint(storage, dir, () => undefined);
    if (latest) return latest;
    if (names.length > 0 && dir === path) {
      throw new UserError(`Cannot use ${path}: it holds no sound checkpoint`);
    }
  }
  return { checkpoint: await readCheckpoint(storage, path), path };
}

/** The checkpoints of steps among the names, newest first. */
function stepNames(names: readonly string[]): string[] {
  const stepOf = (name: string): number => Number(STEP_NAME.exec(name)?.[1]);
  return names.filter((name) => STEP_NAME.test(name)).sort((a, b) => stepOf(b) - stepOf(a));
}

/** All tensors of a file, in the order of its data. */
function tensorsOf(
  model: Model,
  optimizerNames: readonly string[],
): Pick<NamedTensor, 'name' | 'shape'>[] {
  const ofOptimizer = optimizerNames.map((name) => ({
    name: OPTIMIZER_PREFIX + name,
    shape: [model.numParams],
  }));
  return [...paramTensorsOf(model), ...ofOptimizer];
}

const count = z
  .string()
  .regex(/^\d{1,15}$/, 'expected a whole number')
  .transform(Number);
const json = z.string().transform((text, context): unknown => {
  try {
    return parseJson(text);
  } catch {
    context.addIssue('expected JSON');
    return z.NEVER;
  }
});

const classNamesSchema = z.array(z.string().min(1).max(MAX_CLASS_NAME)).min(2).max(MAX_CLASSES);

/** Every value is a string in the file, as safetensors asks for. */
const metadataSchema = z.strictObject({
  format: z.string(),
  formatVersion: z.string(),
  globalStep: count,
  epoch: count,
  seed: count,
  hyperparameters: json.pipe(hyperparametersSchema),
  input: json.pipe(inputShapeSchema).default(MNIST.input),
  classNames: json.pipe(classNamesSchema).default([...DIGITS]),
  config: json,
  engineFingerprint: z.string().max(64),
  metrics: json,
  optimizerScalars: json.pipe(z.record(z.string().max(64), z.number())),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits'),
});

function metadataOf(checkpoint: Checkpoint): Record<keyof z.input<typeof metadataSchema>, string> {
  return {
    // First of all: then no other value can be taken for it.
    sha256: NO_DIGEST,
    format: FORMAT,
    formatVersion: FORMAT_VERSION,
    globalStep: String(checkpoint.globalStep),
    epoch: String(checkpoint.epoch),
    seed: String(checkpoint.seed),
    hyperparameters: stringifyJson(checkpoint.hyperparameters),
    input: stringifyJson(checkpoint.input),
    classNames: stringifyJson(checkpoint.classNames),
    config: stringifyJson(checkpoint.config),
    engineFingerprint: checkpoint.engineFingerprint,
    metrics: stringifyJson(checkpoint.metrics),
    optimizerScalars: stringifyJson(checkpoint.optimizerState.scalars),
  };
}

type Fail = (why: string, cause?: unknown) => never;

function failing(file: string): Fail {
  return (why, cause) => {
    throw new UserError(`Cannot use ${file}: ${why}`, { cause });
  };
}

/** The digest covers the whole file, itself written as zeros. */
function checkDigest(bytes: Uint8Array, expected: string, fail: Fail): void {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const at = file.indexOf(expected);
  const hash = createHash('sha256').update(file.subarray(0, at)).update(NO_DIGEST);
  const found = hash.update(file.subarray(at + NO_DIGEST.length)).digest('hex');
  if (at < 0 || found !== expected) {
    fail('it is damaged, its bytes do not have the SHA-256 that its header states');
  }
}

function digestOf(file: Uint8Array): string {
  return createHash('sha256').update(file).digest('hex');
}

function attempt<T>(get: () => T, fail: Fail): T {
  try {
    return get();
  } catch (error) {
    return fail(messageOf(error), error);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Weights that PyTorch saved (`safetensors.torch.save_file(model.state_dict(), …)`), for a model of the same layers.
 *
 * The modules of the file may have any names: those named like the model's layers are matched by name, others by their
 * order and shapes. Files are untrusted: everything is checked before it is used.
 */
import { UserError, messageOf } from '../shared/errors.js';
import { printable } from '../shared/printable.js';
import type { Model } from './lenet.js';
import { paramTensorsOf } from './param-tensors.js';
import { numValues, parseEntry, parseHeader } from './safetensors.js';

/** More than any of our models has. */
const MAX_TENSORS = 1000;
const PARTS = ['weight', 'bias'] as const;

/** One layer of the file. */
interface Module {
  readonly name: string;
  readonly weight: Found;
  readonly bias: Found;
}

interface Found {
  readonly shape: readonly number[];
  /** Where its values begin in the file, bytes. */
  readonly from: number;
}

/**
 * The tensors of the model by our names (`C1.weight`), as far as they have the model's shapes. Of the output layer,
 * which another number of classes changes, they may be missing; all others are there.
 *
 * @param file the name in messages
 * @throws {UserError} in one sentence, if the file is damaged or has other layers
 */
export function readPyTorchTensors(
  bytes: Uint8Array,
  model: Pick<Model, 'layers'>,
  file = 'the weights',
): Map<string, Float32Array> {
  const fail = (why: string, cause?: unknown): never => {
    throw new UserError(`Cannot use ${file}: ${why}`, { cause });
  };
  const modules = modulesOf(bytes, fail);
  const layers = layersOf(model);
  if (modules.length !== layers.length) {
    return fail(`it has ${modules.length} layers with weights, the model has ${layers.length}`);
  }
  const tensors = new Map<string, Float32Array>();
  for (const [layer, module] of assign(layers, modules, fail)) {
    if (!isSame(module.weight.shape, layer.shape)) continue;
    for (const part of PARTS) {
      const { from, shape } = module[part];
      const values = Uint8Array.from(bytes.subarray(from, from + 4 * numValues(shape)));
      tensors.set(`${layer.name}.${part}`, new Float32Array(values.buffer));
    }
  }
  for (const [name, values] of tensors) {
    if (!values.every(Number.isFinite)) fail(`the values of ${name} are not all finite`);
  }
  return tensors;
}

/**
 * θ from a file of PyTorch's, for a model of the same layers and classes.
 *
 * @returns (P,) a fresh buffer
 * @throws {UserError} in one sentence, if the file is damaged or has other layers
 */
export function readPyTorchWeights(
  bytes: Uint8Array,
  model: Pick<Model, 'layers' | 'numParams'>,
  file = 'the weights',
): Float32Array {
  const tensors = readPyTorchTensors(bytes, model, file);
  const params = new Float32Array(model.numParams);
  for (const { name, offset, shape } of paramTensorsOf(model)) {
    const values = tensors.get(name);
    if (!values) {
      throw new UserError(
        `Cannot use ${file}: its last layer is for another number of classes, expected ${shape[0]}`,
      );
    }
    params.set(values, offset);
  }
  return params;
}

interface Layer {
  readonly name: string;
  /** Of the weights. */
  readonly shape: readonly number[];
}

/** Those with weights; the output is the last. */
function layersOf(model: Pick<Model, 'layers'>): Layer[] {
  return paramTensorsOf(model)
    .filter(({ name }) => name.endsWith('.weight'))
    .map(({ name, shape }) => ({ name: name.slice(0, -'.weight'.length), shape }));
}

type Fail = (why: string, cause?: unknown) => never;

/** The modules of the file, in natural order of their names: `fc2` before `fc10`. */
function modulesOf(bytes: Uint8Array, fail: Fail): Module[] {
  let header;
  try {
    header = parseHeader(bytes);
  } catch (error) {
    return fail(messageOf(error), error);
  }
  const names = Object.keys(header.entries);
  if (names.length > MAX_TENSORS) fail(`it has ${names.length} tensors`);
  const found = new Map<string, Map<string, Found>>();
  for (const name of names) {
    const match = /^(.+)\.(weight|bias)$/su.exec(name);
    if (!match) return fail(`its tensor ${shown(name)} is neither weight nor bias of a layer`);
    const [, prefix, part] = match;
    const module = found.get(prefix) ?? new Map<string, Found>();
    found.set(prefix, module.set(part, foundIn(bytes, header, name, fail)));
  }
  return [...found]
    .map(([name, parts]): Module => {
      const [weight, bias] = PARTS.map(
        (part) => parts.get(part) ?? fail(`its layer ${shown(name)} has no ${part}`),
      );
      if (!isSame(bias.shape, weight.shape.slice(0, 1))) {
        fail(
          `its layer ${shown(name)} has weights (${weight.shape.join(', ')}) and biases (${bias.shape.join(', ')})`,
        );
      }
      return { name, weight, bias };
    })
    .sort((a, b) => naturalOrder.compare(a.name, b.name));
}

const naturalOrder = new Intl.Collator('en', { numeric: true });

function foundIn(
  bytes: Uint8Array,
  { entries, dataFrom }: ReturnType<typeof parseHeader>,
  name: string,
  fail: Fail,
): Found {
  const entry = parseEntry(entries[name]);
  if (!entry) return fail(`its tensor ${shown(name)} is malformed`);
  const { dtype, shape, data_offsets } = entry;
  if (dtype !== 'F32') {
    fail(`its tensor ${shown(name)} is ${dtype}, expected F32: save model.float().state_dict()`);
  }
  const [begin, end] = data_offsets;
  if (end - begin !== 4 * numValues(shape) || dataFrom + end > bytes.length) {
    fail(`its tensor ${shown(name)} is not where its header says`);
  }
  return { shape, from: dataFrom + begin };
}

/** Which module is which layer. */
function assign(layers: readonly Layer[], modules: readonly Module[], fail: Fail) {
  const byName = new Map(modules.map((module) => [module.name, module]));
  const named = layers.map((layer) => byName.get(layer.name));
  const isNamed = named.every((module) => module !== undefined);
  const ordered = isNamed ? named : modules;
  const fits = layers.map((layer, index) => isFitting(layer, ordered[index], layers.at(-1)!));
  const wrong = fits.indexOf(false);
  if (wrong >= 0) {
    const { name, weight } = ordered[wrong];
    const { shape } = layers[wrong];
    fail(
      `its layer ${shown(name)} has weights (${weight.shape.join(', ')}), ` +
        `expected (${shape.join(', ')}) for ${layers[wrong].name}`,
    );
  }
  if (!isNamed) checkOrder(layers, modules, fail);
  return layers.map((layer, index) => [layer, ordered[index]] as const);
}

/** Of the output layer, the number of outputs may be another. */
function isFitting({ name, shape }: Layer, { weight }: Module, output: Layer): boolean {
  return name === output.name && shape.length === weight.shape.length
    ? isSame(shape.slice(1), weight.shape.slice(1))
    : isSame(shape, weight.shape);
}

/** Layers of the same shape must have names that differ in numbers only, or their order says nothing. */
function checkOrder(layers: readonly Layer[], modules: readonly Module[], fail: Fail): void {
  const template = (name: string) => name.replace(/\d+/g, '#');
  layers.forEach((layer, index) => {
    const twin = layers.findIndex(
      ({ shape }, other) => other > index && isSame(shape, layer.shape),
    );
    if (twin < 0) return;
    const [a, b] = [modules[index].name, modules[twin].name];
    if (template(a) === template(b)) return;
    fail(
      `its layers ${shown(a)} and ${shown(b)} have the same shape; ` +
        `name them ${layer.name} and ${layers[twin].name}`,
    );
  });
}

function isSame(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

function shown(name: string): string {
  return printable(name.slice(0, 80));
}

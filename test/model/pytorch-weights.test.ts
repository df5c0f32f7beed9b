import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { initParams } from '../../src/model/init.js';
import { buildModel, LENET5 } from '../../src/model/lenet.js';
import { paramTensorsOf } from '../../src/model/param-tensors.js';
import { readPyTorchTensors, readPyTorchWeights } from '../../src/model/pytorch-weights.js';
import { encodeSafetensors, type NamedTensor } from '../../src/model/safetensors.js';
import { UserError } from '../../src/shared/errors.js';

const MODEL = buildModel({ ...LENET5, channels: [2, 3], hidden: [7, 7] });
const PARAMS = initParams(MODEL, 1);

/** The tensors of θ, its layers under other names. */
function tensors(names: readonly string[] = ['C1', 'C3', 'F5', 'F6', 'Output']): NamedTensor[] {
  const layers = ['C1', 'C3', 'F5', 'F6', 'Output'];
  return paramTensorsOf(MODEL).map(({ name, shape, offset, length }) => {
    const [layer, part] = name.split('.');
    const values = PARAMS.subarray(offset, offset + length);
    return { name: `${names[layers.indexOf(layer)]}.${part}`, shape, values };
  });
}

function fileOf(list: readonly NamedTensor[]): Uint8Array {
  return encodeSafetensors({ format: 'pt' }, list);
}

describe('readPyTorchWeights()', () => {
  test.each([
    [['C1', 'C3', 'F5', 'F6', 'Output']],
    [['conv1', 'conv2', 'fc1', 'fc2', 'fc3']],
    // nn.Sequential: by number, not by letter.
    [['0', '3', '7', '9', '11']],
    [['features.0', 'features.3', 'head.1', 'head.3', 'head.10']],
  ])('takes layers named %j, whatever their order in the file', (names) => {
    const shuffled = tensors(names).sort((a, b) => (a.name < b.name ? -1 : 1));
    expect(readPyTorchWeights(fileOf(shuffled), MODEL)).toEqual(PARAMS);
    expect(readPyTorchWeights(fileOf(shuffled.reverse()), MODEL)).toEqual(PARAMS);
  });

  test('takes our own names in any order of their letters', () => {
    const model = buildModel({ ...LENET5, channels: [2], hidden: [] });
    const params = initParams(model, 2);
    const list = paramTensorsOf(model).map(({ name, shape, offset, length }) => ({
      name,
      shape,
      values: params.subarray(offset, offset + length),
    }));
    expect(readPyTorchWeights(fileOf(list.reverse()), model)).toEqual(params);
  });

  const other = (name: string, change: Partial<NamedTensor>) =>
    tensors().map((tensor) => (tensor.name === name ? { ...tensor, ...change } : tensor));
  test.each([
    [
      'another number of layers',
      tensors().slice(2),
      /it has 4 layers with weights, the model has 5/,
    ],
    ['no bias', tensors().slice(0, -1), /its layer Output has no bias/],
    [
      'something that is no layer',
      [...tensors(), { name: 'bn.running_mean', shape: [1], values: Float32Array.of(0) }],
      /its tensor bn\.running_mean is neither weight nor bias/,
    ],
    [
      'another shape',
      other('C1.weight', { shape: [2, 1, 25, 1] }),
      /its layer C1 has weights \(2, 1, 25, 1\), expected \(2, 1, 5, 5\) for C1/,
    ],
    [
      'biases of another layer',
      other('F5.bias', { shape: [1], values: Float32Array.of(1) }),
      /its layer F5 has weights \(7, .*\) and biases \(1\)/,
    ],
    [
      'another number of classes',
      other('Output.weight', { shape: [3, 7], values: new Float32Array(21) }).map((tensor) =>
        tensor.name === 'Output.bias'
          ? { ...tensor, shape: [3], values: new Float32Array(3) }
          : tensor,
      ),
      /its last layer is for another number of classes, expected 10/,
    ],
    [
      'values that are not finite',
      other('C3.bias', { values: Float32Array.of(1, NaN, 2) }),
      /the values of C3\.bias are not all finite/,
    ],
  ])('refuses a file with %s', (_, list, message) => {
    expect(() => readPyTorchWeights(fileOf(list), MODEL)).toThrow(UserError);
    expect(() => readPyTorchWeights(fileOf(list), MODEL)).toThrow(message);
  });

  test('refuses layers of one shape whose names tell no order', () => {
    const model = buildModel({ ...LENET5, channels: [1], kernelSize: 1, hidden: [7, 7, 7] });
    const params = initParams(model, 3);
    const file = (names: readonly string[]) =>
      fileOf(
        paramTensorsOf(model).map(({ name, shape, offset, length }, index) => ({
          name: `${names[Math.floor(index / 2)]}.${name.split('.')[1]}`,
          shape,
          values: params.subarray(offset, offset + length),
        })),
      );
    expect(readPyTorchWeights(file(['a', 'b', 'c1', 'c2', 'd']), model)).toEqual(params);
    expect(() => readPyTorchWeights(file(['a', 'b', 'ca', 'cb', 'd']), model)).toThrow(
      /its layers ca and cb have the same shape; name them F4 and F5/,
    );
  });

  test('refuses half precision with the cure', () => {
    const file = Buffer.from(fileOf(tensors()));
    const at = file.indexOf('"F32"');
    file.write('"F16"', at);
    expect(() => readPyTorchWeights(file, MODEL)).toThrow(
      /is F16, expected F32: save model\.float/,
    );
  });

  test('never throws anything but a UserError, whatever byte is wrong', () => {
    const sound = fileOf(tensors());
    fc.assert(
      fc.property(
        fc.nat(sound.length - 1),
        fc.nat(255),
        fc.nat(sound.length),
        (at, byte, length) => {
          const bytes = sound.slice(0, length);
          bytes[at] = byte;
          try {
            readPyTorchWeights(bytes, MODEL);
          } catch (error) {
            expect(error).toBeInstanceOf(UserError);
          }
        },
      ),
      { numRuns: 500 },
    );
    // In the header, where most of the decisions are.
    fc.assert(
      fc.property(fc.nat(1200), fc.nat(255), (at, byte) => {
        const bytes = sound.slice();
        bytes[at] = byte;
        try {
          readPyTorchWeights(bytes, MODEL);
        } catch (error) {
          expect(error).toBeInstanceOf(UserError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('readPyTorchTensors()', () => {
  test('leaves out an output layer for other classes, and nothing else', () => {
    const list = tensors(['a', 'b', 'c1', 'c2', 'd']).map((tensor) => {
      if (!tensor.name.startsWith('d.')) return tensor;
      const shape = [4, ...tensor.shape.slice(1)];
      return { ...tensor, shape, values: new Float32Array(4 * (shape[1] ?? 1)) };
    });
    const names = [...readPyTorchTensors(fileOf(list), MODEL).keys()];
    expect(names).toEqual(
      ['C1', 'C3', 'F5', 'F6'].flatMap((layer) => [`${layer}.weight`, `${layer}.bias`]),
    );
  });
});

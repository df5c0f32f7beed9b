/**
 * A model as an ONNX file: onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, encoded by hand.
 *
 *   input   `images`         uint8 (N, channels, height, width): bytes as they are, the graph divides them by 255
 *   output  `probabilities`  float32 (N, numClasses)
 */
import { bytesOf } from '../../shared/codec.js';
import { ProtoWriter } from '../../shared/node/proto-writer.js';
import { paramTensorsOf } from '../param-tensors.js';
import type { Network } from './network.js';

/** Runs in every onnxruntime since 1.6 (2020). */
export const OPSET = 13;
const IR_VERSION = 7;

/** TensorProto.DataType */
const FLOAT = 1;
const UINT8 = 2;
/** AttributeProto.AttributeType */
const INT = 2;
const INTS = 7;

const ACTIVATIONS = { sigmoid: 'Sigmoid', tanh: 'Tanh', relu: 'Relu' } as const;
const POOLS = { avg: 'AveragePool', max: 'MaxPool' } as const;

interface Node {
  readonly operator: string;
  readonly inputs: readonly string[];
  readonly output: string;
  readonly attributes?: Readonly<Record<string, number | readonly number[]>>;
}

/** @param version of Lockstep, for the file's metadata */
export function encodeOnnx(network: Network, version: string): Uint8Array {
  const { input, classNames, sha256 } = network;
  const model = new ProtoWriter();
  model.integer(1, IR_VERSION);
  model.string(2, 'lockstep');
  model.string(3, version);
  model.message(7, () => {
    for (const node of nodesOf(network)) model.message(1, () => writeNode(model, node));
    model.string(2, 'lenet');
    model.message(5, () => writeTensor(model, 'byte_range', [], Float32Array.of(255)));
    for (const { name, shape, offset, length } of paramTensorsOf(network)) {
      const values = network.params.subarray(offset, offset + length);
      model.message(5, () => writeTensor(model, name, shape, values));
    }
    const { channels, height, width } = input;
    model.message(11, () => writeValue(model, 'images', UINT8, [channels, height, width]));
    model.message(12, () => writeValue(model, 'probabilities', FLOAT, [classNames.length]));
  });
  model.message(8, () => {
    model.string(1, '');
    model.integer(2, OPSET);
  });
  const metadata = {
    classNames: JSON.stringify(classNames),
    normalization: 'x = byte / 255, in the graph',
    weightsSha256: sha256,
  };
  for (const [key, value] of Object.entries(metadata)) {
    model.message(14, () => {
      model.string(1, key);
      model.string(2, value);
    });
  }
  return model.bytes();
}

/** The graph, in the order of computation. */
function nodesOf({ layers }: Network): Node[] {
  const nodes: Node[] = [];
  let value = 'images';
  const append = (
    operator: string,
    output: string,
    others: readonly string[] = [],
    attributes: Node['attributes'] = {},
  ) => {
    nodes.push({ operator, inputs: [value, ...others], output, attributes });
    value = output;
  };
  append('Cast', 'bytes', [], { to: FLOAT });
  append('Div', 'x', ['byte_range']);
  for (const layer of layers) {
    const { name } = layer;
    const params = [`${name}.weight`, `${name}.bias`];
    switch (layer.kind) {
      case 'conv': {
        const { kernelSize, stride, padding } = layer;
        append('Conv', `${name}.z`, params, {
          kernel_shape: [kernelSize, kernelSize],
          strides: [stride, stride],
          pads: [padding, padding, padding, padding],
        });
        append(ACTIVATIONS[layer.activation], name);
        break;
      }
      case 'pool':
        append(POOLS[layer.pool], name, [], { kernel_shape: [2, 2], strides: [2, 2] });
        break;
      case 'dense':
        if (nodes.every(({ operator }) => operator !== 'Flatten')) {
          append('Flatten', 'flat', [], { axis: 1 });
        }
        append('Gemm', `${name}.z`, params, { transB: 1 });
        if (layer.activation) append(ACTIVATIONS[layer.activation], name);
        break;
    }
  }
  append('Softmax', 'probabilities', [], { axis: 1 });
  return nodes;
}

function writeNode(writer: ProtoWriter, { operator, inputs, output, attributes }: Node): void {
  for (const input of inputs) writer.string(1, input);
  writer.string(2, output);
  writer.string(3, `${operator}:${output}`);
  writer.string(4, operator);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    writer.message(5, () => {
      writer.string(1, name);
      if (typeof value === 'number') writer.integer(3, value);
      else for (const one of value) writer.integer(8, one);
      writer.integer(20, typeof value === 'number' ? INT : INTS);
    });
  }
}

function writeTensor(
  writer: ProtoWriter,
  name: string,
  shape: readonly number[],
  values: Float32Array,
): void {
  for (const size of shape) writer.integer(1, size);
  writer.integer(2, FLOAT);
  writer.string(8, name);
  writer.blob(9, bytesOf(values));
}

/** An input or output of the graph: any number of images, then the shape of one. */
function writeValue(
  writer: ProtoWriter,
  name: string,
  type: number,
  shape: readonly number[],
): void {
  writer.string(1, name);
  writer.message(2, () =>
    writer.message(1, () => {
      writer.integer(1, type);
      writer.message(2, () => {
        writer.message(1, () => writer.string(2, 'N'));
        for (const size of shape) writer.message(1, () => writer.integer(1, size));
      });
    }),
  );
}

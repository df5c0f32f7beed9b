/** Convolution by its definition, activation and pooling: assembly/conv.ts and assembly/pool.ts. */
import type { ConvLayer, PoolLayer } from '../../../lenet.js';
import type { Layout } from '../wasm.js';
import {
  F32,
  V128,
  activationCode,
  paddedInput,
  stepBytes,
  takeGrouped,
  type Ends,
  type PlannedStage,
} from './stage.js';

export function planConv(
  layout: Layout,
  conv: ConvLayer,
  pool: PoolLayer,
  { input, dInput, output, dOutput, params }: Ends,
): PlannedStage {
  const { inChannels, outChannels, kernelSize, stride } = conv;
  const area = kernelSize * kernelSize;
  const numTaps = inChannels * area;
  const { height, width } = paddedInput(conv);
  const [outHeight, outWidth] = [2 * pool.outHeight, 2 * pool.outWidth];
  const weights = params + conv.weights.offset * F32;
  const biases = params + conv.biases.offset * F32;
  const numSums = outChannels * (numTaps + 1);

  const s = takeGrouped(layout, outChannels * outHeight * outWidth);
  const sums = layout.take(numSums * V128);
  const biasSums = sums + outChannels * numTaps * V128;
  const tapTable = tapOffsets(inChannels, kernelSize, height, width);
  const taps = layout.take(tapTable.byteLength);
  const quadTable = tapQuads(inChannels, kernelSize);
  const quads = layout.take(quadTable.byteLength);
  const activation = activationCode(conv.activation);
  const isMax = pool.pool === 'max';

  // dz as the gradient of the input wants it, one group at a time: `stride` apart, K − 1 zeros around, so that the gradient
  // is a convolution with stride 1. Without such a gradient, dz replaces s.
  const spreadHeight = height + kernelSize - 1;
  const spreadWidth = width + kernelSize - 1;
  const spread = spreadHeight * spreadWidth;
  const flipped = layout.take(dInput === null ? 0 : outChannels * numTaps * F32);
  const dz = layout.take(dInput === null ? 0 : outChannels * spread * V128);
  const dzTable = tapOffsets(outChannels, kernelSize, spreadHeight, spreadWidth);
  const dzTaps = layout.take(dInput === null ? 0 : dzTable.byteLength);

  return (kernels, buffer) => {
    new Uint32Array(buffer, taps, tapTable.length).set(tapTable);
    new Uint32Array(buffer, quads, quadTable.length).set(quadTable);
    if (dInput !== null) new Uint32Array(buffer, dzTaps, dzTable.length).set(dzTable);
    const sumBytes = new Uint8Array(buffer, sums, numSums * V128);
    const rowBytes = stride * width * V128;
    const xStep = stride * V128;

    return {
      name: `${conv.name} + ${pool.name}`,
      prepare() {
        if (dInput !== null) {
          kernels.flipWeights(weights, flipped, outChannels, inChannels, kernelSize);
        }
      },
      forward(chunk) {
        for (let group = 0; group < chunk.numUsedGroups; group++) {
          const x = input.address + group * input.groupBytes;
          const z = s.address + group * s.groupBytes;
          // prettier-ignore
          kernels.convForward(
            x, rowBytes, xStep, weights, biases, z, outHeight, outWidth, outChannels, taps, numTaps,
          );
          const pooled = output.address + group * output.groupBytes;
          const step = stepBytes(output, chunk);
          // prettier-ignore
          kernels.poolForward(
            z, pooled, step, pool.outHeight, pool.outWidth, outChannels, activation, isMax,
          );
        }
      },
      backward(chunk) {
        if (chunk.isFirst) sumBytes.fill(0);
        for (let group = 0; group < chunk.numUsedGroups; group++) {
          const slopes = s.address + group * s.groupBytes;
          const d = dOutput.address + group * dOutput.groupBytes;
          const d0 = dInput === null ? slopes : dz + (kernelSize - 1) * (spreadWidth + 1) * V128;
          const dBytes = (dInput === null ? outHeight * outWidth : spread) * V128;
          const dRowBytes = (dInput === null ? outWidth : stride * spreadWidth) * V128;
          const dStep = dInput === null ? V128 : stride * V128;
          // prettier-ignore
          kernels.poolBackward(
            slopes, d, stepBytes(dOutput, chunk), pool.outHeight, pool.outWidth, outChannels,
            d0, dBytes, dRowBytes, dStep, biasSums,
          );
          // prettier-ignore
          kernels.convBackwardWeights(
            input.address + group * input.groupBytes, rowBytes, xStep, d0, dBytes, dRowBytes, dStep,
            outHeight, outWidth, outChannels, taps, numTaps, quads, quadTable.length / 4, sums,
          );
          if (dInput !== null) {
            const dx = dInput.address + group * dInput.groupBytes;
            // prettier-ignore
            kernels.convForward(
              dz, spreadWidth * V128, V128, flipped, 0, dx, height, width, inChannels, dzTaps,
              outChannels * area,
            );
          }
        }
      },
      finish(gradient) {
        kernels.reduceLanes(sums, gradient + conv.weights.offset * F32, numSums);
      },
    };
  };
}

/** Byte offsets of the taps (c, i, j) from the first pixel under the window. */
function tapOffsets(
  channels: number,
  kernelSize: number,
  height: number,
  width: number,
): Uint32Array {
  const offsets = [];
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < kernelSize; i++) {
      for (let j = 0; j < kernelSize; j++) offsets.push(((c * height + i) * width + j) * V128);
    }
  }
  return Uint32Array.from(offsets);
}

/** Taps in fours: neighbours in a row as far as they go, then whatever is left; the last one repeats its last tap. */
function tapQuads(channels: number, kernelSize: number): Uint32Array {
  const quads = [];
  const left = [];
  for (let row = 0; row < channels * kernelSize; row++) {
    const first = row * kernelSize;
    let j = 0;
    for (; j + 4 <= kernelSize; j += 4) {
      quads.push(first + j, first + j + 1, first + j + 2, first + j + 3);
    }
    for (; j < kernelSize; j++) left.push(first + j);
  }
  while (left.length % 4 !== 0) left.push(left.at(-1)!);
  return Uint32Array.from([...quads, ...left]);
}

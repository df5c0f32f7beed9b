/**
 * The layers of the `simd` engine: where their buffers lie, and which kernels (assembly/) they call in which order.
 *
 * Images are worked in chunks of up to 16: groups of four, one v128 holding the same value of the four images of a group.
 * Convolutions go group by group; dense layers take G ∈ {1, 2, 4} groups at each load of a weight. Nothing here
 * does arithmetic on values.
 *
 *   convolution input   (group, c, y, x)   the pixels, or what the pooling before left
 *   dense input         (i, group)
 *   s                   (group, o, y, x)   slopes, see assembly/pool.ts; only positions that pooling looks at
 *   sums                weights and biases of a convolution, lane by lane, over all chunks of a call
 */
import {
  ACTIVATIONS,
  type Activation,
  type ConvLayer,
  type DenseLayer,
  type PoolLayer,
} from '../../lenet.js';
import type { Kernels, Layout } from './wasm.js';

export const LANES = 4;
export const MAX_GROUPS = 4;
export const V128 = 16;
export const F32 = 4;

/** The codes of assembly/activation.ts: `SIGMOID`, `TANH`, `RELU`, `LINEAR`. */
function activationCode(activation: Activation | null): number {
  return activation === null ? ACTIVATIONS.length : ACTIVATIONS.indexOf(activation);
}

/** v128 elements of one layer, for each group of a chunk. */
export interface Tensor {
  readonly address: number;
  /** Bytes from a group to the next. */
  readonly groupBytes: number;
  /** Groups lie inside elements, so that the distance between elements depends on their number. */
  readonly isInterleaved: boolean;
}

export function takeGrouped(layout: Layout, numElements: number): Tensor {
  const groupBytes = numElements * V128;
  return { address: layout.take(MAX_GROUPS * groupBytes), groupBytes, isInterleaved: false };
}

/** Up to a multiple of four elements, the unit of `transposeLanes`. */
export function takeInterleaved(layout: Layout, numElements: number): Tensor {
  const address = layout.take(Math.ceil(numElements / 4) * 4 * MAX_GROUPS * V128);
  return { address, groupBytes: V128, isInterleaved: true };
}

/** Of one channel of a convolution's input, with its padding. */
export function paddedInput({ inHeight, inWidth, padding }: ConvLayer) {
  return { height: inHeight + 2 * padding, width: inWidth + 2 * padding };
}

function stepBytes(tensor: Tensor, chunk: Chunk): number {
  return tensor.isInterleaved ? chunk.numGroups * V128 : V128;
}

/** Up to 16 images on their way through the layers. */
export interface Chunk {
  readonly numImages: number;
  /** Groups with an image in them. */
  readonly numUsedGroups: number;
  /** Groups that dense layers compute: 1, 2 or 4. */
  readonly numGroups: number;
  /** The first chunk of a call overwrites what later ones add to. */
  readonly isFirst: boolean;
}

/** A dense layer, or a convolution and its pooling: the unit of timing. */
export interface Stage {
  readonly name: string;
  /** After θ has changed. */
  prepare(): void;
  forward(chunk: Chunk): void;
  /** @param gradient address of (P,) float32 */
  backward(chunk: Chunk, gradient: number): void;
  /** Puts into the gradient what `backward` has summed up beside it. */
  finish(gradient: number): void;
}

/** A stage whose buffers have been placed, for when the memory is there. */
export type PlannedStage = (kernels: Kernels, buffer: ArrayBuffer) => Stage;

/** Buffers that two neighbouring stages share. */
export interface Ends {
  readonly input: Tensor;
  /** Gradient of the input; null for the first stage, whose input is the images. */
  readonly dInput: Tensor | null;
  readonly output: Tensor;
  readonly dOutput: Tensor;
  /** Address of θ. */
  readonly params: number;
}

/** Convolution by its definition, activation and pooling. */
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

/** Whether `planWinograd` can take over from `planConv`, and pays. */
export function suitsWinograd(conv: ConvLayer): boolean {
  return conv.kernelSize === 5 && conv.stride === 1 && conv.inChannels > 1;
}

const POINTS = 36;

/** 5×5 convolution with stride 1 by Winograd's F(2×2, 5×5), activation and pooling: assembly/winograd.ts. */
export function planWinograd(
  layout: Layout,
  conv: ConvLayer,
  pool: PoolLayer,
  { input, dInput, output, dOutput, params }: Ends,
): PlannedStage {
  const { inChannels, outChannels } = conv;
  const { height, width } = paddedInput(conv);
  const weights = params + conv.weights.offset * F32;
  const biases = params + conv.biases.offset * F32;
  const activation = activationCode(conv.activation);
  const isMax = pool.pool === 'max';

  const [tilesPerColumn, tilesPerRow] = [pool.outHeight, pool.outWidth];
  const tilesPerGroup = tilesPerColumn * tilesPerRow;
  // The fewest whole rows of tiles that are a multiple of four tiles.
  const blockRows = tilesPerRow % 4 === 0 ? 1 : tilesPerRow % 2 === 0 ? 2 : 4;
  const blockTiles = blockRows * tilesPerRow;
  const numBlocks = Math.ceil((MAX_GROUPS * tilesPerColumn) / blockRows);
  const outputs = Math.ceil(outChannels / 4) * 4;
  const channels = Math.ceil(inChannels / 2) * 2;

  const blockBytes = POINTS * channels * blockTiles * V128;
  const v = layout.take(numBlocks * blockBytes);
  const m = layout.take(POINTS * outputs * 4 * V128);
  const dm = layout.take(POINTS * outputs * blockTiles * V128);
  const dv = layout.take(blockBytes);
  const s = layout.take(MAX_GROUPS * tilesPerGroup * outChannels * 4 * V128);
  const u = layout.take(POINTS * outputs * inChannels * F32);
  const ut = layout.take(POINTS * channels * outputs * F32);
  const numSums = POINTS * outputs * channels + outChannels;
  const sums = layout.take(numSums * V128);
  const biasSums = sums + (numSums - outChannels) * V128;
  const temp = layout.take(Math.max(6 * width * V128, 91 * 8));

  return (kernels, buffer) => {
    const sumBytes = new Uint8Array(buffer, sums, numSums * V128);
    /** Blocks of a chunk: their first tile row over all groups, and how many they have. */
    const blocks = function* (
      chunk: Chunk,
    ): Generator<{ index: number; row: number; rows: number }> {
      const numRows = chunk.numUsedGroups * tilesPerColumn;
      for (let index = 0, row = 0; row < numRows; index++, row += blockRows) {
        yield { index, row, rows: Math.min(blockRows, numRows - row) };
      }
    };

    return {
      name: `${conv.name} + ${pool.name}`,
      prepare() {
        // prettier-ignore
        kernels.winogradWeights(
          weights, outChannels, inChannels, outputs, channels, u, ut, temp,
        );
      },
      forward(chunk) {
        const step = stepBytes(output, chunk);
        for (const { index, row, rows } of blocks(chunk)) {
          const block = v + index * blockBytes;
          // prettier-ignore
          kernels.winogradInput(
            input.address, input.groupBytes, inChannels, height, width, tilesPerColumn, tilesPerRow,
            row, rows, block, channels, blockTiles, temp,
          );
          const numTiles = rows * tilesPerRow;
          for (let tile = 0; tile < numTiles; tile += 4) {
            // prettier-ignore
            kernels.winogradProduct(
              block + tile * V128, inChannels, channels, blockTiles, u, m, outputs,
            );
            // prettier-ignore
            kernels.winogradOutput(
              m, outputs, outChannels, biases,
              row * tilesPerRow + tile, Math.min(4, numTiles - tile), tilesPerGroup,
              s, output.address, output.groupBytes, step, activation, isMax, temp,
            );
          }
        }
      },
      backward(chunk) {
        if (chunk.isFirst) sumBytes.fill(0);
        if (dInput !== null) {
          new Uint8Array(buffer, dInput.address, chunk.numUsedGroups * dInput.groupBytes).fill(0);
        }
        for (const { index, row, rows } of blocks(chunk)) {
          const numTiles = rows * tilesPerRow;
          // prettier-ignore
          kernels.winogradOutputBackward(
            s, dOutput.address, dOutput.groupBytes, stepBytes(dOutput, chunk), outChannels,
            row * tilesPerRow, numTiles, tilesPerGroup, dm, outputs, blockTiles, biasSums,
          );
          // prettier-ignore
          kernels.winogradWeightProduct(
            dm, outputs, v + index * blockBytes, channels, blockTiles, numTiles, sums,
          );
          if (dInput === null) continue;
          kernels.winogradProductBackward(dm, outputs, ut, dv, channels, blockTiles, numTiles);
          // prettier-ignore
          kernels.winogradInputBackward(
            dv, channels, blockTiles, dInput.address, dInput.groupBytes,
            inChannels, height, width, tilesPerColumn, tilesPerRow, row, rows, temp,
          );
        }
      },
      finish(gradient) {
        const dw = gradient + conv.weights.offset * F32;
        // prettier-ignore
        kernels.winogradWeightsBackward(
          sums, outChannels, inChannels, outputs, channels, dw, temp,
        );
        kernels.reduceLanes(biasSums, gradient + conv.biases.offset * F32, outChannels);
      },
    };
  };
}

/** Whether `planRows` can take over from `planConv`, for the first layer: it makes no gradient of its input. */
export function suitsRows(conv: ConvLayer, pool: PoolLayer): boolean {
  return (
    conv.kernelSize === 5 &&
    conv.stride === 1 &&
    conv.inChannels === 1 &&
    pool.outWidth % 2 === 0 &&
    (pool.outHeight * pool.outWidth) % 4 === 0
  );
}

/** 5×5 convolution of the images by Winograd's F(4, 5) along the rows, activation and pooling: assembly/winograd-rows.ts. */
export function planRows(
  layout: Layout,
  conv: ConvLayer,
  pool: PoolLayer,
  { input, output, dOutput, params }: Ends,
): PlannedStage {
  const { outChannels } = conv;
  const { width } = paddedInput(conv);
  const [outHeight, outWidth] = [2 * pool.outHeight, 2 * pool.outWidth];
  const weights = params + conv.weights.offset * F32;
  const biases = params + conv.biases.offset * F32;
  const activation = activationCode(conv.activation);
  const isMax = pool.pool === 'max';

  const numPoints = 8;
  const numTiles = outWidth / 4;
  const rows = outHeight + 4;
  const numQ = outHeight * numTiles;
  const v = takeGrouped(layout, numPoints * rows * numTiles);
  const s = takeGrouped(layout, outChannels * outHeight * outWidth);
  const u = layout.take(Math.ceil(outChannels / 2) * 2 * numPoints * 5 * F32);
  const dm = layout.take(numPoints * outChannels * numQ * V128);
  const numWeightSums = numPoints * outChannels * 5;
  const numSums = numWeightSums + outChannels;
  const sums = layout.take(numSums * V128);
  const biasSums = sums + numWeightSums * V128;
  const temp = layout.take(numPoints * 8 * V128);

  return (kernels, buffer) => {
    const sumBytes = new Uint8Array(buffer, sums, numSums * V128);

    return {
      name: `${conv.name} + ${pool.name}`,
      prepare() {
        kernels.rowsWeights(weights, outChannels, u);
      },
      forward(chunk) {
        for (let group = 0; group < chunk.numUsedGroups; group++) {
          const x = input.address + group * input.groupBytes;
          const transformed = v.address + group * v.groupBytes;
          const z = s.address + group * s.groupBytes;
          const pooled = output.address + group * output.groupBytes;
          const step = stepBytes(output, chunk);
          kernels.rowsInput(x, width, rows, numTiles, transformed);
          // prettier-ignore
          kernels.rowsForward(
            transformed, rows, numTiles, u, biases, outChannels, z, numQ, temp,
          );
          // prettier-ignore
          kernels.poolForward(
            z, pooled, step, pool.outHeight, pool.outWidth, outChannels, activation, isMax,
          );
        }
      },
      backward(chunk) {
        if (chunk.isFirst) sumBytes.fill(0);
        for (let group = 0; group < chunk.numUsedGroups; group++) {
          const dz = s.address + group * s.groupBytes;
          // prettier-ignore
          kernels.poolBackward(
            dz, dOutput.address + group * dOutput.groupBytes, stepBytes(dOutput, chunk),
            pool.outHeight, pool.outWidth, outChannels,
            dz, outHeight * outWidth * V128, outWidth * V128, V128, biasSums,
          );
          kernels.rowsOutputBackward(dz, outChannels, numQ, dm);
          // prettier-ignore
          kernels.rowsWeightProduct(
            dm, outChannels, numQ, v.address + group * v.groupBytes, rows, numTiles, sums,
          );
        }
      },
      finish(gradient) {
        const dw = gradient + conv.weights.offset * F32;
        kernels.rowsWeightsBackward(sums, outChannels, dw);
        kernels.reduceLanes(biasSums, gradient + conv.biases.offset * F32, outChannels);
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

/** Dense layer and activation. */
export function planDense(
  layout: Layout,
  dense: DenseLayer,
  { input, dInput, output, dOutput, params }: Ends,
): PlannedStage {
  const { numInputs, numOutputs } = dense;
  const weights = params + dense.weights.offset * F32;
  const biases = params + dense.biases.offset * F32;
  const activation = activationCode(dense.activation);
  const rowBytes = numInputs * F32;
  const rows = layout.take(LANES * MAX_GROUPS * Math.ceil(numInputs / 4) * V128);

  return (kernels) => ({
    name: dense.name,
    prepare() {
      // The weights are read where they lie.
    },
    forward({ numGroups }) {
      // prettier-ignore
      kernels.denseProduct(
        input.address, numInputs, weights, rowBytes, F32, biases,
        output.address, numOutputs, numGroups,
      );
      kernels.activateForward(output.address, numOutputs * numGroups, activation);
    },
    backward({ numGroups, numImages, isFirst }, gradient) {
      // From da to dz, in place.
      const dz = dOutput.address;
      kernels.activateBackward(dz, output.address, numOutputs * numGroups, activation);
      kernels.transposeLanes(input.address, numInputs, numGroups, rows);
      // prettier-ignore
      kernels.denseBackwardWeights(
        rows, numInputs, dz, numGroups, numOutputs, numImages,
        gradient + dense.weights.offset * F32, gradient + dense.biases.offset * F32, isFirst,
      );
      if (dInput !== null) {
        // prettier-ignore
        kernels.denseProduct(
          dz, numOutputs, weights, F32, rowBytes, 0, dInput.address, numInputs, numGroups,
        );
      }
    },
    finish() {
      // The gradient is already in its place.
    },
  });
}

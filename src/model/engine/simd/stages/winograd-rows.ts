/** 5×5 convolution of the images by Winograd's F(4, 5) along the rows, activation and pooling: assembly/winograd-rows.ts. */
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

/** 5×5 convolution with stride 1 by Winograd's F(2×2, 5×5), activation and pooling: assembly/winograd.ts. */
import type { ConvLayer, PoolLayer } from '../../../lenet.js';
import type { Layout } from '../wasm.js';
import {
  F32,
  MAX_GROUPS,
  V128,
  activationCode,
  paddedInput,
  stepBytes,
  type Chunk,
  type Ends,
  type PlannedStage,
} from './stage.js';

/** Whether `planWinograd` can take over from `planConv`, and pays. */
export function suitsWinograd(conv: ConvLayer): boolean {
  return conv.kernelSize === 5 && conv.stride === 1 && conv.inChannels > 1;
}

const POINTS = 36;

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

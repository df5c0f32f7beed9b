/**
 * A stage of the `simd` engine: where the buffers of a layer lie, and which kernels (assembly/) it calls in which order.
 * Each way to compute a layer plans its stage in a file of its own beside this one.
 *
 * Images are worked in chunks of up to 16: groups of four, one v128 holding the same value of the four images of a group.
 * Convolutions go group by group; dense layers take G ∈ {1, 2, 4} groups at each load of a weight. No stage
 * does arithmetic on values.
 *
 *   convolution input   (group, c, y, x)   the pixels, or what the pooling before left
 *   dense input         (i, group)
 *   s                   (group, o, y, x)   slopes, see assembly/pool.ts; only positions that pooling looks at
 *   sums                weights and biases of a convolution, lane by lane, over all chunks of a call
 */
import { ACTIVATIONS, type Activation, type ConvLayer } from '../../../lenet.js';
import type { Kernels, Layout } from '../wasm.js';

export const LANES = 4;
export const MAX_GROUPS = 4;
export const V128 = 16;
export const F32 = 4;

/** The codes of assembly/activation.ts: `SIGMOID`, `TANH`, `RELU`, `LINEAR`. */
export function activationCode(activation: Activation | null): number {
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

export function stepBytes(tensor: Tensor, chunk: Chunk): number {
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

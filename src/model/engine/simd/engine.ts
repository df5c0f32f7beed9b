/**
 * The `simd` engine: the gradient of LeNet in WebAssembly SIMD128, exact (docs/algorithm.md).
 *
 * The kernels are in assembly/, the code that calls them in stages/. This file determines the order.
 */
import {
  PLAIN_LOSS,
  type Engine,
  type Evaluation,
  type LossSum,
  type TrainingLoss,
} from '../engine.js';
import { checkBatch, checkImages, checkLength, checkLoss } from '../checks.js';
import { imageBytes, numHiddenUnits, type Model } from '../../lenet.js';
import { planConv } from './stages/conv.js';
import { planDense } from './stages/dense.js';
import { planRows, suitsRows } from './stages/winograd-rows.js';
import {
  F32,
  LANES,
  MAX_GROUPS,
  paddedInput,
  takeGrouped,
  takeInterleaved,
  type Chunk,
  type PlannedStage,
  type Stage,
  type Tensor,
} from './stages/stage.js';
import { planWinograd, suitsWinograd } from './stages/winograd.js';
import { Dropout, type HiddenLayer } from './dropout.js';
import { Layout, createMemory, instantiate, type Kernels, type WasmModule } from './wasm.js';

const CHUNK_IMAGES = LANES * MAX_GROUPS;
const NUM_GRADIENTS = 64;

/** Time of one stage over all images of a call. */
export interface StageTime {
  readonly layer: string;
  readonly forwardMs: number;
  readonly backwardMs: number;
}

export interface SimdEngineOptions {
  /** Buffers that `allocateGradient` can place in the engine's memory; further ones are ordinary arrays, slower. */
  readonly numGradients?: number;
}

/** Where an engine keeps everything, and what its stages do with it; nothing is taken yet. */
function layOut(model: Model, numGradients: number) {
  const { layers, numParams } = model;
  const layout = new Layout();
  const params = layout.take(numParams * F32);
  const scratch = [layout.take(numParams * F32), layout.take(numParams * F32)] as const;
  const images = layout.take(CHUNK_IMAGES * imageBytes(model.input));
  const labels = layout.take(CHUNK_IMAGES * 4);
  const losses = layout.take(CHUNK_IMAGES * F32);
  const predictions = layout.take(CHUNK_IMAGES * 4);

  const first = layers.at(0);
  if (first?.kind !== 'conv') {
    throw new RangeError('Cannot run a model that does not start with a convolution');
  }
  const { height, width } = paddedInput(first);
  const pixels = takeGrouped(layout, first.inChannels * height * width);

  const planned: PlannedStage[] = [];
  const hidden: HiddenLayer[] = [];
  let input = pixels;
  let dInput: Tensor | null = null;
  for (const [index, layer] of layers.entries()) {
    if (layer.kind === 'pool') continue;
    const pool = layers.at(index + 1);
    if (layer.kind === 'conv' && pool?.kind === 'pool') {
      const isLast = layers.at(index + 2)?.kind !== 'conv';
      const numElements = pool.channels * pool.outHeight * pool.outWidth;
      const take = isLast ? takeInterleaved : takeGrouped;
      const [output, dOutput] = [take(layout, numElements), take(layout, numElements)];
      const plan = suitsWinograd(layer)
        ? planWinograd
        : dInput === null && suitsRows(layer, pool)
          ? planRows
          : planConv;
      planned.push(plan(layout, layer, pool, { input, dInput, output, dOutput, params }));
      [input, dInput] = [output, dOutput];
    } else if (layer.kind === 'dense') {
      const output = takeInterleaved(layout, layer.numOutputs);
      const isOutput = layer.activation === null;
      // The gradient of the logits replaces the probabilities, which replace the logits.
      const dOutput = isOutput ? output : takeInterleaved(layout, layer.numOutputs);
      if (!isOutput) {
        const places = { output: output.address, dOutput: dOutput.address };
        hidden.push({ stage: planned.length, numUnits: layer.numOutputs, ...places });
      }
      planned.push(planDense(layout, layer, { input, dInput, output, dOutput, params }));
      [input, dInput] = [output, dOutput];
    }
  }
  const gradients = Array.from({ length: numGradients }, () => layout.take(numParams * F32));
  return {
    ...{ params, scratch, images, labels, losses, predictions, gradients, hidden },
    ...{ padding: first.padding, pixels, logits: input, stages: planned, end: layout.bytes },
  };
}

/**
 * What an engine of the model takes of memory at most, bytes: address space, of which what is used becomes memory. Known
 * before any of it is taken.
 */
export function simdMemoryBytes(model: Model, numGradients = NUM_GRADIENTS): number {
  return layOut(model, numGradients).end;
}

export class SimdEngine implements Engine {
  readonly name = 'simd';
  readonly fingerprint = 'simd/1';
  readonly isExact = true;
  readonly device = 'WebAssembly SIMD';
  readonly model: Model;

  readonly #kernels: Kernels;
  readonly #buffer: ArrayBuffer;
  readonly #stages: readonly Stage[];
  readonly #pixels: Tensor;
  readonly #padding: number;
  readonly #logits: Tensor;
  readonly #dropout: Dropout;
  readonly #dLogits: number;
  readonly #params: Float32Array;
  readonly #images: Uint8Array;
  readonly #labels: Int32Array;
  readonly #losses: Float32Array;
  readonly #predictions: Int32Array;
  /** Two (P,) buffers for arrays that live outside of the memory. */
  readonly #scratch: readonly [Float32Array, Float32Array];
  readonly #freeGradients: number[];
  /** 0, or NaN while θ is not finite. */
  #poison = 0;

  /** @param module simd.wasm */
  constructor(
    module: WasmModule,
    model: Model,
    { numGradients = NUM_GRADIENTS }: SimdEngineOptions = {},
  ) {
    this.model = model;
    const { numParams } = model;
    const plan = layOut(model, numGradients);
    const { params, scratch, images, labels, losses, predictions, hidden } = plan;
    this.#padding = plan.padding;
    this.#pixels = plan.pixels;
    this.#logits = plan.logits;
    this.#dLogits = plan.logits.address;
    this.#freeGradients = [...plan.gradients];

    const { kernels, buffer } = instantiate(module, createMemory(plan.end));
    this.#kernels = kernels;
    this.#buffer = buffer;
    this.#stages = plan.stages.map((stage) => stage(kernels, buffer));
    this.#dropout = new Dropout(buffer, hidden, numHiddenUnits(model));
    this.#params = new Float32Array(buffer, params, numParams);
    this.#scratch = [
      new Float32Array(buffer, scratch[0], numParams),
      new Float32Array(buffer, scratch[1], numParams),
    ];
    this.#images = new Uint8Array(buffer, images, CHUNK_IMAGES * imageBytes(model.input));
    this.#labels = new Int32Array(buffer, labels, CHUNK_IMAGES);
    this.#losses = new Float32Array(buffer, losses, CHUNK_IMAGES);
    this.#predictions = new Int32Array(buffer, predictions, CHUNK_IMAGES);
  }

  allocateGradient(): Float32Array {
    const address = this.#freeGradients.shift();
    const { numParams } = this.model;
    if (address === undefined) return new Float32Array(numParams);
    return new Float32Array(this.#buffer, address, numParams);
  }

  setParams(params: Float32Array): void {
    checkLength('parameters', params, this.model.numParams);
    this.#params.set(params);
    this.#poison = this.#kernels.poison(this.#params.byteOffset, params.length);
    for (const stage of this.#stages) stage.prepare();
  }

  gradient(
    images: Uint8Array,
    labels: Uint16Array,
    out: Float32Array,
    loss: TrainingLoss = PLAIN_LOSS,
  ): LossSum {
    checkBatch(this.model, images, labels);
    checkLoss(this.model, loss, labels.length);
    const { labelSmoothing, masks } = loss;
    checkLength('gradient values', out, this.model.numParams);
    const place = out.buffer === this.#buffer ? out : this.#scratch[0];
    const gradient = place.byteOffset;
    let lossSum = this.#poison;
    let numCorrect = 0;
    for (let start = 0; start < labels.length; start += CHUNK_IMAGES) {
      const chunk = this.#load(images, labels, start);
      this.#stages.forEach((stage, i) => {
        stage.forward(chunk);
        if (masks !== null) this.#dropout.forward(i, chunk, masks, start);
      });
      const smoothing = labelSmoothing > 0 ? this.#smoothing(chunk, labelSmoothing) : null;
      this.#softmax(chunk);
      for (let i = 0; i < chunk.numImages; i++) {
        if (smoothing !== null) this.#losses[i] += smoothing[i];
        lossSum = Math.fround(lossSum + this.#losses[i]);
        if (this.#predictions[i] === this.#labels[i]) numCorrect++;
      }
      this.#lossBackward(chunk);
      if (labelSmoothing > 0) this.#smoothTargets(chunk, labelSmoothing);
      for (let i = this.#stages.length - 1; i >= 0; i--) {
        if (masks !== null) this.#dropout.backward(i, chunk, masks, start);
        this.#stages[i].backward(chunk, gradient);
      }
    }
    for (const stage of this.#stages) stage.finish(gradient);
    if (place !== out) out.set(place);
    return { lossSum, numCorrect };
  }

  add(sum: Float32Array, term: Float32Array): void {
    checkLength('values of a sum', sum, this.model.numParams);
    checkLength('values of a term', term, this.model.numParams);
    const [sumScratch, termScratch] = this.#scratch;
    const sumPlace = sum.buffer === this.#buffer ? sum : sumScratch;
    const termPlace = term.buffer === this.#buffer ? term : termScratch;
    if (sumPlace !== sum) sumPlace.set(sum);
    if (termPlace !== term) termPlace.set(term);
    this.#kernels.add(sumPlace.byteOffset, termPlace.byteOffset, sum.length);
    if (sumPlace !== sum) sum.set(sumPlace);
  }

  evaluate(images: Uint8Array, labels: Uint16Array): Evaluation {
    checkBatch(this.model, images, labels);
    const predictions = new Uint16Array(labels.length);
    let lossSum = this.#poison;
    let numCorrect = 0;
    for (let start = 0; start < labels.length; start += CHUNK_IMAGES) {
      const chunk = this.#load(images, labels, start);
      for (const stage of this.#stages) stage.forward(chunk);
      this.#softmax(chunk);
      for (let i = 0; i < chunk.numImages; i++) {
        lossSum = Math.fround(lossSum + this.#losses[i]);
        predictions[start + i] = this.#predictions[i]!;
        if (this.#predictions[i] === this.#labels[i]) numCorrect++;
      }
    }
    return { lossSum, numCorrect, predictions };
  }

  predict(images: Uint8Array): Float32Array {
    const { numClasses } = this.model;
    const numImages = checkImages(this.model, images);
    const labels = new Uint16Array(numImages);
    const out = new Float32Array(numImages * numClasses);
    const logits = new Float32Array(this.#buffer, this.#logits.address, numClasses * CHUNK_IMAGES);
    for (let start = 0; start < numImages; start += CHUNK_IMAGES) {
      const chunk = this.#load(images, labels, start);
      for (const stage of this.#stages) stage.forward(chunk);
      this.#softmax(chunk);
      for (let i = 0; i < chunk.numImages; i++) {
        for (let k = 0; k < numClasses; k++) {
          out[(start + i) * numClasses + k] = logits[k * chunk.numGroups * LANES + i]!;
        }
      }
    }
    return out;
  }

  /** `gradient` with a clock at every stage. */
  profile(images: Uint8Array, labels: Uint16Array): StageTime[] {
    checkBatch(this.model, images, labels);
    const gradient = this.#scratch[0].byteOffset;
    const times = this.#stages.map(({ name }) => ({ layer: name, forwardMs: 0, backwardMs: 0 }));
    const timed = (work: () => void): number => {
      const start = performance.now();
      work();
      return performance.now() - start;
    };
    for (let start = 0; start < labels.length; start += CHUNK_IMAGES) {
      const chunk = this.#load(images, labels, start);
      this.#stages.forEach((stage, i) => {
        times[i].forwardMs += timed(() => stage.forward(chunk));
      });
      this.#softmax(chunk);
      this.#lossBackward(chunk);
      for (let i = this.#stages.length - 1; i >= 0; i--) {
        times[i].backwardMs += timed(() => this.#stages[i].backward(chunk, gradient));
      }
    }
    this.#stages.forEach((stage, i) => {
      times[i].backwardMs += timed(() => stage.finish(gradient));
    });
    return times;
  }

  dispose(): void {
    // The memory goes when the last view of it goes.
  }

  /** Bytes of up to 16 images from `start` on → the first stage's input. */
  #load(images: Uint8Array, labels: Uint16Array, start: number): Chunk {
    const numImages = Math.min(CHUNK_IMAGES, labels.length - start);
    const numUsedGroups = Math.ceil(numImages / LANES);
    const { channels, height, width } = this.model.input;
    const numBytes = channels * height * width;
    this.#images.set(images.subarray(start * numBytes, (start + numImages) * numBytes));
    this.#labels.fill(0);
    this.#labels.set(labels.subarray(start, start + numImages));
    for (let group = 0; group < numUsedGroups; group++) {
      this.#kernels.loadPixels(
        this.#images.byteOffset + group * LANES * numBytes,
        Math.min(LANES, numImages - group * LANES),
        channels,
        height,
        width,
        this.#pixels.address + group * this.#pixels.groupBytes,
        this.#padding,
      );
    }
    const numGroups = numUsedGroups > 2 ? 4 : numUsedGroups;
    return { numImages, numUsedGroups, numGroups, isFirst: start === 0 };
  }

  #softmax({ numGroups }: Chunk): void {
    this.#kernels.softmax(
      this.#logits.address,
      this.model.numClasses,
      numGroups,
      this.#labels.byteOffset,
      this.#losses.byteOffset,
      this.#predictions.byteOffset,
    );
  }

  /** What a smoothed label adds to the loss of each image, ε·(z_label − mean of z); before the softmax, in float64. */
  #smoothing({ numGroups, numImages }: Chunk, labelSmoothing: number): Float64Array {
    const { numClasses } = this.model;
    const pitch = numGroups * LANES;
    const logits = new Float32Array(this.#buffer, this.#logits.address, numClasses * pitch);
    return Float64Array.from({ length: numImages }, (_, i) => {
      let sum = 0;
      for (let k = 0; k < numClasses; k++) sum += logits[k * pitch + i];
      return labelSmoothing * (logits[this.#labels[i] * pitch + i] - sum / numClasses);
    });
  }

  /** dz ← dz + ε·onehot(label) − ε / numClasses. */
  #smoothTargets({ numGroups, numImages }: Chunk, labelSmoothing: number): void {
    const { numClasses } = this.model;
    const pitch = numGroups * LANES;
    const share = labelSmoothing / numClasses;
    const [ofLabel, ofOthers] = [Math.fround(labelSmoothing - share), Math.fround(share)];
    const dLogits = new Float32Array(this.#buffer, this.#dLogits, numClasses * pitch);
    for (let i = 0; i < numImages; i++) {
      for (let k = 0; k < numClasses; k++) {
        dLogits[k * pitch + i] += k === this.#labels[i] ? ofLabel : -ofOthers;
      }
    }
  }

  #lossBackward({ numGroups, numImages }: Chunk): void {
    this.#kernels.lossBackward(
      this.#dLogits,
      this.model.numClasses,
      numGroups,
      this.#labels.byteOffset,
      numImages,
    );
  }
}

/**
 * Dropout of the `simd` engine, outside its kernels: a few hundred values per image, multiplied in place in float32. The dropped
 * values are kept for the backward pass, since the slope of an activation is computed from its value.
 */
import { F32, LANES, MAX_GROUPS, type Chunk } from './stages/stage.js';

/** A hidden dense layer, whose values are (numUnits, numGroups) v128. */
export interface HiddenLayer {
  /** Which of the engine's stages it is. */
  readonly stage: number;
  readonly numUnits: number;
  /** Addresses of its activations and of their gradients. */
  readonly output: number;
  readonly dOutput: number;
}

export class Dropout {
  /** By stage. */
  private readonly layers = new Map<number, HiddenLayer & { readonly firstUnit: number }>();
  private readonly values: Float32Array;
  private readonly numUnits: number;
  /** (numUnits, images of a chunk) activations as they were. */
  private readonly kept: Float32Array;

  /** @param numUnits of all layers together */
  constructor(buffer: ArrayBuffer, layers: readonly HiddenLayer[], numUnits: number) {
    this.values = new Float32Array(buffer);
    this.numUnits = numUnits;
    this.kept = new Float32Array(numUnits * LANES * MAX_GROUPS);
    let firstUnit = 0;
    for (const layer of layers) {
      this.layers.set(layer.stage, { ...layer, firstUnit });
      firstUnit += layer.numUnits;
    }
  }

  /**
   * Multiplies what a stage has put out, if it is a hidden layer.
   *
   * @param masks (n, numUnits) of all images of the call
   * @param start the chunk's first image
   */
  forward(stage: number, chunk: Chunk, masks: Float32Array, start: number): void {
    const { values, kept } = this;
    this.visit(stage, chunk, (layer, place, unit, image) => {
      const at = layer.output / F32 + place;
      kept[unit * LANES * MAX_GROUPS + image] = values[at];
      values[at] *= masks[(start + image) * this.numUnits + unit];
    });
  }

  /** Before the way back through a stage: gives it its activations again, and multiplies their gradients. */
  backward(stage: number, chunk: Chunk, masks: Float32Array, start: number): void {
    const { values, kept } = this;
    this.visit(stage, chunk, (layer, place, unit, image) => {
      values[layer.output / F32 + place] = kept[unit * LANES * MAX_GROUPS + image];
      values[layer.dOutput / F32 + place] *= masks[(start + image) * this.numUnits + unit];
    });
  }

  private visit(
    stage: number,
    { numGroups, numImages }: Chunk,
    use: (layer: HiddenLayer, place: number, unit: number, image: number) => void,
  ): void {
    const layer = this.layers.get(stage);
    if (layer === undefined) return;
    for (let i = 0; i < layer.numUnits; i++) {
      for (let image = 0; image < numImages; image++) {
        use(layer, i * numGroups * LANES + image, layer.firstUnit + i, image);
      }
    }
  }
}

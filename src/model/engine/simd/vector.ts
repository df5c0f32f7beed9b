/**
 * Vectors of one length, or slices of them, in WebAssembly SIMD: sums of gradients and the optimizers' loops, with the bits of plain
 * float32 arithmetic (`plainKernels` of optimizer.ts).
 *
 * Vectors from `allocate` are processed in place. Any other Float32Array is accepted too: it is copied in and, if it changes,
 * out again, which costs about as much as the work itself.
 */
import type { AdamScalars, OptimizerKernels } from '../../optimizer.js';
import { Layout, createMemory, instantiate, type Kernels, type WasmModule } from './wasm.js';

const F32 = 4;
/** Arrays of one operation at most, as `adam` has. */
const NUM_SCRATCH = 4;

export interface VectorOptions {
  /** Vectors that `allocate` can place in WebAssembly memory; further ones are ordinary arrays, slower. */
  readonly numVectors?: number;
}

export class VectorOps implements OptimizerKernels {
  readonly length: number;
  readonly #kernels: Kernels;
  readonly #buffer: ArrayBuffer;
  readonly #free: number[];
  readonly #scratch: readonly Float32Array[];

  constructor(module: WasmModule, length: number, { numVectors = 64 }: VectorOptions = {}) {
    const layout = new Layout();
    const take = (): number => layout.take(length * F32);
    const scratch = Array.from({ length: NUM_SCRATCH }, take);
    this.#free = Array.from({ length: numVectors }, take);
    const { kernels, buffer } = instantiate(module, createMemory(layout.bytes));
    this.length = length;
    this.#kernels = kernels;
    this.#buffer = buffer;
    this.#scratch = scratch.map((address) => new Float32Array(buffer, address, length));
  }

  /** A zeroed vector where the operations are fastest, the caller's for good. */
  allocate(): Float32Array {
    const address = this.#free.shift();
    if (address === undefined) return new Float32Array(this.length);
    return new Float32Array(this.#buffer, address, this.length);
  }

  /** sum ← sum + term */
  add(sum: Float32Array, term: Float32Array): void {
    this.#run([sum, term], 1, ([s, t], length) => this.#kernels.add(s, t, length));
  }

  /** x ← x / divisor, `divisor` rounded to float32. */
  divide(x: Float32Array, divisor: number): void {
    this.#run([x], 1, ([at], length) => this.#kernels.divide(at, divisor, length));
  }

  /** Whether no value is NaN or infinite. */
  isFinite(x: Float32Array): boolean {
    let poison = 0;
    this.#run([x], 0, ([at], length) => (poison = this.#kernels.poison(at, length)));
    return poison === 0;
  }

  sgd(params: Float32Array, gradient: Float32Array, rate: number, decay: number): void {
    this.#run([params, gradient], 1, ([p, g], length) =>
      this.#kernels.sgd(p, g, rate, decay, length),
    );
  }

  momentum(
    params: Float32Array,
    velocity: Float32Array,
    gradient: Float32Array,
    momentum: number,
    rate: number,
    decay: number,
  ): void {
    this.#run([params, velocity, gradient], 2, ([p, v, g], length) =>
      this.#kernels.momentum(p, v, g, momentum, rate, decay, length),
    );
  }

  adam(
    params: Float32Array,
    mean: Float32Array,
    meanSquare: Float32Array,
    gradient: Float32Array,
    { beta1, rest1, beta2, rest2, rate, scale, epsilon, decay }: AdamScalars,
  ): void {
    this.#run([params, mean, meanSquare, gradient], 3, ([p, m, v, g], length) =>
      // prettier-ignore
      this.#kernels.adam(
        p, m, v, g, beta1, rest1, beta2, rest2, rate, scale, epsilon, decay, length,
      ),
    );
  }

  /**
   * Runs a kernel on the addresses of the vectors, with foreign ones in the scratch vectors meanwhile.
   *
   * @param numChanged the first so many of them change
   * @throws {RangeError} if they differ in length, or are longer than the vectors
   */
  #run(
    vectors: readonly Float32Array[],
    numChanged: number,
    kernel: (addresses: readonly number[], length: number) => void,
  ): void {
    const [{ length }] = vectors;
    const places = vectors.map((vector, index) => {
      if (vector.length !== length || length > this.length) {
        throw new RangeError(
          `Cannot combine vectors of ${length} and ${vector.length} values, expected ${this.length} or a slice of them`,
        );
      }
      if (vector.buffer === this.#buffer) return vector;
      const place = this.#scratch[index].subarray(0, length);
      place.set(vector);
      return place;
    });
    kernel(
      places.map((place) => place.byteOffset),
      length,
    );
    for (let index = 0; index < numChanged; index++) {
      if (places[index] !== vectors[index]) vectors[index].set(places[index]);
    }
  }
}

/** The `simd` engine and its vector operations in Node: the compiled kernels come from the files beside the built program. */
import { readFileSync } from 'node:fs';
import type { Model } from '../../lenet.js';
import { SimdEngine, type SimdEngineOptions } from './engine.js';
import { VectorOps, type VectorOptions } from './vector.js';
import { instantiate, type Kernels, type WasmMemory, type WasmModule } from './wasm.js';

declare const WebAssembly: { Module: new (bytes: Uint8Array) => WasmModule };

/** The same distance from src/ and from dist/. */
const FOLDER = new URL('../../../../dist/model/engine/simd/', import.meta.url);
const compiled = new Map<string, WasmModule>();

/** Takes a few milliseconds. */
export function createSimdEngine(model: Model, options?: SimdEngineOptions): SimdEngine {
  return new SimdEngine(kernelsOf('simd.wasm'), model, options);
}

/** The kernels over a memory that threads share: a tenth slower than over a memory of one's own. */
export function createSharedKernels(memory: WasmMemory): Kernels {
  return instantiate(kernelsOf('simd-shared.wasm'), memory).kernels;
}

/** @param length values in each vector, ≥ 1 */
export function createVectorOps(length: number, options?: VectorOptions): VectorOps {
  return new VectorOps(kernelsOf('simd.wasm'), length, options);
}

function kernelsOf(file: string): WasmModule {
  let module = compiled.get(file);
  if (module === undefined) {
    let bytes;
    try {
      bytes = readFileSync(new URL(file, FOLDER));
    } catch (cause) {
      throw new Error(`Cannot read ${file}; build it with \`npm run build\``, { cause });
    }
    module = new WebAssembly.Module(bytes);
    compiled.set(file, module);
  }
  return module;
}

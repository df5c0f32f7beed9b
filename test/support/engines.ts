/** The engines that test/model/engine.test.ts runs its cases over. */
import type { Engine, MaybePromise } from '../../src/model/engine.js';
import type { Model } from '../../src/model/lenet.js';
import { createReferenceEngine } from '../../src/model/reference-engine.js';
import { createSimdEngine } from '../../src/model/simd-engine.js';

export interface EngineEntry {
  readonly name: string;
  readonly create: (model: Model) => MaybePromise<Engine>;
  /** ‖g − g_ref‖ / ‖g_ref‖ of each parameter tensor at most. */
  readonly tolerance: number;
}

export const engines: readonly EngineEntry[] = [
  // float64 inside: what is left is the rounding of the result to float32, 2⁻²⁴ at most.
  { name: 'reference', create: createReferenceEngine, tolerance: 1e-7 },
  // The contract. All parameters together are within 1e-6 (simd-engine.test.ts), but a bias can be a sum of terms that cancel.
  { name: 'simd', create: createSimdEngine, tolerance: 1e-4 },
];

/** Runs `use` with an engine that holds θ, and disposes of it. */
export async function withEngine<T>(
  { create }: Pick<EngineEntry, 'create'>,
  model: Model,
  params: Float32Array,
  use: (engine: Engine) => MaybePromise<T>,
): Promise<T> {
  const engine = await create(model);
  try {
    engine.setParams(params);
    return await use(engine);
  } finally {
    await engine.dispose();
  }
}

/** The engines that test/model/engine.test.ts runs its cases over. */
import type { Engine, MaybePromise } from '../../src/model/engine/engine.js';
import type { Model } from '../../src/model/lenet.js';
import { TOLERANCE } from '../../src/model/engine/proof.js';
import { createReferenceEngine } from '../../src/model/engine/reference.js';
import { createSimdEngine } from '../../src/model/engine/simd/node.js';
import { createOn, suiteBackends } from './tfjs.js';

export interface EngineEntry {
  readonly name: string;
  readonly create: (model: Model) => MaybePromise<Engine>;
  /** ‖g − g_ref‖ / ‖g_ref‖ of each parameter tensor at most. */
  readonly tolerance: number;
  /** Takes the same cases in fewer sizes. */
  readonly isSlow?: boolean;
}

export const engines: readonly EngineEntry[] = [
  // float64 inside: what is left is the rounding of the result to float32, 2⁻²⁴ at most.
  { name: 'reference', create: createReferenceEngine, tolerance: 1e-7 },
  // float32 sums: about 2e-7, more where the terms of a bias cancel.
  { name: 'simd', create: createSimdEngine, tolerance: 3e-5 },
  // float32 in an order of the backend's own: 1e-6 is usual, more where a tensor is one value and its sum cancels.
  ...suiteBackends.map((backend) => ({
    name: `tfjs ${backend.name}`,
    create: (model: Model) => createOn(backend, model),
    tolerance: TOLERANCE,
    isSlow: backend.name !== 'tensorflow',
  })),
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

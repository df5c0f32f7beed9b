import type { CoordinatorOptions } from '../coordinator/coordinator.js';
import type { Engine } from '../model/engine/engine.js';
import { createProofJudge } from '../model/engine/proof.js';
import type { Regularizer } from '../model/regularizer.js';
import { float32From } from '../shared/codec.js';

/** Judges a worker's proof by the rules of this run. */
export function createJudge(
  exact: Engine,
  reference: Engine,
  regularizer: Regularizer,
  requireExact: boolean,
): CoordinatorOptions['judge'] {
  const judge = createProofJudge(exact, reference, regularizer);
  return ({ fingerprint, proof }, proofSeed) => {
    const gradient = float32From(proof, exact.model.numParams, 'proof');
    const verdict = judge({ fingerprint, gradient }, proofSeed);
    if (!requireExact || !verdict.isAccepted || verdict.isExact) return verdict;
    const message = `The engine ${fingerprint} is approximate, and this run requires exact ones (--require exact)`;
    return { isAccepted: false, message };
  };
}

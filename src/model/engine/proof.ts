/**
 * The proof of an engine: before it may take part in a run, it computes the gradient of a known micro-batch.
 *
 * The coordinator draws a seed for each worker, from which parameters, images and labels are derived, so no answer can be reused
 * by another worker. The worker sends its gradient, and the coordinator compares it with its own.
 */
import { UserError } from '../../shared/errors.js';
import { createRandom } from '../../shared/random.js';
import type { Engine, MaybePromise } from './engine.js';
import { initParams } from '../init.js';
import type { Regularizer } from '../regularizer.js';
import { imageBytes, type Model, type ParamSlice } from '../lenet.js';

/**
 * One more than the four images of a SIMD vector: a tile and a tail. Few, as with `relu` or `max` each further value
 * near a kink is a chance that two right engines fall on different sides of it.
 */
export const NUM_PROOF_IMAGES = 5;

/** ‖g − g_ref‖ / ‖g_ref‖ that each parameter tensor of an approximate engine may have. */
export const TOLERANCE = 1e-4;

export interface ProofTask {
  /** (P,) */
  readonly params: Float32Array;
  /** (n, C, H, W) */
  readonly images: Uint8Array;
  /** (n,) */
  readonly labels: Uint16Array;
}

/** The known micro-batch of a seed. */
export function proofTask(model: Model, proofSeed: number): ProofTask {
  const params = initParams(model, proofSeed);
  const random = createRandom(proofSeed, 'proof');
  for (const layer of model.layers) {
    if (layer.kind === 'pool') continue;
    // Zero biases would prove nothing about them.
    const { offset, length } = layer.biases;
    for (let i = 0; i < length; i++) params[offset + i] = (random.float() - 0.5) / 4;
  }
  return {
    params,
    images: Uint8Array.from({ length: NUM_PROOF_IMAGES * imageBytes(model.input) }, () =>
      random.below(256),
    ),
    labels: Uint16Array.from({ length: NUM_PROOF_IMAGES }, () => random.below(model.numClasses)),
  };
}

/**
 * The engine's proof. Sets its parameters.
 *
 * @param regularizer the run's: what it does to images is proved too
 * @returns (P,) its gradient, the sum over the known micro-batch; a promise where the engine's gradient is one
 */
export function proveEngine(
  engine: Engine,
  proofSeed: number,
  regularizer?: Regularizer,
): MaybePromise<Float32Array> {
  const { params, ...task } = proofTask(engine.model, proofSeed);
  const numbers = Uint32Array.from(task.labels, (_, i) => i);
  const { images, labels, loss } = regularizer?.apply(task, numbers, proofSeed) ?? { ...task };
  const gradient = new Float32Array(engine.model.numParams);
  engine.setParams(params);
  const sums = engine.gradient(images, labels, gradient, loss);
  return sums instanceof Promise ? sums.then(() => gradient) : gradient;
}

/** What a worker shows. */
export interface Proof {
  readonly fingerprint: string;
  /** (P,) */
  readonly gradient: Float32Array;
}

export type Verdict =
  | { readonly isAccepted: true; readonly isExact: boolean }
  | { readonly isAccepted: false; readonly message: string };

/**
 * Equal bits under an equal fingerprint are exact; within the tolerance of the reference, tensor by tensor, is
 * approximate; all else is refused.
 *
 * @param exact the proof of the coordinator's own exact engine
 * @param reference computes the reference engine's gradient (P,), which takes a tenth of a second
 */
export function judgeProof(
  model: Model,
  proof: Proof,
  exact: Proof,
  reference: () => Float32Array,
): Verdict {
  const { fingerprint, gradient } = proof;
  if (gradient.length !== model.numParams) {
    const message = `The proof of ${fingerprint} has ${gradient.length} values, expected ${model.numParams}`;
    return { isAccepted: false, message };
  }
  if (fingerprint === exact.fingerprint && hasEqualBits(gradient, exact.gradient)) {
    return { isAccepted: true, isExact: true };
  }
  const worst = largestDistance(model, gradient, reference());
  if (worst.distance <= TOLERANCE) return { isAccepted: true, isExact: false };
  return {
    isAccepted: false,
    message:
      `The gradient of ${fingerprint} is wrong: ${worst.tensor} is ${worst.distance.toExponential(1)} away from the ` +
      `reference, allowed is ${TOLERANCE.toExponential(0)}; try another --engine, or another driver for the device`,
  };
}

/**
 * The judge of a run. Both engines must compute at once, not later; it sets their parameters.
 *
 * @param exact the coordinator's own, which is held against the reference first
 * @throws {UserError} naming the tensor in which it is wrong
 */
export function createProofJudge(
  exact: Engine,
  reference: Engine,
  regularizer?: Regularizer,
): (proof: Proof, proofSeed: number) => Verdict {
  checkExactEngine(exact, reference, regularizer);
  return (proof, proofSeed) =>
    judgeProof(
      exact.model,
      proof,
      { fingerprint: exact.fingerprint, gradient: proveNow(exact, proofSeed, regularizer) },
      () => proveNow(reference, proofSeed, regularizer),
    );
}

/**
 * Draws in which an engine may show that it is right. Two right engines are far apart where a value falls on different
 * sides of a kink (`relu`, `max`) or a sum nearly cancels, which is chance; a wrong kernel is wrong in every draw.
 */
export const NUM_DRAWS = 3;

/** Once for a run's model: bits that equal its own prove nothing of a worker as long as both may share a fault. */
function checkExactEngine(exact: Engine, reference: Engine, regularizer?: Regularizer): void {
  const { model } = exact;
  let worst = { tensor: '', distance: Infinity };
  for (let seed = 1; seed <= NUM_DRAWS; seed++) {
    const [own, other] = [exact, reference].map((engine) => proveNow(engine, seed, regularizer));
    worst = largestDistance(model, own, other);
    if (worst.distance <= TOLERANCE) return;
  }
  throw new UserError(
    `Cannot train this model: the gradient of ${exact.fingerprint} is wrong on this machine, ${worst.tensor} is ` +
      `${worst.distance.toExponential(1)} away from the reference, allowed is ${TOLERANCE.toExponential(0)}; ` +
      'please report it with the options of the model',
  );
}

/** The proof of an engine that computes at once, not later. */
function proveNow(engine: Engine, proofSeed: number, regularizer?: Regularizer): Float32Array {
  const gradient = proveEngine(engine, proofSeed, regularizer);
  if (gradient instanceof Promise) throw new TypeError(`${engine.name} cannot judge proofs`);
  return gradient;
}

/** The parameter tensor that is farthest from the reference. A value that is no number is infinitely far. */
export function largestDistance(
  model: Model,
  gradient: Float32Array,
  reference: Float32Array,
): { readonly tensor: string; readonly distance: number } {
  let worst = { tensor: '', distance: -1 };
  for (const layer of model.layers) {
    if (layer.kind === 'pool') continue;
    for (const part of ['weights', 'biases'] as const) {
      const distance = relativeDistance(gradient, reference, layer[part]);
      if (distance > worst.distance) worst = { tensor: `${layer.name} ${part}`, distance };
    }
  }
  return worst;
}

/** ‖g − g_ref‖ / ‖g_ref‖ of a slice; of a reference that is zero, ‖g‖. */
export function relativeDistance(
  gradient: Float32Array,
  reference: Float32Array,
  { offset, length }: ParamSlice = { offset: 0, length: reference.length },
): number {
  let difference = 0;
  let norm = 0;
  for (let i = offset; i < offset + length; i++) {
    difference += (gradient[i] - reference[i]) ** 2;
    norm += reference[i] ** 2;
  }
  const distance = Math.sqrt(difference / (norm || 1));
  return Number.isNaN(distance) ? Infinity : distance;
}

/** Bits, not values: 0 and −0 differ. */
export function hasEqualBits(a: Float32Array, b: Float32Array): boolean {
  const bytes = (array: Float32Array): Buffer =>
    Buffer.from(array.buffer, array.byteOffset, array.byteLength);
  return bytes(a).equals(bytes(b));
}

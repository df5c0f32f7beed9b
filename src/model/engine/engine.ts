/**
 * What computes gradients. Every engine keeps this contract; `test/model/engine.test.ts` runs the same cases over
 * all of them.
 *
 * An exact engine returns the contract's bits (docs/algorithm.md): for the same θ, images and labels the same bytes on
 * every machine, whatever it computed before. An approximate engine is within 1e-4 of the reference,
 * ‖g − g_ref‖ / ‖g_ref‖ for each parameter tensor.
 */
import type { Model } from '../lenet.js';

export const ENGINE_NAMES = ['simd', 'tensorflow', 'webgpu', 'reference'] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];
/** What a user may ask for: an engine, or the best that the machine has. */
export const ENGINE_REQUESTS = ['auto', ...ENGINE_NAMES] as const;
export type EngineRequest = (typeof ENGINE_REQUESTS)[number];

/** A value, or the promise of one where an engine works beside the event loop. */
export type MaybePromise<T> = T | Promise<T>;

/** What the sum of gradients of some images comes with. */
export interface LossSum {
  /** Σ softmax cross-entropy, with its label smoothing, a float32 value. */
  readonly lossSum: number;
  /** Images whose largest logit, with the dropout there is, is that of their label; the first of equal ones counts. */
  readonly numCorrect: number;
}

/** What the loss of training has and that of an evaluation has not. */
export interface TrainingLoss {
  /** ε: the target of a class is ε / numClasses, and 1 − ε more for the label. */
  readonly labelSmoothing: number;
  /**
   * (n, H) what multiplies the activations of the H hidden dense units, layer after layer: 0 for a unit that is dropped,
   * 1 / (1 − dropout) for one that is not. Null without dropout.
   */
  readonly masks: Float32Array | null;
}

/** That of an evaluation. */
export const PLAIN_LOSS: TrainingLoss = { labelSmoothing: 0, masks: null };

export interface Evaluation extends LossSum {
  /** (n,) the class of the largest logit. */
  readonly predictions: Uint16Array;
}

export interface Engine {
  readonly name: EngineName;
  /** Version of the engine's bits, such as `simd/1`; changes whenever they change. */
  readonly fingerprint: string;
  readonly isExact: boolean;
  /** What it runs on, for people: `WebAssembly SIMD`, `NVIDIA H100`. */
  readonly device: string;
  readonly model: Model;

  /** A zeroed (P,) buffer where `gradient` and `add` are fastest, the caller's until `dispose`. */
  allocateGradient(): Float32Array;

  /** Takes over θ (P,), copied. Later calls compute with it. */
  setParams(params: Float32Array): void;

  /**
   * out ← Σ ∇ loss(x; θ) over the n images, from zero, in the engine's one fixed order.
   *
   * @param images (n, C, H, W) bytes, of the model's `input`; x = byte / 255; n ≥ 1
   * @param labels (n,) classes, below the model's `numClasses`
   * @param out (P,) overwritten, in the layout of θ
   * @param loss that of an evaluation by default
   */
  gradient(
    images: Uint8Array,
    labels: Uint16Array,
    out: Float32Array,
    loss?: TrainingLoss,
  ): MaybePromise<LossSum>;

  /** sum ← sum + term, (P,) each, element by element in float32. */
  add(sum: Float32Array, term: Float32Array): void;

  /** Loss and predictions of n images under θ; nothing is kept. */
  evaluate(images: Uint8Array, labels: Uint16Array): MaybePromise<Evaluation>;

  /** (n, numClasses) class probabilities of n images, softmax of the logits. */
  predict(images: Uint8Array): MaybePromise<Float32Array>;

  /** Frees what the engine holds; no call may follow. */
  dispose(): MaybePromise<void>;
}

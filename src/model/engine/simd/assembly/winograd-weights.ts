/** The weights of winograd.ts: their transform and its way back, in float64. */
import { sumLanes } from './math';

const A_F64: f64 = 0.75;
const B_F64: f64 = 1.5;
/** 1 / Π_j≠i (α_i − α_j) for the points 0, ±a, ±b. */
const N0: f64 = 1.0 / (A_F64 * A_F64 * B_F64 * B_F64);
const NA: f64 = 1.0 / (2.0 * A_F64 * A_F64 * (A_F64 * A_F64 - B_F64 * B_F64));
const NB: f64 = 1.0 / (2.0 * B_F64 * B_F64 * (B_F64 * B_F64 - A_F64 * A_F64));

/** G of five values → six, float64. */
// @ts-ignore: decorator
@inline
function transformWeights(
  g0: f64,
  g1: f64,
  g2: f64,
  g3: f64,
  g4: f64,
  to: usize,
  step: usize,
): void {
  const a2 = A_F64 * A_F64;
  const b2 = B_F64 * B_F64;
  const evenA = (g0 + a2 * (g2 + a2 * g4)) * NA;
  const oddA = (g1 + a2 * g3) * (A_F64 * NA);
  const evenB = (g0 + b2 * (g2 + b2 * g4)) * NB;
  const oddB = (g1 + b2 * g3) * (B_F64 * NB);
  store<f64>(to, g0 * N0);
  store<f64>(to + step, evenA + oddA);
  store<f64>(to + 2 * step, evenA - oddA);
  store<f64>(to + 3 * step, evenB + oddB);
  store<f64>(to + 4 * step, evenB - oddB);
  store<f64>(to + 5 * step, g4);
}

/** Gᵀ of six values, `step` apart, → five: the transpose of `transformWeights`. */
// @ts-ignore: decorator
@inline
function transposeWeights(from: usize, step: usize, to: usize, toStep: usize): void {
  const a2 = A_F64 * A_F64;
  const b2 = B_F64 * B_F64;
  const u1 = load<f64>(from + step) * NA;
  const u2 = load<f64>(from + 2 * step) * NA;
  const u3 = load<f64>(from + 3 * step) * NB;
  const u4 = load<f64>(from + 4 * step) * NB;
  const evenA = u1 + u2;
  const oddA = A_F64 * (u1 - u2);
  const evenB = u3 + u4;
  const oddB = B_F64 * (u3 - u4);
  store<f64>(to, load<f64>(from) * N0 + evenA + evenB);
  store<f64>(to + toStep, oddA + oddB);
  store<f64>(to + 2 * toStep, a2 * evenA + b2 * evenB);
  store<f64>(to + 3 * toStep, a2 * oddA + b2 * oddB);
  store<f64>(to + 4 * toStep, a2 * a2 * evenA + b2 * b2 * evenB + load<f64>(from + 5 * step));
}

/**
 * U, UT ← G w Gᵀ, in float64, rounded once.
 *
 * @param w (outputs, channels, 5, 5) float32
 * @param temp (36 + 30,) float64
 */
export function winogradWeights(
  w: usize,
  outputs: i32,
  channels: i32,
  paddedOutputs: i32,
  vChannels: i32,
  u: usize,
  ut: usize,
  temp: usize,
): void {
  const columns = temp + 36 * 8;
  const uPointBytes = <usize>(paddedOutputs * channels) << 2;
  const utPointBytes = <usize>(vChannels * paddedOutputs) << 2;
  for (let o = 0; o < outputs; o++) {
    for (let c = 0; c < channels; c++) {
      for (let j: usize = 0; j < 5; j++) {
        const g = w + (j << 2);
        // prettier-ignore
        transformWeights(
          load<f32>(g), load<f32>(g, 20), load<f32>(g, 40), load<f32>(g, 60), load<f32>(g, 80),
          columns + (j << 3), 40,
        );
      }
      for (let i: usize = 0; i < 6; i++) {
        const g = columns + 40 * i;
        // prettier-ignore
        transformWeights(
          load<f64>(g), load<f64>(g, 8), load<f64>(g, 16), load<f64>(g, 24), load<f64>(g, 32),
          temp + 48 * i, 8,
        );
      }
      let to = u + (<usize>(((o >> 1) * channels + c) * 2 + (o & 1)) << 2);
      let toT = ut + (<usize>(((c >> 1) * paddedOutputs + o) * 2 + (c & 1)) << 2);
      for (let point: usize = 0; point < 36; point++) {
        const value = <f32>load<f64>(temp + (point << 3));
        store<f32>(to, value);
        store<f32>(toT, value);
        to += uPointBytes;
        toT += utPointBytes;
      }
      w += 100;
    }
  }
}

/**
 * dw ← Gᵀ dU G, in float64, rounded once.
 *
 * @param dw (outputs, channels, 5, 5) float32
 * @param temp (36 + 30 + 25,) float64
 */
export function winogradWeightsBackward(
  du: usize,
  outputs: i32,
  channels: i32,
  paddedOutputs: i32,
  vChannels: i32,
  dw: usize,
  temp: usize,
): void {
  const columns = temp + 36 * 8;
  const result = columns + 30 * 8;
  const pointBytes = <usize>(paddedOutputs * vChannels) << 4;
  for (let o = 0; o < outputs; o++) {
    for (let c = 0; c < channels; c++) {
      let from = du + (<usize>(o * vChannels + c) << 4);
      for (let point: usize = 0; point < 36; point++) {
        store<f64>(temp + (point << 3), sumLanes(v128.load(from)));
        from += pointBytes;
      }
      // Down the columns (6×6 → 5×6), along the rows (→ 5×5).
      for (let j: usize = 0; j < 6; j++) {
        transposeWeights(temp + (j << 3), 48, columns + (j << 3), 48);
      }
      for (let i: usize = 0; i < 5; i++) {
        transposeWeights(columns + 48 * i, 8, result + 40 * i, 8);
      }
      for (let t: usize = 0; t < 25; t++) {
        store<f32>(dw, <f32>load<f64>(result + (t << 3)));
        dw += 4;
      }
    }
  }
}

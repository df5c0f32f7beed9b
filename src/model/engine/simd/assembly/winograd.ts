/**
 * Winograd's F(2×2, 5×5) for convolutions with 5×5 kernels and stride 1, forward and back: 36 multiplications for the
 * 100 of two by two outputs.
 *
 *   z  = Aᵀ [ Σ_c (G w Gᵀ) ⊙ (Bᵀ d B) ] A           d: 6×6 inputs of one tile, z: 2×2 outputs
 *
 * Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016 (https://arxiv.org/abs/1509.09308). The way
 * back (winograd-backward.ts, winograd-weights.ts) is the transpose of each step:
 *
 *   dM = A dz Aᵀ     dU = Σ_tiles dM ⊙ V,  dw = Gᵀ dU G     dV = Σ_o U ⊙ dM,  dd = B dV Bᵀ, added where tiles overlap
 *
 * The points are 0, ±a, ±b, ∞ with a = 3/4, b = 3/2: squares are exact, pairs of points share their work, and the
 * error is that of the direct sum (with 0, ±1, ±2 it is 1.7 times that; docs/experiments.md). The weights are
 * transformed in float64 and rounded once.
 *
 * A tile is a pooling window, so that activation and pooling happen on its four outputs where they arise. The tiles of all
 * groups of a chunk, T = (group, y, x), are worked in blocks of TB tiles, whole rows of them.
 *
 *   U   (36, O/2, C, 2) float32    transformed weights       UT  (36, C/2, O, 2) float32   the same for the way back
 *   V   (36, C, TB) v128           transformed inputs        dV  likewise
 *   M   (36, O, 4) v128            sums over c, four tiles   dM  (36, O, TB) v128
 *   dU  (36, O, C) v128            lane by lane, over all chunks of a call
 *
 * O is padded to a multiple of 4 and C to a multiple of 2 in all of these; the padding is zero and stays so.
 */
import { RELU, SIGMOID, TANH } from './activation';
import { add, scale, sub } from './math';
import { poolWindow } from './pool';
import { product2x4 } from './product';

export const A: f32 = 0.75;
export const B: f32 = 1.5;
/** a², b², their sum and product. */
export const A2: f32 = 0.5625;
export const B2: f32 = 2.25;
export const SUM: f32 = 2.8125;
export const PRODUCT: f32 = 1.265625;

/** Bᵀ of six values, `from` and `to` in steps of their own: interpolation's numerators at the six points. */
// @ts-ignore: decorator
@inline
function transformInput(from: usize, fromStep: usize, to: usize, toStep: usize): void {
  const d0 = v128.load(from);
  const d1 = v128.load(from + fromStep);
  const d2 = v128.load(from + 2 * fromStep);
  const d3 = v128.load(from + 3 * fromStep);
  const d4 = v128.load(from + 4 * fromStep);
  const d5 = v128.load(from + 5 * fromStep);
  const evenA = sub(d4, scale(d2, B2));
  const oddA = scale(sub(d3, scale(d1, B2)), A);
  const evenB = sub(d4, scale(d2, A2));
  const oddB = sub(d3, scale(d1, A2));
  v128.store(to, sub(evenA, scale(sub(d2, scale(d0, B2)), A2)));
  v128.store(to + toStep, add(evenA, oddA));
  v128.store(to + 2 * toStep, sub(evenA, oddA));
  v128.store(to + 5 * toStep, sub(sub(d5, scale(d3, A2)), scale(oddB, B2)));
  const scaledOddB = scale(oddB, B);
  v128.store(to + 3 * toStep, add(evenB, scaledOddB));
  v128.store(to + 4 * toStep, sub(evenB, scaledOddB));
}

/**
 * V ← Bᵀ d B for `numRows` rows of tiles, from tile row `firstRow` (over all groups) on.
 *
 * @param input (group, C, height, width) v128
 * @param v (36, vChannels, blockTiles) v128
 * @param temp (6, width) v128
 */
export function winogradInput(
  input: usize,
  groupBytes: usize,
  channels: i32,
  height: i32,
  width: i32,
  tilesPerColumn: i32,
  tilesPerRow: i32,
  firstRow: i32,
  numRows: i32,
  v: usize,
  vChannels: i32,
  blockTiles: i32,
  temp: usize,
): void {
  const rowBytes = <usize>width << 4;
  const usedBytes = <usize>(2 * tilesPerRow + 4) << 4;
  const channelBytes = rowBytes * height;
  const vPitch = <usize>blockTiles << 4;
  const pointBytes = vPitch * vChannels;
  for (let r = 0; r < numRows; r++) {
    const group = (firstRow + r) / tilesPerColumn;
    const y = (firstRow + r) % tilesPerColumn;
    let from = input + <usize>group * groupBytes + <usize>(2 * y) * rowBytes;
    let to = v + (<usize>(r * tilesPerRow) << 4);
    for (let c = 0; c < channels; c++) {
      for (let x: usize = 0; x < usedBytes; x += 16) {
        transformInput(from + x, rowBytes, temp + x, rowBytes);
      }
      for (let i: usize = 0; i < 6; i++) {
        const row = temp + i * rowBytes;
        const out = to + 6 * i * pointBytes;
        for (let x = 0; x < tilesPerRow; x++) {
          transformInput(row + (<usize>x << 5), 16, out + (<usize>x << 4), pointBytes);
        }
      }
      from += channelBytes;
      to += vPitch;
    }
  }
}

/**
 * M ← Σ_c U ⊙ V for four tiles.
 *
 * @param v of the first of the four tiles
 * @param outputs O, a multiple of 4
 */
export function winogradProduct(
  v: usize,
  channels: i32,
  vChannels: i32,
  blockTiles: i32,
  u: usize,
  m: usize,
  outputs: i32,
): void {
  const vPitch = <usize>blockTiles << 4;
  const pointBytes = vPitch * vChannels;
  const usedBytes = vPitch * channels;
  for (let point = 0; point < 36; point++) {
    const vEnd = v + usedBytes;
    for (let o = 0; o < outputs; o += 2) {
      product2x4(v, vEnd, vPitch, u, m, m + 64);
      u += <usize>channels << 3;
      m += 128;
    }
    v += pointBytes;
  }
}

// @ts-ignore: decorator
@inline
function outputLoop(
  kind: i32,
  isMax: bool,
  m: usize,
  paddedOutputs: i32,
  outputs: i32,
  biases: usize,
  s: usize,
  pooled: usize,
  pooledPitch: usize,
  temp: usize,
): void {
  const step = <usize>paddedOutputs << 6;
  for (let o = 0; o < outputs; o++) {
    // Aᵀ down the columns …
    let p = m;
    for (let i: usize = 0; i < 96; i += 16) {
      const m1 = v128.load(p + 6 * step);
      const m2 = v128.load(p + 12 * step);
      const m3 = v128.load(p + 18 * step);
      const m4 = v128.load(p + 24 * step);
      v128.store(temp + i, add(add(v128.load(p), add(m1, m2)), add(m3, m4)));
      const odd = add(scale(sub(m1, m2), A), scale(sub(m3, m4), B));
      v128.store(temp + i, add(odd, v128.load(p + 30 * step)), 96);
      p += step;
    }
    // … and along the rows.
    const bias = v128.load_splat<f32>(biases);
    let m1 = v128.load(temp, 16);
    let m2 = v128.load(temp, 32);
    let m3 = v128.load(temp, 48);
    let m4 = v128.load(temp, 64);
    const z0 = add(add(add(v128.load(temp), add(m1, m2)), add(m3, m4)), bias);
    let odd = add(scale(sub(m1, m2), A), scale(sub(m3, m4), B));
    const z1 = add(add(odd, v128.load(temp, 80)), bias);
    m1 = v128.load(temp, 112);
    m2 = v128.load(temp, 128);
    m3 = v128.load(temp, 144);
    m4 = v128.load(temp, 160);
    const z2 = add(add(add(v128.load(temp, 96), add(m1, m2)), add(m3, m4)), bias);
    odd = add(scale(sub(m1, m2), A), scale(sub(m3, m4), B));
    const z3 = add(add(odd, v128.load(temp, 176)), bias);
    poolWindow(kind, isMax, z0, z1, z2, z3, s, 32, pooled);
    m += 64;
    biases += 4;
    s += 64;
    pooled += pooledPitch;
  }
}

/**
 * z = Aᵀ M A + b, activation and pooling, for `numTiles` ≤ 4 tiles from `firstTile` on.
 *
 * @param s (T, outputs, 4) v128: slopes of the four positions of a window
 * @param pooled (group, outputs, tilesPerGroup) v128, `pooledStep` bytes from element to element
 * @param temp (12,) v128
 */
export function winogradOutput(
  m: usize,
  paddedOutputs: i32,
  outputs: i32,
  biases: usize,
  firstTile: i32,
  numTiles: i32,
  tilesPerGroup: i32,
  s: usize,
  pooled: usize,
  groupBytes: usize,
  pooledStep: usize,
  activation: i32,
  isMax: bool,
  temp: usize,
): void {
  const pitch = <usize>tilesPerGroup * pooledStep;
  for (let j = 0; j < numTiles; j++) {
    const tile = firstTile + j;
    const group = tile / tilesPerGroup;
    const p = pooled + <usize>group * groupBytes + <usize>(tile % tilesPerGroup) * pooledStep;
    const sTile = s + (<usize>(tile * outputs) << 6);
    if (isMax) {
      if (activation == SIGMOID) {
        outputLoop(SIGMOID, true, m, paddedOutputs, outputs, biases, sTile, p, pitch, temp);
      } else if (activation == TANH) {
        outputLoop(TANH, true, m, paddedOutputs, outputs, biases, sTile, p, pitch, temp);
      } else {
        outputLoop(RELU, true, m, paddedOutputs, outputs, biases, sTile, p, pitch, temp);
      }
    } else {
      if (activation == SIGMOID) {
        outputLoop(SIGMOID, false, m, paddedOutputs, outputs, biases, sTile, p, pitch, temp);
      } else if (activation == TANH) {
        outputLoop(TANH, false, m, paddedOutputs, outputs, biases, sTile, p, pitch, temp);
      } else {
        outputLoop(RELU, false, m, paddedOutputs, outputs, biases, sTile, p, pitch, temp);
      }
    }
    m += 16;
  }
}

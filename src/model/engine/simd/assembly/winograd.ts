/**
 * Winograd's F(2×2, 5×5) for convolutions with 5×5 kernels and stride 1, forward and back: 36 multiplications for the
 * 100 of two by two outputs.
 *
 *   z  = Aᵀ [ Σ_c (G w Gᵀ) ⊙ (Bᵀ d B) ] A           d: 6×6 inputs of one tile, z: 2×2 outputs
 *
 * Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016 (https://arxiv.org/abs/1509.09308). The way
 * back is the transpose of each step:
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
import { mulAdd, sumLanes } from './math';
import { poolWindow } from './pool';

const A: f32 = 0.75;
const B: f32 = 1.5;
/** a², b², their sum and product. */
const A2: f32 = 0.5625;
const B2: f32 = 2.25;
const SUM: f32 = 2.8125;
const PRODUCT: f32 = 1.265625;

// @ts-ignore: decorator
@inline
function scale(x: v128, factor: f32): v128 {
  return f32x4.mul(x, f32x4.splat(factor));
}

// @ts-ignore: decorator
@inline
function add(x: v128, y: v128): v128 {
  return f32x4.add(x, y);
}

// @ts-ignore: decorator
@inline
function sub(x: v128, y: v128): v128 {
  return f32x4.sub(x, y);
}

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

/** B of six values, added to what is at `to`: the transpose of `transformInput`. */
// @ts-ignore: decorator
@inline
function addTransposedInput(from: usize, fromStep: usize, to: usize, toStep: usize): void {
  const v0 = v128.load(from);
  const v1 = v128.load(from + fromStep);
  const v2 = v128.load(from + 2 * fromStep);
  const v3 = v128.load(from + 3 * fromStep);
  const v4 = v128.load(from + 4 * fromStep);
  const v5 = v128.load(from + 5 * fromStep);
  const s = add(v1, v2);
  const t = add(v3, v4);
  const p = scale(sub(v1, v2), A);
  const q = scale(sub(v3, v4), B);
  addTo(to, scale(v0, PRODUCT));
  addTo(to + toStep, sub(scale(v5, PRODUCT), add(scale(p, B2), scale(q, A2))));
  addTo(to + 2 * toStep, sub(scale(v0, -SUM), add(scale(s, B2), scale(t, A2))));
  addTo(to + 3 * toStep, sub(add(p, q), scale(v5, SUM)));
  addTo(to + 4 * toStep, add(add(v0, s), t));
  addTo(to + 5 * toStep, v5);
}

// @ts-ignore: decorator
@inline
function addTo(address: usize, x: v128): void {
  v128.store(address, f32x4.add(v128.load(address), x));
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

/** Two rows of sums of products, four columns: x[k][0 … 3] · w[k][0 … 1], k from x to xEnd, two k at least. */
// @ts-ignore: decorator
@inline
function product2x4(x: usize, xEnd: usize, xPitch: usize, w: usize, out0: usize, out1: usize): void {
  let p = v128.load_splat<f32>(w);
  let q = v128.load_splat<f32>(w, 4);
  let t = v128.load(x);
  let a0 = f32x4.mul(t, p);
  let b0 = f32x4.mul(t, q);
  t = v128.load(x, 16);
  let a1 = f32x4.mul(t, p);
  let b1 = f32x4.mul(t, q);
  t = v128.load(x, 32);
  let a2 = f32x4.mul(t, p);
  let b2 = f32x4.mul(t, q);
  t = v128.load(x, 48);
  let a3 = f32x4.mul(t, p);
  let b3 = f32x4.mul(t, q);
  x += xPitch;
  w += 8;
  do {
    p = v128.load_splat<f32>(w);
    q = v128.load_splat<f32>(w, 4);
    t = v128.load(x);
    a0 = mulAdd(t, p, a0);
    b0 = mulAdd(t, q, b0);
    t = v128.load(x, 16);
    a1 = mulAdd(t, p, a1);
    b1 = mulAdd(t, q, b1);
    t = v128.load(x, 32);
    a2 = mulAdd(t, p, a2);
    b2 = mulAdd(t, q, b2);
    t = v128.load(x, 48);
    a3 = mulAdd(t, p, a3);
    b3 = mulAdd(t, q, b3);
    x += xPitch;
    w += 8;
  } while (x < xEnd);
  v128.store(out0, a0);
  v128.store(out0, a1, 16);
  v128.store(out0, a2, 32);
  v128.store(out0, a3, 48);
  v128.store(out1, b0);
  v128.store(out1, b1, 16);
  v128.store(out1, b2, 32);
  v128.store(out1, b3, 48);
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

/** A of two values → six: z0, z0 ± a·z1, z0 ± b·z1, z1. */
// @ts-ignore: decorator
@inline
function storeTransposedOutput(z0: v128, z1: v128, to: usize, step: usize): void {
  const p = scale(z1, A);
  const q = scale(z1, B);
  v128.store(to, z0);
  v128.store(to + step, add(z0, p));
  v128.store(to + 2 * step, sub(z0, p));
  v128.store(to + 3 * step, add(z0, q));
  v128.store(to + 4 * step, sub(z0, q));
  v128.store(to + 5 * step, z1);
}

/**
 * dM ← A dz Aᵀ with dz = s · dpooled, for `numTiles` tiles from `firstTile` on; biasSums ← biasSums + Σ dz.
 *
 * @param dm (36, paddedOutputs, blockTiles) v128, of the block that begins at `firstTile`
 * @param biasSums (outputs,) v128
 */
export function winogradOutputBackward(
  s: usize,
  dPooled: usize,
  groupBytes: usize,
  dPooledStep: usize,
  outputs: i32,
  firstTile: i32,
  numTiles: i32,
  tilesPerGroup: i32,
  dm: usize,
  paddedOutputs: i32,
  blockTiles: i32,
  biasSums: usize,
): void {
  const dmPitch = <usize>blockTiles << 4;
  const step = dmPitch * paddedOutputs;
  const sPitch = <usize>outputs << 6;
  const firstGroup = firstTile / tilesPerGroup;
  const firstInGroup = firstTile % tilesPerGroup;
  s += <usize>firstTile * sPitch;
  dPooled += <usize>firstGroup * groupBytes;
  for (let o = 0; o < outputs; o++) {
    let sTile = s;
    let group = dPooled;
    let inGroup = firstInGroup;
    let sum = v128.load(biasSums);
    const toEnd = dm + (<usize>numTiles << 4);
    for (let to = dm; to < toEnd; to += 16) {
      const d = v128.load(group + <usize>inGroup * dPooledStep);
      const z0 = f32x4.mul(v128.load(sTile), d);
      const z1 = f32x4.mul(v128.load(sTile, 16), d);
      const z2 = f32x4.mul(v128.load(sTile, 32), d);
      const z3 = f32x4.mul(v128.load(sTile, 48), d);
      sum = add(sum, add(add(z0, z1), add(z2, z3)));
      // Rows 0, ±a, ±b, ∞ of A dz, each of them then along its row.
      storeTransposedOutput(z0, z1, to, step);
      const p0 = scale(z2, A);
      const p1 = scale(z3, A);
      storeTransposedOutput(add(z0, p0), add(z1, p1), to + 6 * step, step);
      storeTransposedOutput(sub(z0, p0), sub(z1, p1), to + 12 * step, step);
      const q0 = scale(z2, B);
      const q1 = scale(z3, B);
      storeTransposedOutput(add(z0, q0), add(z1, q1), to + 18 * step, step);
      storeTransposedOutput(sub(z0, q0), sub(z1, q1), to + 24 * step, step);
      storeTransposedOutput(z2, z3, to + 30 * step, step);
      sTile += sPitch;
      inGroup++;
      if (inGroup == tilesPerGroup) {
        inGroup = 0;
        group += groupBytes;
      }
    }
    v128.store(biasSums, sum);
    biasSums += 16;
    s += 64;
    dPooled += <usize>tilesPerGroup * dPooledStep;
    dm += dmPitch;
  }
}

/**
 * dU ← dU + Σ_T dM ⊙ V over the `numTiles` tiles of a block.
 */
export function winogradWeightProduct(
  dm: usize,
  outputs: i32,
  v: usize,
  vChannels: i32,
  blockTiles: i32,
  numTiles: i32,
  du: usize,
): void {
  const pitch = <usize>blockTiles << 4;
  const used = <usize>numTiles << 4;
  const duPitch = <usize>vChannels << 4;
  for (let point = 0; point < 36; point++) {
    for (let o = 0; o < outputs; o += 4) {
      for (let c = 0; c < vChannels; c += 2) {
        let x = v + <usize>c * pitch;
        const xEnd = x + used;
        let d = dm;
        const sum0 = du + (<usize>c << 4);
        const sum1 = sum0 + duPitch;
        const sum2 = sum1 + duPitch;
        const sum3 = sum2 + duPitch;
        let a0 = v128.load(sum0);
        let b0 = v128.load(sum0, 16);
        let a1 = v128.load(sum1);
        let b1 = v128.load(sum1, 16);
        let a2 = v128.load(sum2);
        let b2 = v128.load(sum2, 16);
        let a3 = v128.load(sum3);
        let b3 = v128.load(sum3, 16);
        do {
          const p = v128.load(x);
          const q = v128.load(x + pitch);
          let t = v128.load(d);
          a0 = mulAdd(t, p, a0);
          b0 = mulAdd(t, q, b0);
          t = v128.load(d + pitch);
          a1 = mulAdd(t, p, a1);
          b1 = mulAdd(t, q, b1);
          t = v128.load(d + 2 * pitch);
          a2 = mulAdd(t, p, a2);
          b2 = mulAdd(t, q, b2);
          t = v128.load(d + 3 * pitch);
          a3 = mulAdd(t, p, a3);
          b3 = mulAdd(t, q, b3);
          x += 16;
          d += 16;
        } while (x < xEnd);
        v128.store(sum0, a0);
        v128.store(sum0, b0, 16);
        v128.store(sum1, a1);
        v128.store(sum1, b1, 16);
        v128.store(sum2, a2);
        v128.store(sum2, b2, 16);
        v128.store(sum3, a3);
        v128.store(sum3, b3, 16);
      }
      dm += 4 * pitch;
      du += 4 * duPitch;
    }
    v += pitch * vChannels;
  }
}

/** dV ← Σ_o U ⊙ dM over a block. */
export function winogradProductBackward(
  dm: usize,
  outputs: i32,
  ut: usize,
  dv: usize,
  vChannels: i32,
  blockTiles: i32,
  numTiles: i32,
): void {
  const pitch = <usize>blockTiles << 4;
  const used = <usize>numTiles << 4;
  for (let point = 0; point < 36; point++) {
    for (let c = 0; c < vChannels; c += 2) {
      for (let t: usize = 0; t < used; t += 64) {
        const x = dm + t;
        product2x4(x, x + pitch * outputs, pitch, ut, dv + t, dv + pitch + t);
      }
      ut += <usize>outputs << 3;
      dv += 2 * pitch;
    }
    dm += pitch * outputs;
  }
}

/**
 * dInput ← dInput + B dV Bᵀ for `numRows` rows of tiles from tile row `firstRow` on; it starts from zero.
 *
 * @param dInput (group, channels, height, width) v128
 * @param temp (6, width) v128
 */
export function winogradInputBackward(
  dv: usize,
  vChannels: i32,
  blockTiles: i32,
  dInput: usize,
  groupBytes: usize,
  channels: i32,
  height: i32,
  width: i32,
  tilesPerColumn: i32,
  tilesPerRow: i32,
  firstRow: i32,
  numRows: i32,
  temp: usize,
): void {
  const rowBytes = <usize>width << 4;
  const usedBytes = <usize>(2 * tilesPerRow + 4) << 4;
  const channelBytes = rowBytes * height;
  const pitch = <usize>blockTiles << 4;
  const pointBytes = pitch * vChannels;
  for (let r = 0; r < numRows; r++) {
    const group = (firstRow + r) / tilesPerColumn;
    const y = (firstRow + r) % tilesPerColumn;
    let to = dInput + <usize>group * groupBytes + <usize>(2 * y) * rowBytes;
    let from = dv + (<usize>(r * tilesPerRow) << 4);
    for (let c = 0; c < channels; c++) {
      memory.fill(temp, 0, 6 * rowBytes);
      for (let i: usize = 0; i < 6; i++) {
        const row = temp + i * rowBytes;
        const points = from + 6 * i * pointBytes;
        for (let x = 0; x < tilesPerRow; x++) {
          addTransposedInput(points + (<usize>x << 4), pointBytes, row + (<usize>x << 5), 16);
        }
      }
      for (let x: usize = 0; x < usedBytes; x += 16) {
        addTransposedInput(temp + x, rowBytes, to + x, rowBytes);
      }
      to += channelBytes;
      from += pitch;
    }
  }
}

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

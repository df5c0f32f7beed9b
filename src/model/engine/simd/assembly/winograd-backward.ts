/** The way back of winograd.ts: gradients of its weights, transformed, and of its input. */
import { add, mulAdd, scale, sub } from './math';
import { product2x4 } from './product';
import { A, A2, B, B2, PRODUCT, SUM } from './winograd';

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

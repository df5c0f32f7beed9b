/**
 * Activation and 2×2 pooling in one pass, and back.
 *
 * Forward, over windows j = 0 … 3 of z (row-major in the window):
 *
 *   avg:  pooled = ¼ Σ_j f(z_j)            s_j = ¼ f′(z_j)
 *   max:  pooled = f(max_j z_j)            s_j = f′(z_m) for the first largest z_m, else 0   (f does not decrease)
 *
 * s overwrites z; it is all that the way back needs, whatever f and the pooling:  dz_j = s_j · dpooled.
 */
import { activate, derivative, RELU, SIGMOID, TANH } from './activation';
import { scaledSigmoid, select } from './math';

/** One window: z_j → pooled, and s_j at `s` with row distance `rowBytes`. `kind` and `isMax` are constants. */
// @ts-ignore: decorator
@inline
export function poolWindow(
  kind: i32,
  isMax: bool,
  z0: v128,
  z1: v128,
  z2: v128,
  z3: v128,
  s: usize,
  rowBytes: usize,
  pooled: usize,
): void {
  if (isMax) {
    const is1 = f32x4.gt(z1, z0);
    let m = select(z1, z0, is1);
    const is2 = f32x4.gt(z2, m);
    m = select(z2, m, is2);
    const is3 = f32x4.gt(z3, m);
    m = select(z3, m, is3);
    // Comparisons pass a NaN over; the sum does not.
    const sum = f32x4.add(f32x4.add(z0, z1), f32x4.add(z2, z3));
    m = select(sum, m, f32x4.ne(sum, sum));
    const a = activate(kind, m);
    v128.store(pooled, a);
    const slope = derivative(kind, a);
    const not3 = v128.andnot(slope, is3);
    const not23 = v128.andnot(not3, is2);
    v128.store(s, v128.andnot(not23, is1));
    v128.store(s, v128.and(not23, is1), 16);
    v128.store(s + rowBytes, v128.and(not3, is2));
    v128.store(s + rowBytes, v128.and(slope, is3), 16);
  } else if (kind == SIGMOID) {
    // a / 4, exactly, straight from the division.
    const a0 = scaledSigmoid(z0, 0.25);
    const a1 = scaledSigmoid(z1, 0.25);
    const a2 = scaledSigmoid(z2, 0.25);
    const a3 = scaledSigmoid(z3, 0.25);
    v128.store(pooled, f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3)));
    v128.store(s, quarterSlope(a0));
    v128.store(s, quarterSlope(a1), 16);
    v128.store(s + rowBytes, quarterSlope(a2));
    v128.store(s + rowBytes, quarterSlope(a3), 16);
  } else {
    const quarter = f32x4.splat(0.25);
    const a0 = activate(kind, z0);
    const a1 = activate(kind, z1);
    const a2 = activate(kind, z2);
    const a3 = activate(kind, z3);
    v128.store(pooled, f32x4.mul(f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3)), quarter));
    v128.store(s, f32x4.mul(derivative(kind, a0), quarter));
    v128.store(s, f32x4.mul(derivative(kind, a1), quarter), 16);
    v128.store(s + rowBytes, f32x4.mul(derivative(kind, a2), quarter));
    v128.store(s + rowBytes, f32x4.mul(derivative(kind, a3), quarter), 16);
  }
}

/** ¼·a·(1 − a) from a / 4. */
// @ts-ignore: decorator
@inline
function quarterSlope(quarterA: v128): v128 {
  return f32x4.mul(
    quarterA,
    f32x4.sub(f32x4.splat(1.0), f32x4.mul(quarterA, f32x4.splat(4.0))),
  );
}

// @ts-ignore: decorator
@inline
function poolLoop(
  kind: i32,
  isMax: bool,
  z: usize,
  pooled: usize,
  pooledStep: usize,
  height: i32,
  width: i32,
  channels: i32,
): void {
  const rowBytes = <usize>width << 5;
  for (let row = height * channels; row > 0; row--) {
    for (let x = 0; x < width; x++) {
      const z0 = v128.load(z);
      const z1 = v128.load(z, 16);
      const z2 = v128.load(z + rowBytes);
      const z3 = v128.load(z + rowBytes, 16);
      poolWindow(kind, isMax, z0, z1, z2, z3, z, rowBytes, pooled);
      z += 32;
      pooled += pooledStep;
    }
    z += rowBytes;
  }
}

/**
 * @param z (channels, 2·height, 2·width) v128, replaced by s
 * @param pooled (channels, height, width) v128, `pooledStep` bytes from element to element
 */
export function poolForward(
  z: usize,
  pooled: usize,
  pooledStep: usize,
  height: i32,
  width: i32,
  channels: i32,
  activation: i32,
  isMax: bool,
): void {
  if (isMax) {
    if (activation == SIGMOID) poolLoop(SIGMOID, true, z, pooled, pooledStep, height, width, channels);
    else if (activation == TANH) poolLoop(TANH, true, z, pooled, pooledStep, height, width, channels);
    else poolLoop(RELU, true, z, pooled, pooledStep, height, width, channels);
  } else {
    if (activation == SIGMOID) poolLoop(SIGMOID, false, z, pooled, pooledStep, height, width, channels);
    else if (activation == TANH) poolLoop(TANH, false, z, pooled, pooledStep, height, width, channels);
    else poolLoop(RELU, false, z, pooled, pooledStep, height, width, channels);
  }
}

/**
 * dz ← s · dpooled, and the sums of dz over positions, which are the gradient of the biases, lane by lane.
 *
 * @param dz (channels, 2·height, 2·width) v128 at the given distances; may be `s` itself
 * @param biasSums (channels,) v128, added to
 */
export function poolBackward(
  s: usize,
  dPooled: usize,
  dPooledStep: usize,
  height: i32,
  width: i32,
  channels: i32,
  dz: usize,
  dzBytes: usize,
  dzRowBytes: usize,
  dzStepBytes: usize,
  biasSums: usize,
): void {
  const rowBytes = <usize>width << 5;
  for (let c = 0; c < channels; c++) {
    let sum = v128.load(biasSums);
    for (let y = 0; y < height; y++) {
      let d = dz + <usize>(2 * y) * dzRowBytes;
      for (let x = 0; x < width; x++) {
        const dp = v128.load(dPooled);
        const d0 = f32x4.mul(v128.load(s), dp);
        const d1 = f32x4.mul(v128.load(s, 16), dp);
        const d2 = f32x4.mul(v128.load(s + rowBytes), dp);
        const d3 = f32x4.mul(v128.load(s + rowBytes, 16), dp);
        v128.store(d, d0);
        v128.store(d + dzStepBytes, d1);
        v128.store(d + dzRowBytes, d2);
        v128.store(d + dzRowBytes + dzStepBytes, d3);
        sum = f32x4.add(sum, f32x4.add(f32x4.add(d0, d1), f32x4.add(d2, d3)));
        s += 32;
        d += 2 * dzStepBytes;
        dPooled += dPooledStep;
      }
      s += rowBytes;
    }
    v128.store(biasSums, sum);
    dz += dzBytes;
    biasSums += 16;
  }
}

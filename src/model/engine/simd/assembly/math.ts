/**
 * Transcendental functions of four float32 values, and their scalar forms by way of them.
 *
 * Nothing here calls the host's `Math`: the bits must be equal on every machine, and WebAssembly defines float32
 * arithmetic to the bit. Polynomials: `exp`, `log` and `tanh` after Cephes (Moshier, single precision: expf.c, logf.c,
 * tanhf.c, https://www.netlib.org/cephes/), 2^f of the sigmoid by a Remez exchange (scripts/minimax.py).
 * NaN passes through all of them: `pmin` and `pmax` return their first operand when it is NaN.
 */

/** 1.5·2²³: added and taken away again, it rounds |x| < 2²² to the nearest integer, which its low bits then hold. */
const MAGIC: f32 = 12582912.0;

// @ts-ignore: decorator
@inline
function splat(x: f32): v128 {
  return f32x4.splat(x);
}

// @ts-ignore: decorator
@inline
export function scale(x: v128, factor: f32): v128 {
  return f32x4.mul(x, f32x4.splat(factor));
}

// @ts-ignore: decorator
@inline
export function add(x: v128, y: v128): v128 {
  return f32x4.add(x, y);
}

// @ts-ignore: decorator
@inline
export function sub(x: v128, y: v128): v128 {
  return f32x4.sub(x, y);
}

/** a·b + c, two roundings: WebAssembly's deterministic subset has no fused form. */
// @ts-ignore: decorator
@inline
export function mulAdd(a: v128, b: v128, c: v128): v128 {
  return f32x4.add(f32x4.mul(a, b), c);
}

/** The values of `a` where the mask is set, else those of `b`. */
// @ts-ignore: decorator
@inline
export function select(a: v128, b: v128, mask: v128): v128 {
  return v128.bitselect(a, b, mask);
}

/** (l0 + l1) + (l2 + l3): the one order in which lanes are summed. */
// @ts-ignore: decorator
@inline
export function sumLanes(x: v128): f32 {
  return (
    f32x4.extract_lane(x, 0) +
    f32x4.extract_lane(x, 1) +
    (f32x4.extract_lane(x, 2) + f32x4.extract_lane(x, 3))
  );
}

/**
 * 2^−t for |t| ≤ 125, else clamped: 2^f·2^n with n = round(−t), |f| ≤ ½, relative error 2e-7.
 */
// @ts-ignore: decorator
@inline
function exp2Clamped(t: v128): v128 {
  t = f32x4.pmin(f32x4.pmax(t, splat(-125.0)), splat(125.0));
  const n = f32x4.add(t, splat(MAGIC));
  const f = f32x4.sub(t, f32x4.sub(n, splat(MAGIC)));
  // In Estrin's order: what waits here is latency, not throughput.
  const f2 = f32x4.mul(f, f);
  const low = mulAdd(f, splat(6.93146967065e-1), splat(1.0));
  const middle = mulAdd(f, splat(5.55071327288e-2), splat(2.4022119724e-1));
  const high = mulAdd(f, splat(1.32764721678e-3), splat(9.67554133102e-3));
  const p = mulAdd(mulAdd(high, f2, middle), f2, low);
  return i32x4.add(p, i32x4.shl(n, 23));
}

/** scale / (1 + e^−x); `scale` a power of two, so that the factor costs no rounding. */
// @ts-ignore: decorator
@inline
export function scaledSigmoid(x: v128, scale: f32): v128 {
  const e = exp2Clamped(f32x4.mul(x, splat(-1.44269504088896341)));
  return f32x4.div(splat(scale), f32x4.add(e, splat(1.0)));
}

/**
 * e^x, |relative error| < 1e-7 for −87 ≤ x ≤ 88, clamped outside; the argument is reduced by ln 2 in two parts.
 */
// @ts-ignore: decorator
@inline
export function exp(x: v128): v128 {
  x = f32x4.pmin(f32x4.pmax(x, splat(-87.0)), splat(88.0));
  const shifted = f32x4.add(f32x4.mul(x, splat(1.44269504088896341)), splat(MAGIC));
  const n = f32x4.sub(shifted, splat(MAGIC));
  let r = f32x4.sub(x, f32x4.mul(n, splat(0.693359375)));
  r = f32x4.sub(r, f32x4.mul(n, splat(-2.12194440e-4)));
  let p = splat(1.9875691500e-4);
  p = mulAdd(p, r, splat(1.3981999507e-3));
  p = mulAdd(p, r, splat(8.3334519073e-3));
  p = mulAdd(p, r, splat(4.1665795894e-2));
  p = mulAdd(p, r, splat(1.6666665459e-1));
  p = mulAdd(p, r, splat(5.0000001201e-1));
  p = mulAdd(p, f32x4.mul(r, r), r);
  p = f32x4.add(p, splat(1.0));
  return i32x4.add(p, i32x4.shl(shifted, 23));
}

/** Natural logarithm of normal, positive x; relative error about 1e-7. */
// @ts-ignore: decorator
@inline
export function log(x: v128): v128 {
  // x = m·2^e with √½ ≤ m < √2, by a shift that lets the exponent field roll over at √½.
  const bits = i32x4.sub(x, i32x4.splat(0x3f3504f3));
  const e = f32x4.convert_i32x4_s(i32x4.shr_s(bits, 23));
  const m = i32x4.add(v128.and(bits, i32x4.splat(0x007fffff)), i32x4.splat(0x3f3504f3));
  const r = f32x4.sub(m, splat(1.0));
  const z = f32x4.mul(r, r);
  let p = splat(7.0376836292e-2);
  p = mulAdd(p, r, splat(-1.1514610310e-1));
  p = mulAdd(p, r, splat(1.1676998740e-1));
  p = mulAdd(p, r, splat(-1.2420140846e-1));
  p = mulAdd(p, r, splat(1.4249322787e-1));
  p = mulAdd(p, r, splat(-1.6668057665e-1));
  p = mulAdd(p, r, splat(2.0000714765e-1));
  p = mulAdd(p, r, splat(-2.4999993993e-1));
  p = mulAdd(p, r, splat(3.3333331174e-1));
  let y = f32x4.mul(f32x4.mul(p, r), z);
  y = mulAdd(e, splat(-2.12194440e-4), y);
  y = f32x4.sub(y, f32x4.mul(z, splat(0.5)));
  y = f32x4.add(r, y);
  y = mulAdd(e, splat(0.693359375), y);
  // A NaN has no exponent to take out; hand it on.
  return select(x, y, f32x4.ne(x, x));
}

/** tanh x: an odd polynomial for |x| < 0.625, else 1 − 2 / (e^2|x| + 1) with the sign of x. */
// @ts-ignore: decorator
@inline
export function tanh(x: v128): v128 {
  const sign = v128.and(x, i32x4.splat(0x80000000));
  const magnitude = v128.xor(x, sign);
  const z = f32x4.mul(x, x);
  let p = splat(-5.70498872745e-3);
  p = mulAdd(p, z, splat(2.06390887954e-2));
  p = mulAdd(p, z, splat(-5.37397155531e-2));
  p = mulAdd(p, z, splat(1.33314422036e-1));
  p = mulAdd(p, z, splat(-3.33332819422e-1));
  const small = mulAdd(f32x4.mul(p, z), x, x);
  const e = exp(f32x4.add(magnitude, magnitude));
  const large = f32x4.sub(splat(1.0), f32x4.div(splat(2.0), f32x4.add(e, splat(1.0))));
  // NaN is not less than 0.625, and e is NaN then.
  return select(small, v128.or(large, sign), f32x4.lt(magnitude, splat(0.625)));
}

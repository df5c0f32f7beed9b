/**
 * Activations f with their derivatives f′, written in terms of a = f(z) so that z need not be kept.
 *
 * The codes are the places in `ACTIVATIONS` of src/model/lenet.ts. They reach these functions as constants, one
 * specialised loop each.
 */
import { scaledSigmoid, tanh } from './math';

export const SIGMOID: i32 = 0;
export const TANH: i32 = 1;
export const RELU: i32 = 2;
export const LINEAR: i32 = 3;

// @ts-ignore: decorator
@inline
export function activate(kind: i32, z: v128): v128 {
  if (kind == SIGMOID) return scaledSigmoid(z, 1.0);
  if (kind == TANH) return tanh(z);
  if (kind == RELU) return f32x4.pmax(z, f32x4.splat(0.0));
  return z;
}

/** f′ from a = f(z). */
// @ts-ignore: decorator
@inline
export function derivative(kind: i32, a: v128): v128 {
  const one = f32x4.splat(1.0);
  if (kind == SIGMOID) return f32x4.mul(a, f32x4.sub(one, a));
  if (kind == TANH) return f32x4.sub(one, f32x4.mul(a, a));
  if (kind == RELU) return v128.and(f32x4.gt(a, f32x4.splat(0.0)), one);
  return one;
}

/** The product that both of Winograd's kernels spend their time in. */
import { mulAdd } from './math';

/** Two rows of sums of products, four columns: x[k][0 … 3] · w[k][0 … 1], k from x to xEnd, two k at least. */
// @ts-ignore: decorator
@inline
export function product2x4(x: usize, xEnd: usize, xPitch: usize, w: usize, out0: usize, out1: usize): void {
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

/** Vectors of float32, element by element: sums of gradients, and the optimizers' updates of θ. */
import { mulAdd, sumLanes } from './math';

/** sum ← sum + term, (count,) each. */
export function add(sum: usize, term: usize, count: i32): void {
  const end = sum + ((<usize>count) << 2);
  for (; sum + 16 <= end; sum += 16) {
    v128.store(sum, f32x4.add(v128.load(sum), v128.load(term)));
    term += 16;
  }
  for (; sum < end; sum += 4) {
    store<f32>(sum, load<f32>(sum) + load<f32>(term));
    term += 4;
  }
}

/** 0 if every value is finite, else NaN: Σ 0·x. */
export function poison(x: usize, count: i32): f32 {
  const zero = f32x4.splat(0.0);
  let a = zero;
  let b = zero;
  let c = zero;
  let d = zero;
  const end = x + (<usize>count << 2);
  for (; x + 64 <= end; x += 64) {
    a = mulAdd(v128.load(x), zero, a);
    b = mulAdd(v128.load(x, 16), zero, b);
    c = mulAdd(v128.load(x, 32), zero, c);
    d = mulAdd(v128.load(x, 48), zero, d);
  }
  let sum = sumLanes(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)));
  for (; x < end; x += 4) sum += load<f32>(x) * 0;
  return sum;
}

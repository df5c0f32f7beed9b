/** Vectors of float32, element by element: sums of gradients, and the optimizers' updates of θ. */

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
  let sum: f32 = 0;
  let lanes = f32x4.splat(0.0);
  const end = x + ((<usize>count) << 2);
  for (; x + 16 <= end; x += 16) {
    lanes = f32x4.add(lanes, f32x4.mul(v128.load(x), f32x4.splat(0.0)));
  }
  for (; x < end; x += 4) sum += load<f32>(x) * 0;
  // Signs of zero cancel to +0.
  return (
    f32x4.extract_lane(lanes, 0) +
    f32x4.extract_lane(lanes, 1) +
    (f32x4.extract_lane(lanes, 2) + f32x4.extract_lane(lanes, 3)) +
    sum
  );
}

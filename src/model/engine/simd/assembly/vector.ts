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

/** x ← x / divisor, (count,) */
export function divide(x: usize, divisor: f32, count: i32): void {
  const end = x + (<usize>count << 2);
  const d = f32x4.splat(divisor);
  for (; x + 16 <= end; x += 16) v128.store(x, f32x4.div(v128.load(x), d));
  for (; x < end; x += 4) store<f32>(x, load<f32>(x) / divisor);
}

/** θ ← decay·θ − rate·g: `sgd` of ../optimizer.ts, bit for bit, as are the next two. */
export function sgd(params: usize, gradient: usize, rate: f32, decay: f32, count: i32): void {
  const end = params + (<usize>count << 2);
  for (; params + 16 <= end; params += 16) {
    const p = f32x4.mul(f32x4.splat(decay), v128.load(params));
    v128.store(params, f32x4.sub(p, f32x4.mul(f32x4.splat(rate), v128.load(gradient))));
    gradient += 16;
  }
  for (; params < end; params += 4) {
    store<f32>(params, decay * load<f32>(params) - rate * load<f32>(gradient));
    gradient += 4;
  }
}

/** v ← momentum·v + g;  θ ← decay·θ − rate·v */
export function momentum(
  params: usize,
  velocity: usize,
  gradient: usize,
  momentum: f32,
  rate: f32,
  decay: f32,
  count: i32,
): void {
  const end = params + (<usize>count << 2);
  for (; params + 16 <= end; params += 16) {
    const kept = f32x4.mul(f32x4.splat(momentum), v128.load(velocity));
    const v = f32x4.add(kept, v128.load(gradient));
    v128.store(velocity, v);
    const p = f32x4.mul(f32x4.splat(decay), v128.load(params));
    v128.store(params, f32x4.sub(p, f32x4.mul(f32x4.splat(rate), v)));
    velocity += 16;
    gradient += 16;
  }
  for (; params < end; params += 4) {
    const v = momentum * load<f32>(velocity) + load<f32>(gradient);
    store<f32>(velocity, v);
    store<f32>(params, decay * load<f32>(params) - rate * v);
    velocity += 4;
    gradient += 4;
  }
}

/** m ← beta1·m + rest1·g;  v ← beta2·v + rest2·(g·g);  θ ← decay·θ − (rate·m) / (scale·√v + epsilon) */
export function adam(
  params: usize,
  mean: usize,
  meanSquare: usize,
  gradient: usize,
  beta1: f32,
  rest1: f32,
  beta2: f32,
  rest2: f32,
  rate: f32,
  scale: f32,
  epsilon: f32,
  decay: f32,
  count: i32,
): void {
  const end = params + (<usize>count << 2);
  for (; params + 16 <= end; params += 16) {
    const g = v128.load(gradient);
    const keptMean = f32x4.mul(f32x4.splat(beta1), v128.load(mean));
    const m = f32x4.add(keptMean, f32x4.mul(f32x4.splat(rest1), g));
    const keptSquare = f32x4.mul(f32x4.splat(beta2), v128.load(meanSquare));
    const v = f32x4.add(keptSquare, f32x4.mul(f32x4.splat(rest2), f32x4.mul(g, g)));
    v128.store(mean, m);
    v128.store(meanSquare, v);
    const scaledRoot = f32x4.mul(f32x4.splat(scale), f32x4.sqrt(v));
    const root = f32x4.add(scaledRoot, f32x4.splat(epsilon));
    const step = f32x4.div(f32x4.mul(f32x4.splat(rate), m), root);
    v128.store(params, f32x4.sub(f32x4.mul(f32x4.splat(decay), v128.load(params)), step));
    mean += 16;
    meanSquare += 16;
    gradient += 16;
  }
  for (; params < end; params += 4) {
    const g = load<f32>(gradient);
    const m = beta1 * load<f32>(mean) + rest1 * g;
    const v = beta2 * load<f32>(meanSquare) + rest2 * (g * g);
    store<f32>(mean, m);
    store<f32>(meanSquare, v);
    const step = (rate * m) / (scale * sqrt<f32>(v) + epsilon);
    store<f32>(params, decay * load<f32>(params) - step);
    mean += 4;
    meanSquare += 4;
    gradient += 4;
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

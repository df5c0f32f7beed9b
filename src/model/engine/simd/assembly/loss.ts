/**
 * Softmax, cross-entropy and what the logits say.
 *
 *   loss = log Σ_k e^(z_k − max) − (z_label − max),   dz_k = p_k − [k = label],   p = softmax(z)
 *
 * Every exponent is ≤ 0, so no finite logits overflow.
 */
import { exp, log, select } from './math';

/**
 * Logits to probabilities, in place; per image the loss and the class of the largest logit, the first of equal ones.
 *
 * @param logits (numClasses, numGroups) v128, overwritten with p
 * @param labels (4·numGroups,) i32
 * @param losses (4·numGroups,) float32
 * @param predictions (4·numGroups,) i32
 */
export function softmax(
  logits: usize,
  numClasses: i32,
  numGroups: i32,
  labels: usize,
  losses: usize,
  predictions: usize,
): void {
  const pitch = (<usize>numGroups) << 4;
  const end = <usize>numClasses * pitch;
  for (let g: usize = 0; g < pitch; g += 16) {
    const z = logits + g;
    const label = v128.load(labels + g);
    let largest = v128.load(z);
    let prediction = i32x4.splat(0);
    let labelLogit = largest;
    let k = 1;
    for (let p = pitch; p < end; p += pitch) {
      const logit = v128.load(z + p);
      const isLarger = f32x4.gt(logit, largest);
      largest = select(logit, largest, isLarger);
      prediction = select(i32x4.splat(k), prediction, isLarger);
      labelLogit = select(logit, labelLogit, i32x4.eq(label, i32x4.splat(k)));
      k++;
    }
    v128.store(predictions + g, prediction);
    let sum = f32x4.splat(0.0);
    for (let p: usize = 0; p < end; p += pitch) {
      const e = exp(f32x4.sub(v128.load(z + p), largest));
      v128.store(z + p, e);
      sum = f32x4.add(sum, e);
    }
    v128.store(losses + g, f32x4.sub(log(sum), f32x4.sub(labelLogit, largest)));
    for (let p: usize = 0; p < end; p += pitch) {
      v128.store(z + p, f32x4.div(v128.load(z + p), sum));
    }
  }
}

/**
 * dz ← p − onehot(label), zero for images from `numImages` on.
 *
 * @param p (numClasses, numGroups) v128, overwritten with dz
 */
export function lossBackward(
  p: usize,
  numClasses: i32,
  numGroups: i32,
  labels: usize,
  numImages: i32,
): void {
  const one = f32x4.splat(1.0);
  for (let k = 0; k < numClasses; k++) {
    for (let g = 0; g < numGroups; g++) {
      const label = v128.load(labels + ((<usize>g) << 4));
      const images = i32x4.add(i32x4.splat(4 * g), i32x4(0, 1, 2, 3));
      const isReal = i32x4.lt_s(images, i32x4.splat(numImages));
      const hot = v128.and(i32x4.eq(label, i32x4.splat(k)), one);
      v128.store(p, v128.and(f32x4.sub(v128.load(p), hot), isReal));
      p += 16;
    }
  }
}

/**
 * Cross-entropy, its gradient, and the classes that logits mean, in tfjs operations.
 *
 * Labels are (N, 1) classes as float32; one that is no class marks an image that only fills the batch up.
 */
import type * as Core from '@tensorflow/tfjs-core';
import type { Tfjs } from './network.js';

/** (N, numClasses); a row of zeros for an image without label. */
function oneHot(tf: Tfjs, labels: Core.Tensor2D, numClasses: number): Core.Tensor2D {
  return tf.cast(tf.equal(labels, classRow(tf, numClasses)), 'float32');
}

/** (N, numClasses) the share of each class in each label, 1 in all; a row of zeros for an image without label. */
export function targetOf(
  tf: Tfjs,
  labels: Core.Tensor2D,
  numClasses: number,
  labelSmoothing: number,
): Core.Tensor2D {
  const hot = oneHot(tf, labels, numClasses);
  if (labelSmoothing === 0) return hot;
  const isImage = tf.sum(hot, 1, true);
  return tf.add(tf.mul(hot, 1 - labelSmoothing), tf.mul(isImage, labelSmoothing / numClasses));
}

/** Σ −target · log softmax(logits). Scalar. */
export function lossSum(tf: Tfjs, logits: Core.Tensor2D, target: Core.Tensor2D): Core.Scalar {
  return tf.neg(tf.sum(tf.mul(target, tf.logSoftmax(logits))));
}

/** ∂ loss / ∂ logits = softmax − target; nothing comes from the images that only fill up. */
export function lossGradient(tf: Tfjs, logits: Core.Tensor2D, target: Core.Tensor2D): Core.Tensor {
  return tf.mul(tf.sub(tf.softmax(logits), target), tf.sum(target, 1, true));
}

/** (1,) images whose largest logit is that of their label. */
export function countCorrect(
  tf: Tfjs,
  logits: Core.Tensor2D,
  labels: Core.Tensor2D,
): Core.Tensor1D {
  const isCorrect = tf.equal(firstOfLargest(tf, logits), labels);
  return tf.reshape(tf.sum(tf.cast(isCorrect, 'float32')), [1]);
}

/**
 * (N, 1) the first class whose logit is the largest. `argMax` leaves it to the backend which of equal ones it takes.
 */
export function firstOfLargest(tf: Tfjs, logits: Core.Tensor2D): Core.Tensor2D {
  const numClasses = logits.shape[1];
  const isLargest = tf.equal(logits, tf.max(logits, 1, true));
  const classes = tf.where(isLargest, classRow(tf, numClasses), tf.fill([1, 1], numClasses - 1));
  return tf.min(classes, 1, true);
}

/** (1, numClasses) the classes 0 … numClasses − 1. */
function classRow(tf: Tfjs, numClasses: number): Core.Tensor2D {
  return tf.reshape(tf.range(0, numClasses), [1, numClasses]);
}

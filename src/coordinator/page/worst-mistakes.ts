/** The most confident mistakes of an evaluation: they tell the most about data and model. */
import type { MaybePromise } from '../../model/engine/engine.js';
import type { EvaluationDetail } from './history.js';
import type { Mistake, Mistakes } from './update.js';

/** Mistakes examined; an untrained model makes thousands. */
const MAX_EXAMINED = 256;
const NUM_WORST = 24;
/** For all pictures together, since every page gets them after each evaluation. */
const MAX_PICTURES_BYTES = 2 ** 20;

/** Class probabilities (numClasses,) of an image (C, H, W), with the current weights. */
export type Predict = (image: Uint8Array) => MaybePromise<Float32Array>;

/**
 * The mistakes that the current weights still make, most confident first. Yields after each image, so that no step is held
 * up.
 *
 * @param rest yields to whatever else is waiting
 * @returns null if the signal aborted
 */
export async function findWorstMistakes(
  { globalStep, images, labels, predictions }: EvaluationDetail,
  predict: Predict,
  rest: () => Promise<void>,
  signal: AbortSignal,
): Promise<Mistakes | null> {
  const numBytes = images.length / labels.length;
  const wrong: number[] = [];
  labels.forEach((label, index) => {
    if (label !== predictions[index]) wrong.push(index);
  });
  const found: (Omit<Mistake, 'image'> & { readonly pixels: Uint8Array })[] = [];
  // Evenly spread over the set if there are too many.
  const stride = Math.max(1, wrong.length / MAX_EXAMINED);
  for (let at = 0; at < wrong.length; at += stride) {
    const index = wrong[Math.floor(at)];
    const pixels = images.subarray(index * numBytes, (index + 1) * numBytes);
    const probabilities = await predict(pixels);
    await rest();
    if (signal.aborted) return null;
    const confidence = Math.max(...probabilities);
    const predicted = probabilities.indexOf(confidence);
    const label = labels[index];
    if (predicted !== label) found.push({ index, label, predicted, confidence, pixels });
  }
  found.sort((a, b) => b.confidence - a.confidence || a.index - b.index);
  const worst = found.slice(0, NUM_WORST).map(({ pixels, ...mistake }, at) => ({
    ...mistake,
    image:
      (at + 1) * numBytes <= MAX_PICTURES_BYTES ? Buffer.from(pixels).toString('base64') : null,
  }));
  return { globalStep, numMistakes: wrong.length, worst };
}

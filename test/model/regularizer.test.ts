/** Dropout's masks and the smoothed loss; augmentation has data/augment.test.ts. */
import { describe, expect, it, test } from 'vitest';
import { buildModel, LENET5 } from '../../src/model/lenet.js';
import { proveEngine, createProofJudge } from '../../src/model/engine/proof.js';
import { createReferenceEngine } from '../../src/model/engine/reference.js';
import { createSimdEngine } from '../../src/model/engine/simd/node.js';
import { NO_REGULARIZATION, Regularizer } from '../../src/model/regularizer.js';
import type { Regularization } from '../../src/shared/config.js';

const model = buildModel(LENET5);
const NUM_HIDDEN = 204;

function masksOf(samples: readonly number[], epoch: number, change: Partial<Regularization> = {}) {
  const regularizer = new Regularizer(model, { ...NO_REGULARIZATION, dropout: 0.5, ...change });
  const batch = {
    images: new Uint8Array(784 * samples.length),
    labels: new Uint16Array(samples.length),
  };
  const { masks } = regularizer.apply(batch, Uint32Array.from(samples), epoch).loss!;
  return samples.map((_, i) => masks!.slice(i * NUM_HIDDEN, (i + 1) * NUM_HIDDEN).join());
}

describe('the masks of dropout', () => {
  it('go by seed, epoch and sample, whatever else is in the batch', () => {
    const whole = masksOf([0, 1, 2, 3], 7);
    expect(new Set(whole).size).toBe(4);
    expect(masksOf([3, 1], 7)).toEqual([whole[3], whole[1]]);
    expect(masksOf([2], 8)[0]).not.toBe(whole[2]);
    expect(masksOf([2], 7, { seed: 1 })[0]).not.toBe(whole[2]);
    // Augmentation draws other numbers.
    expect(masksOf([2], 7, { augment: ['shift', 'noise'] })[0]).toBe(whole[2]);
  });

  it.each([0.01, 0.2, 0.5, 0.99])('drop %d of the units, and leave the sum as it is', (dropout) => {
    const samples = Array.from({ length: 300 }, (_, i) => i);
    const factors = masksOf(samples, 0, { dropout }).flatMap((mask) => mask.split(',').map(Number));
    expect(new Set(factors)).toEqual(new Set([0, Math.fround(1 / (1 - dropout))]));
    const share = factors.filter((factor) => factor === 0).length / factors.length;
    expect(Math.abs(share - dropout)).toBeLessThan(0.01);
  });
});

test('a run without any of it leaves the batch as it is', () => {
  const batch = { images: new Uint8Array(784), labels: new Uint16Array(1) };
  const regularizer = new Regularizer(model, NO_REGULARIZATION);
  expect(regularizer.apply(batch, Uint32Array.of(5), 3)).toBe(batch);
});

test.each<[string, Partial<Regularization>]>([
  ['augmentation', { augment: ['shift=9'] }],
  ['dropout', { dropout: 0.3 }],
  ['label smoothing', { labelSmoothing: 0.2 }],
])('a worker that leaves out %s does not pass the proof', (_, change) => {
  const regularizer = new Regularizer(model, { ...NO_REGULARIZATION, ...change });
  const simd = createSimdEngine(model);
  const judge = createProofJudge(
    createSimdEngine(model),
    createReferenceEngine(model),
    regularizer,
  );
  const proofBy = (by: Regularizer) => ({
    fingerprint: simd.fingerprint,
    gradient: proveEngine(simd, 5, by) as Float32Array,
  });
  expect(judge(proofBy(regularizer), 5)).toEqual({ isAccepted: true, isExact: true });
  const without = new Regularizer(model, NO_REGULARIZATION);
  expect(judge(proofBy(without), 5)).toMatchObject({ isAccepted: false });
});

import { expect, test } from 'vitest';
import type { Engine } from '../../../src/model/engine/engine.js';
import { buildModel, LENET5, type Model } from '../../../src/model/lenet.js';
import {
  createProofJudge,
  judgeProof,
  proofTask,
  proveEngine,
} from '../../../src/model/engine/proof.js';
import { createReferenceEngine } from '../../../src/model/engine/reference.js';
import { createSimdEngine } from '../../../src/model/engine/simd/node.js';

const model = buildModel(LENET5);
const reference = createReferenceEngine(model);
const SEED = 7;

function prove(engine: Engine, seed = SEED): Float32Array {
  const gradient = proveEngine(engine, seed);
  if (gradient instanceof Promise) throw new TypeError('expected a gradient at once');
  return gradient;
}

test('proofTask() is a function of model and seed', () => {
  expect(proofTask(model, SEED)).toEqual(proofTask(model, SEED));
  const [a, b] = [proofTask(model, SEED), proofTask(model, SEED + 1)];
  for (const part of ['params', 'images', 'labels'] as const) expect(a[part]).not.toEqual(b[part]);
});

test('proofTask() leaves no parameter tensor at zero', () => {
  const { params } = proofTask(model, SEED);
  for (const layer of model.layers) {
    if (layer.kind === 'pool') continue;
    const { offset, length } = layer.biases;
    expect(params.subarray(offset, offset + length).every((value) => value !== 0)).toBe(true);
  }
});

test('judge: the simd engine is exact', () => {
  const simd = createSimdEngine(model);
  const judge = createProofJudge(createSimdEngine(model), reference);
  const proof = { fingerprint: simd.fingerprint, gradient: prove(simd) };
  expect(judge(proof, SEED)).toEqual({ isAccepted: true, isExact: true });
});

test('judge: a proof fits its seed alone', () => {
  const simd = createSimdEngine(model);
  const judge = createProofJudge(createSimdEngine(model), reference);
  const proof = { fingerprint: simd.fingerprint, gradient: prove(simd) };
  expect(judge(proof, SEED + 1)).toMatchObject({ isAccepted: false });
});

test('judge: an engine that computes later cannot judge', () => {
  const late: Engine = {
    ...reference,
    gradient: () => Promise.resolve({ lossSum: 0, numCorrect: 0 }),
  };
  expect(() => createProofJudge(late, reference)).toThrow(TypeError);
});

const right = prove(reference);
const exact = { fingerprint: 'simd/1', gradient: right };

test('judgeProof() takes equal bits under another fingerprint for approximate', () => {
  const proof = { fingerprint: 'simd/2', gradient: right.slice() };
  expect(judgeProof(model, proof, exact, () => right)).toEqual({
    isAccepted: true,
    isExact: false,
  });
});

test('judgeProof() takes one other bit within the tolerance for approximate', () => {
  const gradient = right.slice();
  gradient[1000] *= 1 + 2 ** -23;
  const proof = { fingerprint: 'simd/1', gradient };
  expect(judgeProof(model, proof, exact, () => right)).toEqual({
    isAccepted: true,
    isExact: false,
  });
});

test('judgeProof() does without the reference where the bits are equal', () => {
  const reference = () => {
    throw new Error('not needed');
  };
  const verdict = judgeProof(model, { ...exact, gradient: right.slice() }, exact, reference);
  expect(verdict).toEqual({ isAccepted: true, isExact: true });
});

test.each([
  {
    what: 'one small tensor is off',
    change: (g: Float32Array) => (g[150] *= 1.01),
    tensor: 'C1 biases',
  },
  {
    what: 'a value is NaN',
    change: (g: Float32Array) => (g[61_700] = NaN),
    tensor: 'Output biases',
  },
  {
    what: 'a value is infinite',
    change: (g: Float32Array) => (g[0] = Infinity),
    tensor: 'C1 weights',
  },
])('judgeProof() refuses where $what', ({ change, tensor }) => {
  const gradient = right.slice();
  change(gradient);
  const verdict = judgeProof(model, { fingerprint: 'webgpu/1', gradient }, exact, () => right);
  expect(verdict).toMatchObject({
    isAccepted: false,
    message: expect.stringContaining(`of webgpu/1 is wrong: ${tensor} is`) as string,
  });
});

test('judgeProof() refuses zeros, and the mean in place of the sum', () => {
  for (const gradient of [new Float32Array(model.numParams), right.map((value) => value / 5)]) {
    const verdict = judgeProof(model, { fingerprint: 'webgpu/1', gradient }, exact, () => right);
    expect(verdict.isAccepted).toBe(false);
  }
});

test('judgeProof() refuses another length', () => {
  const proof = { fingerprint: 'simd/1', gradient: new Float32Array(3) };
  expect(judgeProof(model, proof, exact, () => right)).toEqual({
    isAccepted: false,
    message: 'The proof of simd/1 has 3 values, expected 61706',
  });
});

/** `simd` with the fault that it once had: the first convolution gets no gradient. */
function withoutFirstGradient(of: Model): Engine {
  const simd = createSimdEngine(of);
  const first = of.layers[0];
  if (first.kind !== 'conv') throw new TypeError('expected a convolution');
  const honest = simd.gradient.bind(simd);
  simd.gradient = (images, labels, out) => {
    const sums = honest(images, labels, out);
    out.fill(0, first.weights.offset, first.weights.offset + first.weights.length);
    return sums;
  };
  return simd;
}

test.each(['sigmoid', 'relu'] as const)(
  'judge: names the tensor in which the own engine is wrong, with %s, before a worker may share the fault',
  (activation) => {
    const faulty = buildModel({ ...LENET5, channels: [1, 8], padding: 0, activation });
    const own = createReferenceEngine(faulty);
    expect(() => createProofJudge(withoutFirstGradient(faulty), own)).toThrow(
      /^Cannot train this model: the gradient of simd\/1 is wrong on this machine, C1 weights is 1.0e\+0 away/,
    );
    expect(() => createProofJudge(createSimdEngine(faulty), own)).not.toThrow();
  },
);

/**
 * What the engine suite does not ask: leaks, stable sizes, chunks, and the thread. Over each tfjs backend that is here.
 */
import { describe, expect, test } from 'vitest';
import { startEngineThread } from '../../../../src/model/engine/tfjs/thread.js';
import { ACTIVATIONS, buildModel, LENET5 } from '../../../../src/model/lenet.js';
import {
  createProofJudge,
  largestDistance,
  proofTask,
  proveEngine,
  relativeDistance,
} from '../../../../src/model/engine/proof.js';
import { createReferenceEngine } from '../../../../src/model/engine/reference.js';
import { createSimdEngine } from '../../../../src/model/engine/simd/node.js';
import { paddedSize } from '../../../../src/model/engine/tfjs/engine.js';
import { createRandom } from '../../../../src/shared/random.js';
import { hashedParams } from '../../../support/tensors.js';
import { createOn, tfjsBackends, type TfjsBackend } from '../../../support/tfjs.js';
import { IMAGE_BYTES } from '../../../support/mnist.js';

const SMALL = { ...LENET5, channels: [1], stride: 3, hidden: [] };
const NEW_PROCESSES_MS = 60_000;

function noise(numImages: number): { images: Uint8Array; labels: Uint16Array } {
  const random = createRandom(1, 'noise');
  return {
    images: Uint8Array.from({ length: numImages * IMAGE_BYTES }, () => random.below(256)),
    labels: Uint16Array.from({ length: numImages }, () => random.below(10)),
  };
}

describe.each(tfjsBackends)('tfjs engine on $name', (backend) => {
  test(
    'holds as many tensors and bytes after 1,000 steps as after 10',
    async () => {
      const tf = await backend.load();
      const model = buildModel(SMALL);
      const engine = await createOn(backend, model);
      const { images, labels } = noise(1);
      const out = engine.allocateGradient();
      const params = hashedParams(model, 1);
      const memoryAfter = async (numSteps: number) => {
        for (let step = 0; step < numSteps; step++) {
          engine.setParams(params);
          await engine.gradient(images, labels, out);
        }
        const { numTensors, numBytes, numDataBuffers } = tf.memory();
        return { numTensors, numBytes, numDataBuffers };
      };
      const after10 = await memoryAfter(10);
      const after1000 = await memoryAfter(990);
      expect(after1000).toEqual(after10);
      // θ in its four parts and nothing else.
      expect(after10).toEqual({ numTensors: 4, numBytes: 4 * model.numParams, numDataBuffers: 4 });
      await engine.evaluate(images, labels);
      await engine.predict(images);
      expect(tf.memory().numTensors).toBe(4);
      await engine.dispose();
      expect(tf.memory().numTensors).toBe(0);
    },
    10 * NEW_PROCESSES_MS,
  );

  // The project's figure for float32: 1e-5 for all parameters together.
  test.each(ACTIVATIONS)(
    'gradient() of LeNet-5 with %s is close to the reference',
    async (activation) => {
      const model = buildModel({ ...LENET5, activation });
      const engine = await createOn(backend, model);
      const gradient = await proveEngine(engine, 3);
      const expected = await proveEngine(createReferenceEngine(model), 3);
      expect(relativeDistance(gradient, expected)).toBeLessThan(1e-5);
      expect(largestDistance(model, gradient, expected).distance).toBeLessThan(1e-5);
      await engine.dispose();
    },
  );

  test('images that fill the batch up change nothing', async () => {
    const model = buildModel(SMALL);
    const params = hashedParams(model, 1);
    const { images, labels } = noise(33);
    expect(paddedSize(33)).toBe(36);
    const engine = await createOn(backend, model);
    const reference = createReferenceEngine(model);
    engine.setParams(params);
    reference.setParams(params);
    const gradient = engine.allocateGradient();
    const expected = reference.allocateGradient();
    const sums = await engine.gradient(images, labels, gradient);
    const expectedSums = await reference.gradient(images, labels, expected);
    expect(gradient).toAgreePerTensor(model, expected, 1e-5);
    expect(sums.numCorrect).toBe(expectedSums.numCorrect);
    expect(sums.lossSum / expectedSums.lossSum).toBeCloseTo(1, 5);
    await engine.dispose();
  });
});

test('tfjs engine adds the gradients of chunks that are too large for one call', async () => {
  const [cpu] = tfjsBackends;
  // One more than the largest chunk; a small model, as this is about the sums.
  const model = buildModel({
    ...LENET5,
    kernelSize: 1,
    padding: 0,
    channels: [1],
    hidden: [],
    stride: 14,
  });
  const { images, labels } = noise(4097);
  const params = hashedParams(model, 1);
  const engine = await createOn(cpu, model);
  const reference = createReferenceEngine(model);
  engine.setParams(params);
  reference.setParams(params);
  const gradient = engine.allocateGradient();
  const expected = reference.allocateGradient();
  const { numCorrect } = await engine.gradient(images, labels, gradient);
  expect(numCorrect).toBe((await reference.gradient(images, labels, expected)).numCorrect);
  expect(gradient).toAgreePerTensor(model, expected, 1e-5);
  const { predictions } = await engine.evaluate(images, labels);
  expect(predictions).toEqual((await reference.evaluate(images, labels)).predictions);
  await engine.dispose();
});

describe('paddedSize()', () => {
  test('wastes less than an eighth and takes eight sizes an octave', () => {
    const sizes = new Set<number>();
    for (let n = 1; n <= 4096; n++) {
      const size = paddedSize(n);
      expect(size).toBeGreaterThanOrEqual(n);
      expect(size).toBeLessThan(n * 1.125);
      sizes.add(size);
    }
    expect(sizes.size).toBe(16 + 8 * 8);
  });

  test.each([1, 8, 16, 64, 128, 512, 4096])('leaves %i as it is', (n) => {
    expect(paddedSize(n)).toBe(n);
  });
});

const threaded = tfjsBackends.filter(
  (backend): backend is TfjsBackend & { name: 'tensorflow' | 'webgpu' } => backend.name !== 'cpu',
);

describe.each(threaded)('engine thread with $name', ({ name }) => {
  const model = buildModel(LENET5);

  test(
    'proves itself and leaves the event loop free',
    async () => {
      const engine = await startEngineThread(name, model);
      const { params, images, labels } = proofTask(model, 3);
      const gradient = engine.allocateGradient();
      engine.setParams(params);
      const before = performance.eventLoopUtilization();
      await engine.gradient(images, labels, gradient);
      const { active } = performance.eventLoopUtilization(before);
      const judge = createProofJudge(createSimdEngine(model), createReferenceEngine(model));
      const verdict = judge({ fingerprint: engine.fingerprint, gradient }, 3);
      expect(verdict).toEqual({ isAccepted: true, isExact: false });
      // Milliseconds in which the loop could not have answered, all of them together.
      expect(active).toBeLessThan(250);
      await engine.dispose();
      await expect(engine.predict(noise(1).images)).rejects.toThrow(
        `The ${name} engine is disposed`,
      );
    },
    NEW_PROCESSES_MS,
  );
});

test('startEngineThread() says what to install', async ({ skip }) => {
  skip(
    tfjsBackends.some(({ name }) => name === 'tensorflow'),
    'TensorFlow is installed',
  );
  await expect(startEngineThread('tensorflow', buildModel(LENET5))).rejects.toThrow(
    /^The tensorflow engine is not available: .* installed.*; install it with: npm install --no-save/,
  );
});

test('WebGPU takes part in these tests', ({ skip }) => {
  skip(
    tfjsBackends.every(({ name }) => name !== 'webgpu'),
    'CI=1 takes the SwiftShader of Debian’s package chromium, LOCKSTEP_TEST_GPU=1 this machine’s GPU',
  );
});

/** The child process of probe.ts: opens one engine, measures it if asked, and reports. */
import { messageOf } from '../../../shared/errors.js';
import type { Engine, EngineName } from '../engine.js';
import type { AvailableEngine, Measurement, UnavailableEngine } from './probe.js';
import { imageBytes, LENET5, buildModel } from '../../lenet.js';
import { proveEngine, proofTask, relativeDistance } from '../proof.js';
import { createReferenceEngine } from '../reference.js';
import { EngineUnavailable, loadTfjsEngine } from './packages.js';

const PROOF_SEED = 1;
/** Each batch size is repeated for so long. */
const MEASURE_MS = 1_000;

const [name, device, task] = process.argv.slice(2) as [EngineName, string, string];

try {
  const { engine, ...facts } = await open(name, device === '' ? null : Number(device));
  const measurement = task === 'measure' ? await measure(engine, facts.isHardwareGpu) : null;
  report({ isAvailable: true, ...facts, device: engine.device, measurement });
} catch (error) {
  report(
    error instanceof EngineUnavailable
      ? { isAvailable: false, reason: error.reason, cure: error.cure, fix: error.fix }
      : { isAvailable: false, reason: messageOf(error), cure: 'see docs/gpu.md' },
  );
}

function report(answer: AvailableEngine | UnavailableEngine): void {
  process.send!(answer);
}

type Facts = Omit<AvailableEngine, 'isAvailable' | 'device' | 'measurement'>;

async function open(
  name: EngineName,
  device: number | null,
): Promise<Facts & { readonly engine: Engine }> {
  const model = buildModel(LENET5);
  switch (name) {
    case 'tensorflow':
    case 'webgpu': {
      const { engine, version, isHardwareGpu, memoryBytes } = await loadTfjsEngine(
        name,
        model,
        device,
      );
      return { engine, version, isHardwareGpu, memoryBytes };
    }
    case 'simd': {
      const { createSimdEngine } = await import('../simd/node.js');
      return ofCpu(createSimdEngine(model));
    }
    case 'reference':
      return ofCpu(createReferenceEngine(model));
  }
}

function ofCpu(engine: Engine): Facts & { readonly engine: Engine } {
  return { engine, version: engine.fingerprint, isHardwareGpu: false, memoryBytes: null };
}

async function measure(engine: Engine, isHardwareGpu: boolean): Promise<Measurement> {
  const gradient = await proveEngine(engine, PROOF_SEED);
  const expected = await proveEngine(createReferenceEngine(engine.model), PROOF_SEED);
  let best = { batchSize: 0, imagesPerSecond: 0 };
  for (const batchSize of batchSizes(engine, isHardwareGpu)) {
    const imagesPerSecond = await speedAt(engine, batchSize);
    if (imagesPerSecond > best.imagesPerSecond) best = { batchSize, imagesPerSecond };
  }
  return { distance: relativeDistance(gradient, expected), ...best };
}

/** A GPU wants many images; a CPU that imitates one takes seconds for a few. */
function batchSizes(engine: Engine, isHardwareGpu: boolean): readonly number[] {
  switch (engine.name) {
    case 'simd':
      return [64];
    case 'reference':
      return [4];
    case 'tensorflow':
      return isHardwareGpu ? [64, 512, 4096] : [64, 512];
    case 'webgpu':
      return isHardwareGpu ? [64, 512, 4096] : [4];
  }
}

/** Images a second of the gradient, after a first call in which shaders and memory are made. */
async function speedAt(engine: Engine, batchSize: number): Promise<number> {
  const known = proofTask(engine.model, PROOF_SEED);
  const images = new Uint8Array(batchSize * imageBytes(engine.model.input));
  for (let i = 0; i < images.length; i++) images[i] = known.images[i % known.images.length];
  const labels = Uint16Array.from(
    { length: batchSize },
    (_, i) => known.labels[i % known.labels.length],
  );
  const out = engine.allocateGradient();
  engine.setParams(known.params);
  await engine.gradient(images, labels, out);
  const start = performance.now();
  let numImages = 0;
  let elapsedMs = 0;
  do {
    await engine.gradient(images, labels, out);
    numImages += batchSize;
    elapsedMs = performance.now() - start;
  } while (elapsedMs < MEASURE_MS);
  return (numImages / elapsedMs) * 1000;
}

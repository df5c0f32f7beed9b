/**
 * Engines by name, and the choice of one for this machine. Each is loaded only when chosen: a worker on `simd` does not load
 * tfjs.
 */
import { UserError } from '../../shared/errors.js';
import type { Engine, EngineName } from './engine.js';
import type { Probe } from './tfjs/probe.js';
import type { Model } from '../lenet.js';

export interface EngineOptions {
  /** Which GPU, counted from 0; null or absent for the one that the driver prefers. */
  readonly device?: number | null;
}

/**
 * Opens an engine. `tensorflow` and `webgpu` compute on a separate thread and answer with promises.
 *
 * @throws {UserError} if the engine cannot be had here, with the cure
 */
export async function createEngine(
  name: EngineName,
  model: Model,
  options: EngineOptions = {},
): Promise<Engine> {
  switch (name) {
    case 'simd': {
      const { createSimdEngine } = await import('./simd/node.js');
      return createSimdEngine(model);
    }
    case 'reference': {
      const { createReferenceEngine } = await import('./reference.js');
      return createReferenceEngine(model);
    }
    case 'tensorflow':
    case 'webgpu': {
      const { startEngineThread } = await import('./tfjs/thread.js');
      return startEngineThread(name, model, options);
    }
  }
}

export interface LookOptions extends EngineOptions {
  /** Ends the look, which rejects with its reason then: a driver may take its time. */
  readonly signal?: AbortSignal;
}

/**
 * Looks whether this machine has an engine that was asked for by name, before anybody waits for it.
 *
 * @throws {UserError} if it has not, with the cure
 */
export async function checkEngine(name: EngineName, options: LookOptions = {}): Promise<void> {
  if (name === 'simd' || name === 'reference') return;
  const { probeEngine } = await import('./tfjs/probe.js');
  const probe = await probeEngine(name, options);
  options.signal?.throwIfAborted();
  if (probe.isAvailable) return;
  throw new UserError(`The ${name} engine is not available: ${probe.reason}; ${probe.cure}`);
}

export interface EngineChoice {
  readonly name: EngineName;
  /** For the log. */
  readonly reason: string;
  /** Why faster ones were not taken, one an engine. */
  readonly details: readonly string[];
}

/**
 * What `auto` is on this machine: a CUDA GPU that TensorFlow can use, else a GPU through WebGPU, else `simd`. Never a
 * GPU that a CPU imitates, and never TensorFlow on the CPU.
 *
 * @param request a name is taken as it is, without a look at the machine
 */
export async function selectEngine(
  request: EngineName | 'auto',
  options: LookOptions = {},
): Promise<EngineChoice> {
  if (request !== 'auto') return { name: request, reason: 'as asked', details: [] };
  const { probeEngine } = await import('./tfjs/probe.js');
  const tensorflow = await probeEngine('tensorflow', options);
  options.signal?.throwIfAborted();
  if (isHardwareGpu(tensorflow)) return chooseEngine(tensorflow, null);
  const webgpu = await probeEngine('webgpu', options);
  options.signal?.throwIfAborted();
  return chooseEngine(tensorflow, webgpu);
}

/** The choice of `auto`, from what was found; `webgpu` is null where it was not looked for. */
export function chooseEngine(tensorflow: Probe, webgpu: Probe | null): EngineChoice {
  if (isHardwareGpu(tensorflow)) {
    return { name: 'tensorflow', reason: `TensorFlow can use ${tensorflow.device}`, details: [] };
  }
  const details = [`tensorflow: ${whyNot(tensorflow)}`];
  if (webgpu !== null && isHardwareGpu(webgpu)) {
    return { name: 'webgpu', reason: `WebGPU can use ${webgpu.device}`, details };
  }
  if (webgpu !== null) details.push(`webgpu: ${whyNot(webgpu)}`);
  return { name: 'simd', reason: 'no GPU that an engine can use', details };
}

function whyNot(probe: Probe): string {
  return probe.isAvailable ? `only ${probe.device}` : probe.reason;
}

function isHardwareGpu(probe: Probe): probe is Probe & { readonly isAvailable: true } {
  return probe.isAvailable && probe.isHardwareGpu;
}

/**
 * Which engines this machine has, their speed and accuracy, what the others lack, and which one `auto` takes.
 *
 * Each engine is opened and measured in a separate process, one after the other, so that a broken driver cannot crash the
 * doctor and no measurement disturbs another.
 */
import { formatTable } from '../../shared/table.js';
import { ENGINE_NAMES, type EngineName } from './engine.js';
import { probeEngine, type Measurement, type Probe } from './tfjs/probe.js';
import { chooseEngine, type EngineChoice } from './engines.js';
import { listNvidiaGpus, type NvidiaGpu } from './tfjs/nvidia.js';
import { INSTALL_TENSORFLOW, commandLine, hasCudaBuild, type Command } from './tfjs/install.js';

export interface EngineDiagnosis {
  readonly name: EngineName;
  readonly isAvailable: boolean;
  /** Bits of the contract: true, false, or null where the engine is not available. */
  readonly isExact: boolean | null;
  readonly version: string | null;
  readonly device: string | null;
  readonly isHardwareGpu: boolean;
  readonly memoryBytes: number | null;
  readonly measurement: Measurement | null;
  /** What stands in the way, or is worth knowing. */
  readonly reason: string | null;
  readonly cure: string | null;
  /** What `doctor --fix` runs; empty where the cure is nothing that npm can do, or of no use on this machine. */
  readonly fix: readonly Command[];
}

export interface Diagnosis {
  readonly nodeVersion: string;
  readonly platform: string;
  readonly engines: readonly EngineDiagnosis[];
  readonly auto: EngineChoice;
}

/** About ten seconds; a minute where a CPU imitates a GPU. */
export async function diagnose(device: number | null = null): Promise<Diagnosis> {
  const gpus = await listNvidiaGpus();
  const engines: EngineDiagnosis[] = [];
  const probes = new Map<EngineName, Probe>();
  for (const name of ENGINE_NAMES) {
    const probe = await probeEngine(name, { device, shouldMeasure: true });
    probes.set(name, probe);
    engines.push(diagnoseEngine(name, probe, gpus));
  }
  return {
    nodeVersion: process.version,
    platform: `${process.platform} ${process.arch}`,
    engines,
    auto: chooseEngine(probes.get('tensorflow')!, probes.get('webgpu')!),
  };
}

/** What a probe means, with the cure that fits the machine. */
export function diagnoseEngine(
  name: EngineName,
  probe: Probe,
  gpus: readonly NvidiaGpu[],
  platform = `${process.platform} ${process.arch}`,
): EngineDiagnosis {
  const nothing = {
    name,
    isExact: null,
    version: null,
    device: null,
    isHardwareGpu: false,
    memoryBytes: null,
    measurement: null,
    fix: [],
  };
  if (!probe.isAvailable) {
    const { reason, cure, fix = [] } = probe;
    const isOfUse = name !== 'tensorflow' || (gpus.length > 0 && hasCudaBuild(platform));
    if (isOfUse) return { ...nothing, isAvailable: false, reason, cure, fix };
    return { ...nothing, isAvailable: false, reason, cure: uselessHere(gpus, platform, cure) };
  }
  const { version, device, isHardwareGpu, memoryBytes, measurement } = probe;
  return {
    ...nothing,
    isAvailable: true,
    isExact: name === 'simd',
    version,
    device,
    isHardwareGpu,
    memoryBytes,
    measurement,
    ...remark(name, probe, gpus, platform),
  };
}

/** Why this machine does better without TensorFlow. */
function uselessHere(gpus: readonly NvidiaGpu[], platform: string, cure: string): string {
  return hasCudaBuild(platform)
    ? `it is of use with an NVIDIA GPU only, and no driver of one answers (nvidia-smi); with one, ${cure}`
    : `on ${platform} its library is for the CPU; ${gpus.length > 0 ? 'take --engine webgpu' : 'simd is the engine for CPUs'}`;
}

interface Remark {
  readonly reason: string | null;
  readonly cure: string | null;
  readonly fix?: readonly Command[];
}

function remark(
  name: EngineName,
  probe: Probe & { readonly isAvailable: true },
  gpus: readonly NvidiaGpu[],
  platform: string,
): Remark {
  if (name === 'tensorflow' && !probe.isHardwareGpu) return tensorflowOnCpu(probe, gpus, platform);
  if (name === 'webgpu' && !probe.isHardwareGpu) {
    return {
      reason: `${probe.device} is no GPU but a CPU that imitates one`,
      cure: 'for a real GPU install its Vulkan driver, and see that VK_ICD_FILENAMES names no other',
    };
  }
  return { reason: null, cure: null };
}

function tensorflowOnCpu(
  { version, missingLibraries }: Probe & { readonly isAvailable: true },
  gpus: readonly NvidiaGpu[],
  platform: string,
): Remark {
  if (gpus.length === 0) {
    return {
      reason: 'TensorFlow computes on the CPU, as no NVIDIA driver answers (nvidia-smi)',
      cure: 'simd is the engine for CPUs; with an NVIDIA GPU, install its driver',
    };
  }
  if (process.env.CUDA_VISIBLE_DEVICES === '' || process.env.CUDA_VISIBLE_DEVICES === '-1') {
    return {
      reason: 'TensorFlow computes on the CPU, as CUDA_VISIBLE_DEVICES hides every GPU',
      cure: 'unset CUDA_VISIBLE_DEVICES',
    };
  }
  if (!hasCudaBuild(platform)) {
    return {
      reason: `TensorFlow (${version}) does not use ${gpus[0].name}: on ${platform} its library is for the CPU`,
      cure: 'take --engine webgpu',
    };
  }
  if (missingLibraries.length > 0) {
    return {
      reason: `TensorFlow (${version}) does not use ${gpus[0].name}: it misses ${missingLibraries.join(', ')}`,
      cure: 'install CUDA 11.2 or a later 11 with cuDNN 8, and put their folders into LD_LIBRARY_PATH; or take --engine webgpu',
    };
  }
  return {
    reason: `TensorFlow (${version}) does not use ${gpus[0].name}`,
    cure: `install the GPU package with: ${commandLine(INSTALL_TENSORFLOW)}; or take --engine webgpu`,
    fix: INSTALL_TENSORFLOW,
  };
}

const HEADERS = ['Engine', 'Device', 'Memory', 'Images/s', 'Batch', 'Distance', 'Bits', 'Version'];

/** A table, then a line on each engine that lacks something, then what `auto` takes. */
export function formatDiagnosis({ nodeVersion, platform, engines, auto }: Diagnosis): string {
  const rows = engines.map((engine) =>
    engine.isAvailable
      ? [
          engine.name,
          engine.device ?? '',
          formatMemory(engine.memoryBytes),
          formatSpeed(engine.measurement),
          String(engine.measurement?.batchSize ?? '–'),
          formatDistance(engine.measurement),
          engine.isExact ? 'exact' : engine.name === 'reference' ? 'reference' : 'approximate',
          engine.version ?? '',
        ]
      : [engine.name, 'not available', '–', '–', '–', '–', '–', '–'],
  );
  const remarks = engines
    .filter(({ reason }) => reason !== null)
    .map(({ name, reason, cure }) => `${name}: ${reason};\n  ${cure}`);
  return [
    `Node ${nodeVersion} on ${platform}`,
    '',
    ...formatTable([HEADERS, ...rows], (column) => column >= 2 && column <= 5),
    '',
    ...remarks,
    ...(remarks.length > 0 ? [''] : []),
    `--engine auto takes ${auto.name}: ${auto.reason}`,
  ].join('\n');
}

function formatMemory(bytes: number | null): string {
  return bytes === null ? '–' : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function formatSpeed(measurement: Measurement | null): string {
  if (measurement === null) return '–';
  const { imagesPerSecond } = measurement;
  return imagesPerSecond < 100
    ? imagesPerSecond.toPrecision(2)
    : Math.round(imagesPerSecond).toLocaleString('en-US');
}

function formatDistance(measurement: Measurement | null): string {
  return measurement === null ? '–' : measurement.distance.toExponential(1);
}

/** What NVIDIA's driver says about the GPUs of this machine. TensorFlow tells a program neither name nor memory. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export interface NvidiaGpu {
  readonly index: number;
  readonly uuid: string;
  readonly name: string;
  readonly memoryBytes: number;
  /** Such as 550.54.15. */
  readonly driverVersion: string;
}

const FIELDS = ['index', 'uuid', 'memory.total', 'driver_version', 'name'];
const DEADLINE_MS = 10_000;

/** All of them; none without a driver. */
export async function listNvidiaGpus(): Promise<readonly NvidiaGpu[]> {
  const query = [`--query-gpu=${FIELDS.join(',')}`, '--format=csv,noheader,nounits'];
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', query, { timeout: DEADLINE_MS });
    return parseNvidiaGpus(stdout);
  } catch {
    return [];
  }
}

/** The first that CUDA_VISIBLE_DEVICES leaves, which is the one that TensorFlow takes. */
export async function visibleNvidiaGpu(): Promise<NvidiaGpu | null> {
  const gpus = await listNvidiaGpus();
  const first = process.env.CUDA_VISIBLE_DEVICES?.split(',').at(0)?.trim();
  if (first === undefined) return gpus.at(0) ?? null;
  return gpus.find(({ index, uuid }) => String(index) === first || uuid.startsWith(first)) ?? null;
}

/** Lines such as `0, GPU-5a3…, 81559, 550.54.15, NVIDIA H100 80GB HBM3`; others are left out. */
export function parseNvidiaGpus(csv: string): NvidiaGpu[] {
  return csv.split('\n').flatMap((line) => {
    const [index, uuid, mebibytes, driverVersion, ...name] = line.split(',').map((s) => s.trim());
    if (name.length === 0) return [];
    return {
      index: Number(index),
      uuid,
      name: name.join(', '),
      memoryBytes: Number(mebibytes) * 2 ** 20,
      driverVersion,
    };
  });
}

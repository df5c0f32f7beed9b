/**
 * The only access to the optional packages: tfjs on TensorFlow, and tfjs on WebGPU through Dawn. They are loaded on demand, and
 * a missing one is reported in one sentence with its fix.
 *
 * Loading is native code that may block, log to stderr or crash; thread.ts and probe.ts keep it away from
 * the event loop and from the process.
 */
import type { KernelBackend } from '@tensorflow/tfjs-core';
import { createRequire } from 'node:module';
import { cpus, tmpdir } from 'node:os';
import { UserError, messageOf } from '../../../shared/errors.js';
import type { Engine, MaybePromise } from '../engine.js';
import type { Model } from '../../lenet.js';
import { INSTALL_TENSORFLOW, INSTALL_WEBGPU, commandLine, type Command } from './install.js';
import { visibleNvidiaGpu } from './nvidia.js';
import { createTfjsEngine } from './engine.js';
import type { Tfjs } from './network.js';

const require = createRequire(import.meta.url);

const DAWN = 'webgpu' as string;

/** The engines whose packages are optional. */
export type TfjsEngineName = 'tensorflow' | 'webgpu';

/** Why an engine cannot be had here, and what to do about it. */
export class EngineUnavailable extends UserError {
  readonly reason: string;
  readonly cure: string;
  /** The cure as commands of npm's, where it is one; in the folder of package.json. */
  readonly fix: readonly Command[];

  constructor(
    engine: string,
    reason: string,
    cure: string,
    options?: ErrorOptions & { readonly fix?: readonly Command[] },
  ) {
    super(`The ${engine} engine is not available: ${reason}; ${cure}`, options);
    this.reason = reason;
    this.cure = cure;
    this.fix = options?.fix ?? [];
  }
}

export interface TfjsEngine {
  readonly engine: Engine;
  readonly tf: Tfjs;
  /** Of the packages, and of TensorFlow. */
  readonly version: string;
  /** A GPU, and none that a CPU imitates. */
  readonly isHardwareGpu: boolean;
  /** Of the device, in bytes; null where nobody tells. */
  readonly memoryBytes: number | null;
}

/**
 * @param device which GPU, counted from 0; null for the one that the library prefers
 * @throws {EngineUnavailable}
 */
export async function loadTfjsEngine(
  name: TfjsEngineName,
  model: Model,
  device: number | null,
): Promise<TfjsEngine> {
  return name === 'tensorflow' ? loadTensorflow(model, device) : loadWebgpu(model, device);
}

/** What `@tensorflow/tfjs-node` adds to tfjs. */
interface NodeTfjs extends Tfjs {
  readonly version: Record<'tfjs-node', string>;
}
interface NodeBackend {
  readonly isUsingGpuDevice: boolean;
  readonly binding: { readonly TF_Version: string };
}

/** Where the devices stand that the process was started with: threads of one process share the variable itself. */
const GIVEN_DEVICES = 'CUDA_VISIBLE_DEVICES_GIVEN';
const ALL_DEVICES = 'all';

async function loadTensorflow(model: Model, device: number | null): Promise<TfjsEngine> {
  if (device !== null) {
    // An engine that was lost, in a thread before this one, has narrowed them to its own.
    const given = (process.env[GIVEN_DEVICES] ??= process.env.CUDA_VISIBLE_DEVICES ?? ALL_DEVICES);
    const visible = given === ALL_DEVICES ? undefined : given.split(',');
    const chosen = visible === undefined ? String(device) : visible.at(device);
    if (chosen === undefined) {
      throw new UserError(
        `There is no GPU ${device}: CUDA_VISIBLE_DEVICES names ${visible?.length ?? 0}, counted from 0`,
      );
    }
    process.env.CUDA_VISIBLE_DEVICES = chosen;
  }
  const tf = requireTensorflow();
  await tf.ready();
  const backend = tf.backend() as unknown as NodeBackend;
  const isHardwareGpu = backend.isUsingGpuDevice;
  const gpu = isHardwareGpu ? await visibleNvidiaGpu() : null;
  const version = `${tf.version['tfjs-node']}, TensorFlow ${backend.binding.TF_Version}`;
  const engine = createTfjsEngine(tf, model, {
    name: 'tensorflow',
    fingerprint: `tensorflow/${tf.version['tfjs-node']}+${backend.binding.TF_Version}`,
    device: isHardwareGpu ? (gpu?.name ?? 'CUDA GPU') : `CPU, ${cpuName()}`,
  });
  return { engine, tf, version, isHardwareGpu, memoryBytes: gpu?.memoryBytes ?? null };
}

function requireTensorflow(): NodeTfjs {
  // tfjs-node 4.22 calls two functions that Node 23 took away.
  const util = require('node:util') as Record<string, unknown>;
  util.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
  util.isArray ??= Array.isArray;
  // Its log belongs to `doctor`; what goes wrong is thrown.
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2';

  const failures: string[] = [];
  for (const name of ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node']) {
    if (!isInstalled(name)) continue;
    try {
      return require(name) as NodeTfjs;
    } catch (error) {
      failures.push(
        isWithoutLibrary(error)
          ? `${name} is installed without its library, which its install script downloads`
          : `${name} does not load (${firstLine(error)})`,
      );
    }
  }
  throw new EngineUnavailable(
    'tensorflow',
    failures.join(', ') ||
      'neither @tensorflow/tfjs-node-gpu nor @tensorflow/tfjs-node is installed',
    `install it with: ${commandLine(INSTALL_TENSORFLOW)} (offline: node scripts/install-tensorflow.mjs PATH, see docs/gpu.md)`,
    { fix: INSTALL_TENSORFLOW },
  );
}

/** What tfjs-node says of an installation whose script did not run, or could not download. */
function isWithoutLibrary(error: unknown): boolean {
  return messageOf(error).includes('native addon module (tfjs_binding.node) can not be found');
}

/** The part of WebGPU that is used here. */
interface Gpu {
  requestAdapter(options?: object): Promise<GpuAdapter | null>;
}
interface GpuAdapter {
  readonly info: AdapterInfo;
  readonly limits: Readonly<Record<string, number>>;
  requestDevice(descriptor: object): Promise<GpuDevice>;
}
interface GpuDevice {
  readonly lost: Promise<{ readonly message: string }>;
  onuncapturederror: ((event: { readonly error: { readonly message: string } }) => void) | null;
  destroy(): void;
}
export interface AdapterInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  readonly isFallbackAdapter?: boolean;
}
interface Dawn {
  create(options: readonly string[]): Gpu;
  readonly globals: object;
}
interface WebgpuBackendPackage {
  readonly WebGPUBackend: new (device: GpuDevice, info: AdapterInfo) => KernelBackend;
}

/** The backend takes what the adapter has; without asking it would get the least that the standard guarantees. */
const LIMITS = [
  'maxComputeWorkgroupStorageSize',
  'maxComputeWorkgroupsPerDimension',
  'maxStorageBufferBindingSize',
  'maxBufferSize',
  'maxComputeWorkgroupSizeX',
  'maxComputeInvocationsPerWorkgroup',
];

async function loadWebgpu(model: Model, device: number | null): Promise<TfjsEngine> {
  const missing = ['webgpu', '@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-webgpu'].filter(
    (name) => !isInstalled(name),
  );
  if (missing.length > 0) {
    throw new EngineUnavailable(
      'webgpu',
      `${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} not installed`,
      `install with: ${commandLine(INSTALL_WEBGPU)}`,
      { fix: INSTALL_WEBGPU },
    );
  }
  // Vulkan drivers complain about its absence on every machine without a desktop.
  process.env.XDG_RUNTIME_DIR ??= tmpdir();
  let dawn: Dawn;
  try {
    // No literal, so that the compiler does not ask for a package that may be absent.
    dawn = (await import(DAWN)) as Dawn;
  } catch (error) {
    throw new EngineUnavailable(
      'webgpu',
      `the npm package webgpu does not load (${firstLine(error)})`,
      `it has builds for Linux, macOS and Windows on x64 and arm64`,
      { cause: error },
    );
  }
  const tf = require('@tensorflow/tfjs-core') as Tfjs;
  const { WebGPUBackend } = require('@tensorflow/tfjs-backend-webgpu') as WebgpuBackendPackage;
  Object.assign(globalThis, dawn.globals);

  const gpu = dawn.create(device === null ? [] : await adapterOption(dawn, device));
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (adapter === null) throw noAdapter();
  const { info, limits } = adapter;
  const gpuDevice = await adapter.requestDevice({
    requiredLimits: Object.fromEntries(LIMITS.map((name) => [name, limits[name]])),
  });

  // After the import above, at which the package would have taken an adapter of its own choice.
  const navigator = (globalThis as { navigator?: object }).navigator ?? {};
  Object.defineProperty(navigator, 'gpu', { value: gpu, configurable: true });
  Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true });
  // Small tensors, too, are computed on the GPU: no detour over pure JavaScript.
  tf.env().set('WEBGPU_CPU_FORWARD', false);
  tf.registerBackend('webgpu', () => new WebGPUBackend(gpuDevice, info));
  await tf.setBackend('webgpu');

  const engine = createTfjsEngine(tf, model, {
    name: 'webgpu',
    fingerprint: `webgpu/${tf.version_core}`,
    device: deviceName(info),
    prefersDepthwise: true,
  });
  const { checked, close } = watch(gpuDevice);
  return {
    engine: {
      ...engine,
      gradient: (...given) => checked(engine.gradient(...given)),
      evaluate: (...given) => checked(engine.evaluate(...given)),
      predict: (...given) => checked(engine.predict(...given)),
      async dispose() {
        close();
        await engine.dispose();
        tf.removeBackend('webgpu');
        gpuDevice.destroy();
        // Node does not exit while somebody holds the instance.
        Reflect.deleteProperty(navigator, 'gpu');
      },
    },
    tf,
    version: `${tf.version_core}, Dawn ${packageVersion('webgpu')}`,
    isHardwareGpu: !isSoftwareAdapter(info),
    memoryBytes: null,
  };
}

/**
 * WebGPU tells nobody by itself that a program did not compile or a buffer did not fit: the result is zeros. Here the
 * call that it happened in rejects.
 */
function watch(device: GpuDevice): {
  readonly checked: <T>(result: MaybePromise<T>) => Promise<T>;
  readonly close: () => void;
} {
  let failure: Error | null = null;
  const fail = (what: string, { message }: { readonly message: string }): void => {
    failure ??= new Error(`${what}: ${message.split('\n', 1)[0]}`);
  };
  device.onuncapturederror = ({ error }) => fail('WebGPU failed', error);
  let isOpen = true;
  void device.lost.then((info) => {
    if (isOpen) fail('The GPU is lost', info);
  });
  return {
    async checked(result) {
      const value = await result;
      if (failure !== null) throw failure;
      return value;
    },
    close() {
      isOpen = false;
    },
  };
}

/** Whether a CPU imitates the GPU: SwiftShader, Mesa's llvmpipe and lavapipe, Microsoft's WARP. */
export function isSoftwareAdapter(info: AdapterInfo): boolean {
  const names = `${info.vendor} ${info.architecture} ${info.device} ${info.description}`;
  return (
    info.isFallbackAdapter === true ||
    /swiftshader|llvmpipe|lavapipe|softpipe|software|basic render|\bwarp\b|\bcpu\b/i.test(names)
  );
}

function deviceName({ vendor, architecture, device, description }: AdapterInfo): string {
  return description || [vendor, architecture, device].filter(Boolean).join(' ') || 'unnamed GPU';
}

function noAdapter(): EngineUnavailable {
  const cure =
    process.platform === 'linux'
      ? 'install the Vulkan loader and the driver of the GPU ' +
        '(libvulkan1, with mesa-vulkan-drivers for AMD and Intel or with the driver of NVIDIA)'
      : 'install the current driver of the GPU';
  return new EngineUnavailable('webgpu', 'no driver offers a GPU that Dawn can use', cure);
}

/** Dawn for Node tells adapters apart by their names, which it lists when it is asked for one that is not there. */
async function adapterOption(dawn: Dawn, device: number): Promise<string[]> {
  let list = '';
  try {
    await dawn.create(['adapter=?']).requestAdapter();
  } catch (error) {
    list = error instanceof Error ? error.message : String(error);
  }
  return chooseAdapter(list, device);
}

/**
 * The options with which Dawn takes the adapter of that number.
 *
 * @param list lines such as ` * backend: 'vulkan', name: 'NVIDIA L4'`
 * @throws {UserError} if there is none, or it cannot be told from another
 */
export function chooseAdapter(list: string, device: number): string[] {
  const found = [...list.matchAll(/backend: '([^']*)', name: '([^']*)'/g)]
    .map(([, backend, name]) => ({ backend, name }))
    .filter(({ backend }) => backend !== 'null' && !backend.startsWith('opengl'));
  const chosen = found.at(device);
  if (chosen === undefined) {
    const names = found.map(({ name }, index) => `${index} = ${name}`).join(', ');
    throw new UserError(`There is no GPU ${device}: WebGPU finds ${names || 'none'}`);
  }
  if (found.findIndex(({ name }) => name === chosen.name) !== device) {
    throw new UserError(
      `Cannot use GPU ${device}: several are named ${chosen.name}, and WebGPU uses the first; ` +
        `show each worker one GPU, as docs/gpu.md tells`,
    );
  }
  return [`backend=${chosen.backend}`, `adapter=${chosen.name}`];
}

function isInstalled(name: string): boolean {
  try {
    require.resolve(name);
    return true;
  } catch {
    return false;
  }
}

function packageVersion(name: string): string {
  return (require(`${name}/package.json`) as { version: string }).version;
}

function cpuName(): string {
  return cpus().at(0)?.model.trim() ?? process.arch;
}

function firstLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split('\n', 1)[0].trim();
}

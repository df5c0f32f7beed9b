import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { diagnoseEngine, formatDiagnosis } from '../../../src/model/engine/doctor.js';
import {
  missingLibrariesIn,
  probeEngine,
  type AvailableEngine,
  type Probe,
} from '../../../src/model/engine/tfjs/probe.js';
import {
  chooseEngine,
  createEngine,
  checkEngine,
  selectEngine,
  type EngineChoice,
} from '../../../src/model/engine/engines.js';
import { buildModel, LENET5 } from '../../../src/model/lenet.js';
import { parseNvidiaGpus, type NvidiaGpu } from '../../../src/model/engine/tfjs/nvidia.js';
import { chooseAdapter, isSoftwareAdapter } from '../../../src/model/engine/tfjs/packages.js';
import { checkoutWith } from '../../support/checkout.js';

const model = buildModel(LENET5);

function found(change: Partial<AvailableEngine> & Partial<Probe>): Probe {
  return {
    isAvailable: true,
    version: '4.22.0',
    device: 'a device',
    isHardwareGpu: false,
    memoryBytes: null,
    measurement: null,
    missingLibraries: [],
    ...change,
  };
}
const absent: Probe = {
  isAvailable: false,
  reason: 'it is not installed',
  cure: 'install it',
  fix: [['npm', 'install', 'it']],
  missingLibraries: [],
};
const gpu: NvidiaGpu = {
  index: 0,
  uuid: 'GPU-1',
  name: 'NVIDIA L4',
  memoryBytes: 24 * 2 ** 30,
  driverVersion: '550.54.15',
};

test.each(['simd', 'reference'] as const)('createEngine() opens %s', async (name) => {
  const engine = await createEngine(name, model);
  expect(engine).toMatchObject({ name, model });
});

test('selectEngine() takes a name as it is', async () => {
  expect((await selectEngine('webgpu')).name).toBe('webgpu');
});

describe('chooseEngine()', () => {
  const cuda = found({ device: 'NVIDIA L4', isHardwareGpu: true });
  const tensorflowOnCpu = found({ device: 'CPU, Some Processor' });
  const vulkan = found({ device: 'AMD Radeon', isHardwareGpu: true });
  const swiftShader = found({ device: 'SwiftShader' });

  test('prefers CUDA', () => {
    expect(chooseEngine(cuda, null)).toEqual({
      name: 'tensorflow',
      reason: 'TensorFlow can use NVIDIA L4',
      details: [],
    });
  });

  test('takes a GPU through WebGPU where TensorFlow has none', () => {
    expect(chooseEngine(tensorflowOnCpu, vulkan)).toEqual({
      name: 'webgpu',
      reason: 'WebGPU can use AMD Radeon',
      details: ['tensorflow: only CPU, Some Processor'],
    });
  });

  test('takes neither TensorFlow on the CPU nor a GPU that a CPU imitates', () => {
    expect(chooseEngine(tensorflowOnCpu, swiftShader).name).toBe('simd');
  });

  test('says in a few words why it takes simd', () => {
    expect(chooseEngine(absent, swiftShader)).toEqual({
      name: 'simd',
      reason: 'no GPU that an engine can use',
      details: ['tensorflow: it is not installed', 'webgpu: only SwiftShader'],
    });
  });
});

describe('with a GPU package that', () => {
  test.each([
    {
      name: 'has no library',
      code: `throw new Error('The Node.js native addon module (tfjs_binding.node) can not be found at path: x')`,
      reason: '@tensorflow/tfjs-node-gpu is installed without its library',
    },
    {
      name: 'misses a library of the system',
      code: `throw new Error('libtensorflow.so.2: cannot open shared object file\\nRequire stack:')`,
      reason: 'tfjs-node-gpu does not load (libtensorflow.so.2: cannot open shared object file)',
    },
    { name: 'crashes', code: 'process.abort()', reason: 'its process ended with SIGABRT' },
  ])('$name, auto takes the next engine and says why', async ({ code, reason }) => {
    const checkout = await checkoutWith('@tensorflow/tfjs-node-gpu', code);
    const engines = JSON.stringify(join(checkout, 'dist/model/engine/engines.js'));
    const program = `
      const { selectEngine } = await import(${engines});
      console.log(JSON.stringify(await selectEngine('auto')));`;
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--input-type=module', '-e', program],
      { env: { ...process.env, VK_ICD_FILENAMES: '/nowhere', VK_DRIVER_FILES: '/nowhere' } },
    );
    const choice = JSON.parse(stdout) as EngineChoice;
    expect(choice.name).not.toBe('tensorflow');
    expect(choice.details.join()).toContain(reason);
  });
});

test('selectEngine() and checkEngine() stop looking when they are told to', async () => {
  const stop = new AbortController();
  setTimeout(() => stop.abort('SIGTERM'), 1);
  await expect(selectEngine('auto', stop)).rejects.toBe('SIGTERM');
  await expect(checkEngine('webgpu', stop)).rejects.toBe('SIGTERM');
});

describe('probeEngine()', () => {
  test('finds simd', async () => {
    expect(await probeEngine('simd')).toMatchObject({ isAvailable: true, isHardwareGpu: false });
  });

  test('gives up after its deadline', async () => {
    expect(await probeEngine('simd', { shouldMeasure: true, timeoutMs: 1 })).toMatchObject({
      isAvailable: false,
      reason: 'it did not answer within 0.001 s',
    });
  });
});

test('missingLibrariesIn() finds what TensorFlow could not load', () => {
  const log = [
    "W tensorflow/dso_loader.cc:64] Could not load dynamic library 'libcudnn.so.8'; dlerror: …",
    "W tensorflow/dso_loader.cc:64] Could not load dynamic library 'libcudart.so.11.0'; dlerror: …",
    "W tensorflow/dso_loader.cc:64] Could not load dynamic library 'libcudnn.so.8'; dlerror: …",
  ].join('\n');
  expect(missingLibrariesIn(log)).toEqual(['libcudart.so.11.0', 'libcudnn.so.8']);
});

test('parseNvidiaGpus() reads what nvidia-smi prints', () => {
  expect(parseNvidiaGpus('0, GPU-1, 24576, 550.54.15, NVIDIA L4\nNo devices were found\n')).toEqual(
    [gpu],
  );
});

describe('isSoftwareAdapter()', () => {
  const adapter = (description: string) => ({
    vendor: '',
    architecture: '',
    device: '',
    description,
  });

  test.each([
    'SwiftShader driver 5.0.0',
    'llvmpipe (LLVM 15.0.6, 256 bits)',
    'Microsoft Basic Render Driver',
  ])('is true of %s', (description) => {
    expect(isSoftwareAdapter(adapter(description))).toBe(true);
  });

  test.each(['NVIDIA: 550.54.15', 'AMD Radeon RX 7900', 'Intel(R) Arc(tm) A770', 'Apple M3 Max'])(
    'is false of %s',
    (description) => {
      expect(isSoftwareAdapter(adapter(description))).toBe(false);
    },
  );

  test('is true of what Dawn calls a fallback', () => {
    expect(isSoftwareAdapter({ ...adapter('Some GPU'), isFallbackAdapter: true })).toBe(true);
  });
});

describe('chooseAdapter()', () => {
  const list = `no suitable backends found
Available adapters:
 * backend: 'vulkan', name: 'NVIDIA L4'
 * backend: 'vulkan', name: 'AMD Radeon'
 * backend: 'vulkan', name: 'NVIDIA L4'
 * backend: 'null', name: 'Null backend'`;

  test('takes the adapter of that number', () => {
    expect(chooseAdapter(list, 1)).toEqual(['backend=vulkan', 'adapter=AMD Radeon']);
  });

  test('refuses one that it cannot tell from another', () => {
    expect(() => chooseAdapter(list, 2)).toThrow('Cannot use GPU 2: several are named NVIDIA L4');
  });

  test('names what there is', () => {
    expect(() => chooseAdapter(list, 3)).toThrow(
      'There is no GPU 3: WebGPU finds 0 = NVIDIA L4, 1 = AMD Radeon, 2 = NVIDIA L4',
    );
  });
});

describe('diagnoseEngine()', () => {
  test('names the CUDA libraries that are missing', () => {
    const probe = found({ missingLibraries: ['libcudart.so.11.0', 'libcudnn.so.8'] });
    const { reason, cure } = diagnoseEngine('tensorflow', probe, [gpu]);
    expect(reason).toContain('does not use NVIDIA L4: it misses libcudart.so.11.0, libcudnn.so.8');
    expect(cure).toContain('cuDNN 8');
  });

  test('asks for a driver where there is no NVIDIA GPU', () => {
    expect(diagnoseEngine('tensorflow', found({}), []).reason).toContain(
      'no NVIDIA driver answers',
    );
  });

  test('names the CPU build of the GPU package on ARM', () => {
    const { reason, cure, fix } = diagnoseEngine('tensorflow', found({}), [gpu], 'linux arm64');
    expect(reason).toContain('does not use NVIDIA L4: on linux arm64 its library is for the CPU');
    expect(cure).toBe('take --engine webgpu');
    expect(fix).toEqual([]);
  });

  test.each([
    { gpus: [gpu], platform: 'linux x64', isFixed: true },
    { gpus: [gpu], platform: 'win32 x64', isFixed: true },
    { gpus: [gpu], platform: 'linux arm64', isFixed: false },
    { gpus: [], platform: 'linux x64', isFixed: false },
    { gpus: [], platform: 'darwin arm64', isFixed: false },
  ])('fixes TensorFlow only where it gets a GPU: %o', ({ gpus, platform, isFixed }) => {
    const { fix } = diagnoseEngine('tensorflow', absent, gpus, platform);
    expect(fix).toEqual(isFixed ? [['npm', 'install', 'it']] : []);
  });

  test('says that SwiftShader is no GPU', () => {
    const probe = found({ device: 'SwiftShader driver 5.0.0' });
    expect(diagnoseEngine('webgpu', probe, []).reason).toBe(
      'SwiftShader driver 5.0.0 is no GPU but a CPU that imitates one',
    );
  });

  test('has no complaint about a GPU in use', () => {
    expect(diagnoseEngine('webgpu', found({ isHardwareGpu: true }), [])).toMatchObject({
      reason: null,
      cure: null,
    });
  });
});

test('formatDiagnosis() is a table with remarks and the choice', () => {
  const measurement = { distance: 1.23e-7, imagesPerSecond: 17_123.4, batchSize: 64 };
  const text = formatDiagnosis({
    nodeVersion: 'v20.19.0',
    platform: 'linux x64',
    engines: [
      diagnoseEngine(
        'simd',
        found({ version: 'simd/1', device: 'WebAssembly SIMD', measurement }),
        [],
      ),
      diagnoseEngine('webgpu', absent, []),
    ],
    auto: { name: 'simd', reason: 'no GPU', details: [] },
  });
  expect(text).toBe(`Node v20.19.0 on linux x64

Engine  Device            Memory  Images/s  Batch  Distance  Bits   Version
simd    WebAssembly SIMD       –    17,123     64    1.2e-7  exact  simd/1
webgpu  not available          –         –      –         –  –      –

webgpu: it is not installed;
  install it

--engine auto takes simd: no GPU`);
});

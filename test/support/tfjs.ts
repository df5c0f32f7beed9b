/**
 * The tfjs engine on each backend that this machine has, in the test's own process. All backends share one tfjs, which
 * has one active backend: an engine must be done before the next is created.
 */
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Engine } from '../../src/model/engine/engine.js';
import { buildModel, LENET5, type Model } from '../../src/model/lenet.js';
import { createTfjsEngine } from '../../src/model/engine/tfjs/engine.js';
import type { Tfjs } from '../../src/model/engine/tfjs/network.js';
import { loadTfjsEngine, type TfjsEngineName } from '../../src/model/engine/tfjs/packages.js';
import { isThorough, useWebgpu } from './webgpu.js';

const require = createRequire(import.meta.url);

export interface TfjsBackend {
  readonly name: 'cpu' | TfjsEngineName;
  readonly load: () => Promise<Tfjs>;
}

export async function createOn(
  { name, load }: TfjsBackend,
  model: Model,
  prefersDepthwise = name === 'webgpu',
): Promise<Engine> {
  const tf = await load();
  await tf.setBackend(name);
  return createTfjsEngine(tf, model, {
    name: name === 'cpu' ? 'tensorflow' : name,
    fingerprint: `${name}/test`,
    device: name,
    prefersDepthwise,
  });
}

const cpu: TfjsBackend = {
  name: 'cpu',
  load() {
    const tf = require('@tensorflow/tfjs-core') as Tfjs;
    require('@tensorflow/tfjs-backend-cpu');
    return Promise.resolve(tf);
  },
};

/** The device is opened once: it keeps its compiled shaders. */
function opened(name: TfjsEngineName): TfjsBackend {
  let tf: Promise<Tfjs> | null = null;
  return {
    name,
    load: () => (tf ??= loadTfjsEngine(name, buildModel(LENET5), null).then((loaded) => loaded.tf)),
  };
}

/** True if the package is there with its library, which `npm ci --ignore-scripts` leaves out. */
function hasLibrary(name: string): boolean {
  try {
    const lib = join(dirname(require.resolve(`${name}/package.json`)), 'lib');
    return readdirSync(lib, { recursive: true }).some((file) => file.includes('tfjs_binding.node'));
  } catch {
    return false;
  }
}

const tensorflow =
  hasLibrary('@tensorflow/tfjs-node-gpu') || hasLibrary('@tensorflow/tfjs-node')
    ? [opened('tensorflow')]
    : [];
const webgpu = useWebgpu() ? [opened('webgpu')] : [];

/** Pure JavaScript everywhere, TensorFlow where it is installed, WebGPU where it is asked for. */
export const tfjsBackends: readonly TfjsBackend[] = [cpu, ...tensorflow, ...webgpu];

/** Those that run the whole engine suite. Pure JavaScript and SwiftShader take minutes. */
export const suiteBackends: readonly TfjsBackend[] = [
  ...(isThorough ? [cpu] : []),
  ...tensorflow,
  ...webgpu,
];

/** Exported models, computed by those that they are for. */
import { spawnSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type * as TfjsCore from '@tensorflow/tfjs-core';
import type * as TfjsLayers from '@tensorflow/tfjs-layers';
import type { Checkpoint } from '../../src/model/checkpoint.js';
import { exportModel, type ExportedFile } from '../../src/model/export/export.js';
import type { ExportFormat } from '../../src/model/export/format.js';
import { networkOf } from '../../src/model/export/network.js';
import { temporaryDirectory } from './temporary-directory.js';

/** Computes (n, numClasses) probabilities of (n, channels, height, width) bytes. */
type Predict = (checkpoint: Checkpoint, images: Uint8Array) => Promise<Float32Array>;

/** Those that run in Node, wherever the tests do. */
export const RUNTIMES: Readonly<Record<'onnx' | 'tfjs' | 'js', Predict>> = {
  async onnx(checkpoint, images) {
    const ort = await import('onnxruntime-web');
    ort.env.wasm.numThreads = 1;
    const { channels, height, width } = networkOf(checkpoint).input;
    const session = await ort.InferenceSession.create(fileOf(checkpoint, 'onnx', 'model.onnx'));
    const shape = [images.length / (channels * height * width), channels, height, width];
    const { probabilities } = await session.run({ images: new ort.Tensor('uint8', images, shape) });
    await session.release();
    return probabilities.data as Float32Array;
  },

  async tfjs(checkpoint, images) {
    const require = createRequire(import.meta.url);
    const tf = require('@tensorflow/tfjs-core') as typeof TfjsCore;
    require('@tensorflow/tfjs-backend-cpu');
    const { loadLayersModel } = require('@tensorflow/tfjs-layers') as typeof TfjsLayers;
    await tf.setBackend('cpu');
    const files = exportModel(checkpoint, ['tfjs']);
    // As a browser would get it, but for the network.
    const fetchFunc = (url: string) => {
      const name = url.slice(url.lastIndexOf('/') + 1);
      const bytes = files.find((file) => file.name === name)!.bytes;
      const type = name.endsWith('.json') ? 'application/json' : 'application/octet-stream';
      return Promise.resolve(new Response(bytes.slice(), { headers: { 'content-type': type } }));
    };
    const model = await loadLayersModel(
      tf.io.http('http://model/model.json', { fetchFunc: fetchFunc as unknown as typeof fetch }),
    );
    const { channels, height, width } = networkOf(checkpoint).input;
    const probabilities = tf.tidy(() => {
      const x = tf.tensor4d(Int32Array.from(images), [
        images.length / (channels * height * width),
        channels,
        height,
        width,
      ]);
      return (model.predict(tf.transpose(x, [0, 2, 3, 1])) as TfjsCore.Tensor).dataSync();
    });
    model.dispose();
    return probabilities as Float32Array;
  },

  async js(checkpoint, images) {
    const [path] = await writeExport(checkpoint, ['js']);
    const { predict, inputShape } = (await import(
      /* @vite-ignore */ pathToFileURL(join(path, 'model.js')).href
    )) as {
      predict: (pixels: Uint8Array) => { probabilities: Float64Array };
      inputShape: { channels: number; height: number; width: number };
    };
    const numPixels = inputShape.channels * inputShape.height * inputShape.width;
    const rows: number[] = [];
    for (let begin = 0; begin < images.length; begin += numPixels) {
      rows.push(...predict(images.subarray(begin, begin + numPixels)).probabilities);
    }
    return Float32Array.from(rows);
  },
};

export function fileOf(checkpoint: Checkpoint, format: ExportFormat, name: string): Uint8Array {
  return exportModel(checkpoint, [format]).find((file) => file.name === name)!.bytes;
}

/** Writes an export into a folder that goes with the test. @returns the folder, and the files */
export async function writeExport(
  checkpoint: Checkpoint,
  formats: readonly ExportFormat[],
): Promise<[string, ExportedFile[]]> {
  const path = await temporaryDirectory();
  const files = exportModel(checkpoint, formats);
  for (const { name, bytes } of files) await writeFile(join(path, name), bytes);
  return [path, files];
}

/** The first Python that has all that exports are for; null if there is none. */
export function findPython(): string | null {
  const needed = 'import torch, safetensors, onnx, onnxruntime';
  const found = [process.env.LOCKSTEP_PYTHON, 'python3', 'python'].find(
    (python) => python && spawnSync(python, ['-c', needed], { stdio: 'ignore' }).status === 0,
  );
  if (found) return found;
  console.log(
    'Skipped: no Python with torch, safetensors, onnx and onnxruntime (LOCKSTEP_PYTHON, python3, python)',
  );
  return null;
}

/** Checks the models with `onnx.checker` and computes them in PyTorch (strictly loaded) and onnxruntime. */
export async function predictInPython(
  python: string,
  cases: readonly { readonly checkpoint: Checkpoint; readonly images: Uint8Array }[],
): Promise<{ readonly pytorch: Float32Array; readonly onnx: Float32Array }[]> {
  const dirs: string[] = [];
  for (const { checkpoint, images } of cases) {
    const [path] = await writeExport(checkpoint, ['onnx', 'pytorch']);
    await mkdir(path, { recursive: true });
    await writeFile(join(path, 'images.bin'), images);
    dirs.push(path);
  }
  const script = fileURLToPath(new URL('./exported.py', import.meta.url));
  const { status, stdout, stderr } = spawnSync(python, [script, ...dirs], {
    encoding: 'utf8',
    maxBuffer: 2 ** 30,
  });
  if (status !== 0) throw new Error(stderr);
  return (JSON.parse(stdout) as { pytorch: number[]; onnx: number[] }[]).map((row) => ({
    pytorch: Float32Array.from(row.pytorch),
    onnx: Float32Array.from(row.onnx),
  }));
}

/** The largest difference of two arrays of the same length. */
export function largestDifference(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return Infinity;
  return expected.reduce(
    (largest, value, i) =>
      Math.max(largest, Number.isNaN(actual[i]) ? Infinity : Math.abs(actual[i] - value)),
    0,
  );
}

/** (n,) the class of the largest probability of each image. */
export function classesOf(probabilities: Float32Array, numClasses: number): number[] {
  return Array.from({ length: probabilities.length / numClasses }, (_, image) => {
    const row = probabilities.subarray(image * numClasses, (image + 1) * numClasses);
    return row.indexOf(Math.max(...row));
  });
}

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Checkpoint } from '../../../src/model/checkpoint.js';
import { createReferenceEngine } from '../../../src/model/engine/reference.js';
import { EXPORT_FORMATS } from '../../../src/model/export/format.js';
import { networkOf } from '../../../src/model/export/network.js';
import { initParams } from '../../../src/model/init.js';
import {
  ACTIVATIONS,
  buildModel,
  POOLS,
  type DataShape,
  type Hyperparameters,
} from '../../../src/model/lenet.js';
import {
  classesOf,
  findPython,
  largestDifference,
  predictInPython,
  RUNTIMES,
  writeExport,
} from '../../support/exported.js';
import { hashedParams } from '../../support/tensors.js';

/** Float32 against the reference's float64; and what is promised. */
const TOLERANCE = 1e-5;
const NUM_IMAGES = 3;

interface Case {
  readonly checkpoint: Checkpoint;
  readonly images: Uint8Array;
  /** (n, numClasses) of the reference engine. */
  readonly expected: Float32Array;
}

interface Architecture {
  readonly values: Hyperparameters;
  readonly data: DataShape;
}

const architectures: fc.Arbitrary<Architecture> = fc
  .record({
    values: fc.record({
      kernelSize: fc.integer({ min: 1, max: 5 }),
      channels: fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 }),
      padding: fc.integer({ min: 0, max: 3 }),
      stride: fc.integer({ min: 1, max: 3 }),
      hidden: fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 2 }),
      activation: fc.constantFrom(...ACTIVATIONS),
      pool: fc.constantFrom(...POOLS),
    }),
    data: fc.record({
      input: fc.record({
        channels: fc.integer({ min: 1, max: 4 }),
        height: fc.integer({ min: 8, max: 33 }),
        width: fc.integer({ min: 8, max: 33 }),
      }),
      numClasses: fc.integer({ min: 2, max: 40 }),
    }),
  })
  .filter(({ values, data }) => {
    try {
      return buildModel(values, data).numParams > 0;
    } catch {
      return false;
    }
  });

/** What a folder may be called. */
const nameOf = (index: number) => `${index} "quoted" '\\' */ \n \u2028 é 😀 </script> \`\${x}\``;

function caseOf({ values, data }: Architecture, seed: number): Case {
  const model = buildModel(values, data);
  const biases = hashedParams(model, 0.3);
  const params = initParams(model, seed).map((weight, i) => 2 * weight + biases[i]);
  const checkpoint: Checkpoint = {
    params,
    optimizerState: { tensors: {}, scalars: {} },
    globalStep: 1,
    epoch: 1,
    seed,
    hyperparameters: values,
    input: data.input,
    classNames: Array.from({ length: data.numClasses }, (_, index) => nameOf(index)),
    config: null,
    engineFingerprint: 'simd/1',
    metrics: null,
  };
  const { channels, height, width } = networkOf(checkpoint).input;
  const images = Uint8Array.from(
    { length: NUM_IMAGES * channels * height * width },
    (_, i) => (i * 2654435761 + seed) >>> 7,
  );
  const engine = createReferenceEngine(model);
  engine.setParams(params);
  return { checkpoint, images, expected: engine.predict(images) as Float32Array };
}

function expectSame(actual: Float32Array, { checkpoint, expected }: Case): void {
  expect(largestDifference(actual, expected)).toBeLessThan(TOLERANCE);
  const numClasses = networkOf(checkpoint).classNames.length;
  expect(classesOf(actual, numClasses)).toEqual(classesOf(expected, numClasses));
}

describe.each(['onnx', 'tfjs', 'js'] as const)('exportModel() to %s', (format) => {
  test('computes what the reference computes, for random models', async () => {
    await fc.assert(
      fc.asyncProperty(architectures, fc.nat(), async (architecture, seed) => {
        const one = caseOf(architecture, seed);
        expectSame(await RUNTIMES[format](one.checkpoint, one.images), one);
      }),
      { numRuns: 20 },
    );
  });
});

test('exportModel() keeps the names of the classes, whatever they are', async () => {
  const [architecture] = fc.sample(architectures, 1);
  const { checkpoint, images } = caseOf(architecture, 1);
  const { classNames } = checkpoint;
  const [folder, files] = await writeExport(checkpoint, EXPORT_FORMATS);
  const js = (await import(/* @vite-ignore */ pathToFileURL(join(folder, 'model.js')).href)) as {
    classNames: string[];
    predict: (pixels: Uint8Array) => { index: number; name: string };
  };
  expect(js.classNames).toEqual(classNames);
  const { index, name } = js.predict(images.subarray(0, images.length / NUM_IMAGES));
  expect(name).toBe(classNames[index]);
  const textOf = (file: string) =>
    Buffer.from(files.find((one) => one.name === file)!.bytes).toString();
  const tfjs = JSON.parse(textOf('model.json')) as { userDefinedMetadata: unknown };
  expect(tfjs.userDefinedMetadata).toMatchObject({ classNames });
  const card = textOf('README.md').split('\n');
  expect(card.filter((line) => line.startsWith('| Classes |'))).toHaveLength(1);
});

test.each([
  [1, [100]],
  [2, [200, 128]],
  [3, [100, 100, 100]],
  [4, [200, 200, 200, 128]],
])(
  'pixelsOf() for %i channels blends with black what is transparent, as training does',
  async (channels, expected) => {
    const [{ values, data }] = fc.sample(architectures, { numRuns: 1, seed: 1 });
    const architecture = { values, data: { ...data, input: { ...data.input, channels } } };
    const { checkpoint } = caseOf(architecture, 1);
    const [folder] = await writeExport(checkpoint, ['js']);
    const url = pathToFileURL(join(folder, 'model.js')).href;
    const { pixelsOf } = (await import(/* @vite-ignore */ url)) as {
      pixelsOf: (image: object) => Uint8ClampedArray;
    };
    const { width, height } = data.input;
    const area = width * height;
    const pixel = [200, 200, 200, 128];
    const bytes = Uint8ClampedArray.from({ length: 4 * area }, (_, i) => pixel[i % 4]);
    expect([...pixelsOf({ data: bytes, width, height })]).toEqual(
      expected.flatMap((value) => new Array<number>(area).fill(value)),
    );
  },
);

const python = findPython();
describe.skipIf(python === null)('exportModel() to Python', () => {
  test('passes onnx.checker, loads strictly, and computes what the reference computes', async () => {
    const random = fc.sample(architectures, 12).map(caseOf);
    const answers = await predictInPython(python!, random);
    random.forEach((one, index) => {
      expectSame(answers[index].pytorch, one);
      expectSame(answers[index].onnx, one);
    });
  });
});

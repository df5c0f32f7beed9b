import { describe, expect, test } from 'vitest';
import { encodeCheckpoint, type Checkpoint } from '../../src/model/checkpoint.js';
import { initParams } from '../../src/model/init.js';
import { initParamsFrom, readWeightsFile } from '../../src/model/initial-params.js';
import { DIGITS, buildModel, LENET5 } from '../../src/model/lenet.js';
import { paramTensorsOf } from '../../src/model/param-tensors.js';
import { encodeSafetensors } from '../../src/model/safetensors.js';
import { MemoryStorage } from '../support/memory-storage.js';
import { hashedParams } from '../support/tensors.js';

const SMALL = { ...LENET5, channels: [2], hidden: [5] };
const MODEL = buildModel(SMALL);
const TRAINED = hashedParams(MODEL, 1);
const path = 'trained.safetensors';

function checkpoint(changes: Partial<Checkpoint> = {}): Uint8Array {
  return encodeCheckpoint({
    params: TRAINED,
    optimizerState: { tensors: { mean: new Float32Array(MODEL.numParams) }, scalars: { t: 3 } },
    globalStep: 3,
    epoch: 0,
    seed: 1,
    hyperparameters: SMALL,
    input: MODEL.input,
    classNames: DIGITS,
    config: {},
    engineFingerprint: 'simd/1',
    metrics: {},
    ...changes,
  });
}

describe('initParamsFrom()', () => {
  test('takes all of a checkpoint of the same model, whatever the seed', () => {
    for (const seed of [1, 2]) {
      expect(initParamsFrom({ path, bytes: checkpoint() }, MODEL, seed)).toEqual(TRAINED);
    }
  });

  test('names the option that makes the model the same', () => {
    const start = (changes: Partial<typeof SMALL>) =>
      initParamsFrom({ path, bytes: checkpoint() }, buildModel({ ...SMALL, ...changes }), 1);
    expect(() => start({ activation: 'relu' })).toThrow(
      'Cannot start from trained.safetensors: its model has another activation; give --activation sigmoid',
    );
    expect(() => start({ hidden: [] })).toThrow('its model has another hidden; give --hidden 5');
    const other = buildModel(SMALL, { input: { ...MODEL.input, width: 30 }, numClasses: 10 });
    expect(() => initParamsFrom({ path, bytes: checkpoint() }, other, 1)).toThrow(
      'its model is for images of 28×28, those of the dataset are 28×30',
    );
  });

  test('begins an output layer for other classes anew, from the seed', () => {
    const bytes = encodeSafetensors(
      {},
      paramTensorsOf(MODEL).map(({ name, shape, offset, length }) =>
        name.startsWith('Output')
          ? {
              name,
              shape: [3, ...shape.slice(1)],
              values: new Float32Array(3 * (shape[1] ?? 1)).fill(9),
            }
          : { name, shape, values: TRAINED.subarray(offset, offset + length) },
      ),
    );
    const params = initParamsFrom({ path, bytes }, MODEL, 5);
    const fresh = initParams(MODEL, 5);
    for (const { name, offset, length } of paramTensorsOf(MODEL)) {
      const expected = name.startsWith('Output') ? fresh : TRAINED;
      const end = offset + length;
      expect(params.subarray(offset, end), name).toEqual(expected.subarray(offset, end));
    }
  });

  test('does not take a damaged checkpoint for a file of PyTorch', () => {
    const bytes = checkpoint();
    bytes[bytes.length - 1] ^= 1;
    expect(() => initParamsFrom({ path, bytes }, MODEL, 1)).toThrow(/it is damaged/);
  });
});

describe('readWeightsFile()', () => {
  test('finds a file, or the best checkpoint of a run', async () => {
    const storage = new MemoryStorage();
    await storage.writeDurably('run/checkpoints/best.safetensors', checkpoint());
    const file = await readWeightsFile(
      storage,
      'run/checkpoints/best.safetensors',
      () => undefined,
    );
    expect(initParamsFrom(file, MODEL, 1)).toEqual(TRAINED);
    expect(file.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(await readWeightsFile(storage, 'run/checkpoints', () => undefined)).toEqual(file);
    await expect(readWeightsFile(storage, 'gone', () => undefined)).rejects.toThrow(
      /Cannot read gone/,
    );
  });
});

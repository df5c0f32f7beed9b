import { describe, expect, test } from 'vitest';
import type { Checkpoint } from '../../../src/model/checkpoint.js';
import { weightsSha256 } from '../../../src/model/checkpoint.js';
import { exportModel } from '../../../src/model/export/export.js';
import { EXPORT_FORMATS } from '../../../src/model/export/format.js';
import { trainCommandOf } from '../../../src/model/export/model-card.js';
import { initParams } from '../../../src/model/init.js';
import { buildModel, DIGITS, LENET5, MNIST } from '../../../src/model/lenet.js';
import { parseRunConfig } from '../../../src/shared/config.js';
import { version } from '../../../src/shared/node/version.js';

const METRICS = {
  evaluatedStep: 938,
  testAccuracy: 0.9876,
  testLoss: 0.04321,
  workers: [{ isExact: true }],
};

function checkpointOf(changes: Partial<Checkpoint> = {}): Checkpoint {
  return {
    params: initParams(buildModel(LENET5), 1),
    optimizerState: { tensors: {}, scalars: {} },
    globalStep: 938,
    epoch: 1,
    seed: 3,
    hyperparameters: LENET5,
    input: MNIST.input,
    classNames: DIGITS,
    config: parseRunConfig({ epochs: 1, seed: 3 }),
    engineFingerprint: 'simd/1',
    metrics: METRICS,
    ...changes,
  };
}

function cardOf(checkpoint: Checkpoint): string {
  const files = exportModel(checkpoint, EXPORT_FORMATS);
  return Buffer.from(files.find(({ name }) => name === 'README.md')!.bytes).toString();
}

describe('modelCard()', () => {
  test('states figures, hash and the command', () => {
    const checkpoint = checkpointOf();
    expect(cardOf(checkpoint).replaceAll(version, 'VERSION')).toMatchSnapshot();
    expect(cardOf(checkpoint)).toContain(weightsSha256(checkpoint.params));
  });

  test('states no figures of other weights', () => {
    const card = cardOf(checkpointOf({ metrics: { ...METRICS, evaluatedStep: 900 } }));
    expect(card).toContain('not measured at this step');
    expect(card).not.toContain('98.76');
    expect(card).not.toContain('model-index');
  });

  test('promises no bits where an approximate engine took part, or nobody knows', () => {
    const approximate = { ...METRICS, workers: [{ isExact: true }, { isExact: false }] };
    for (const metrics of [approximate, null, { workers: 'many' }]) {
      expect(cardOf(checkpointOf({ metrics }))).not.toContain('the same bits');
    }
  });

  test('does not guess the command of a configuration that it does not understand', () => {
    const card = cardOf(checkpointOf({ config: { batchSize: -1 } }));
    expect(card).toContain('does not tell how it was trained');
  });

  test('keeps what a dataset is called from being markup', () => {
    const dataset = 'x`\n---\n# |"\\ é';
    const card = cardOf(checkpointOf({ config: parseRunConfig({ dataset }) }));
    const [, frontMatter, ...rest] = card.split(/^---$/m);
    expect(frontMatter).toContain(JSON.stringify(dataset));
    expect(rest.join('')).not.toMatch(/^# \|/m);
  });
});

describe('trainCommandOf()', () => {
  test('names what differs from the defaults, quoted for a shell', () => {
    expect(trainCommandOf(parseRunConfig({}))).toBe('npx lockstep train');
    const config = parseRunConfig({
      hyperparameters: { ...LENET5, channels: [8, 12], hidden: [] },
      batchSize: 32,
      dataset: "it's here",
    });
    expect(trainCommandOf(config)).toBe(
      `npx lockstep train --dataset 'it'\\''s here' --batch-size 32 --channels 8,12 --hidden ''`,
    );
  });
});

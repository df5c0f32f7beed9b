/**
 * The model card of an export: README.md with the front matter of Hugging Face
 * (https://huggingface.co/docs/hub/model-cards), what the weights were measured to be, and how to make them again.
 */
import * as z from 'zod';
import { flatten, parseRunConfig } from '../../shared/config.js';
import { formatCount, formatPercent } from '../../shared/format.js';
import { flagName, textOf } from '../../shared/option.js';
import { printable } from '../../shared/printable.js';
import type { Checkpoint } from '../checkpoint.js';
import type { ExportFormat } from './format.js';
import type { Network } from './network.js';
import { OPSET } from './onnx.js';

/** What the card reads of a checkpoint's metrics, a JSON value. */
const metricsSchema = z.object({
  evaluatedStep: z.number(),
  testAccuracy: z.number().min(0).max(1).nullable(),
  testLoss: z.number().nullable(),
  workers: z.array(z.object({ isExact: z.boolean() })),
  bestStep: z.number().optional(),
  extensions: z.array(z.object({ globalStep: z.number(), epochs: z.number() })).default([]),
});

const USAGE: Readonly<Record<ExportFormat, string>> = {
  onnx: `\`model.onnx\`, opset ${OPSET}: input \`images\`, uint8; output \`probabilities\`. The graph divides the bytes by 255 itself.

\`\`\`python
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
[probabilities] = session.run(None, {"images": images})  # uint8 (N, CHANNELS, HEIGHT, WIDTH)
\`\`\``,
  pytorch: `\`model.safetensors\`, with the module in \`model.py\`.

\`\`\`python
from model import CLASSES, load, predict
probabilities = predict(load(), images)  # a uint8 tensor (N, CHANNELS, HEIGHT, WIDTH)
\`\`\``,
  tfjs: `\`model.json\` and \`weights.bin\`, a LayersModel. It takes values from 0 to 255 and divides them itself.

\`\`\`js
const model = await tf.loadLayersModel('model.json');
const probabilities = model.predict(images); // (N, HEIGHT, WIDTH, CHANNELS), 0 to 255
\`\`\``,
  js: `\`model.js\`, one file without dependencies, for browsers and Node.

\`\`\`js
import { predict } from './model.js';
const { name, probability } = predict(pixels); // CHANNELS·HEIGHT·WIDTH bytes
\`\`\``,
};

/** The text of README.md; the same for the same arguments. */
export function modelCard(
  checkpoint: Checkpoint,
  network: Network,
  formats: readonly ExportFormat[],
  version: string,
): string {
  const { globalStep, epoch, engineFingerprint } = checkpoint;
  const { input, classNames, numParams, sha256 } = network;
  const metrics = metricsSchema.safeParse(checkpoint.metrics).data ?? null;
  const measured =
    metrics?.evaluatedStep === globalStep && metrics.testAccuracy !== null ? metrics : null;
  const training = trainingOf(checkpoint.config);
  const dataset = training?.dataset ?? null;
  const isExact = metrics?.workers.every((worker) => worker.isExact) === true;

  const frontMatter = {
    pipeline_tag: 'image-classification',
    tags: ['lockstep', 'lenet', 'image-classification', ...formats],
    ...(dataset === 'mnist' ? { datasets: ['ylecun/mnist'] } : {}),
    ...(measured && dataset !== null
      ? {
          metrics: ['accuracy'],
          'model-index': [
            {
              name: 'lenet',
              results: [
                {
                  task: { type: 'image-classification' },
                  dataset: { type: dataset, name: dataset, split: 'test' },
                  metrics: [{ type: 'accuracy', value: measured.testAccuracy }],
                },
              ],
            },
          ],
        }
      : {}),
  };

  const isChosenByTest = training?.hasValidation === false && metrics?.bestStep === globalStep;

  const rows = [
    [
      'Test accuracy',
      measured
        ? formatPercent(measured.testAccuracy!) +
          (isChosenByTest ? ', the best of its run: this set has chosen the checkpoint' : '')
        : 'not measured at this step',
    ],
    ...(measured?.testLoss != null ? [['Test loss', measured.testLoss.toFixed(4)]] : []),
    ['Data', dataset === null ? 'unknown' : escapeMarkdown(dataset)],
    ['Input', `${input.channels}×${input.height}×${input.width} bytes (channels, height, width)`],
    ['Classes', classNames.map(escapeMarkdown).join(', ')],
    ['Weights', formatCount(numParams)],
    ['SHA-256 of the weights', `\`${sha256}\``],
    ['Trained', `to step ${formatCount(globalStep)}, epoch ${epoch}`],
  ];
  const shape = (text: string) =>
    text
      .replaceAll('CHANNELS', String(input.channels))
      .replaceAll('HEIGHT', String(input.height))
      .replaceAll('WIDTH', String(input.width));
  const longer = metrics?.extensions.at(-1);
  const extension =
    longer !== undefined && training?.isCosine
      ? `The run was given more epochs after step ${formatCount(longer.globalStep)}, when it had ${longer.epochs}: up to there the ` +
        'learning rate fell faster than with this command, so that the weights will differ.'
      : null;
  const bits = isExact
    ? `On engine \`${engineFingerprint}\` it gives the same bits on any number of workers.`
    : 'An engine that is not exact took part, so the bits will differ.';
  return `\
---
${yaml(frontMatter)}---

# LeNet, trained by Lockstep

|  |  |
| --- | --- |
${rows.map(([name, value]) => `| ${name} | ${value} |\n`).join('')}
## Use

${formats.map((format) => shape(USAGE[format])).join('\n\n')}

## Train it again

${
  training === null
    ? 'The checkpoint does not tell how it was trained.'
    : `\`\`\`sh
${training.command}
\`\`\`

${extension ?? `These are the weights after step ${formatCount(globalStep)} of that run. ${bits}`}`
}

Written by Lockstep ${version}.
`;
}

/** The command of a run with this configuration, and its data; null if it is none. */
function trainingOf(
  config: unknown,
): { command: string; dataset: string; hasValidation: boolean; isCosine: boolean } | null {
  try {
    const { dataset, validationSize, schedule } = parseRunConfig(config);
    return {
      command: trainCommandOf(config),
      dataset,
      hasValidation: validationSize > 0,
      isCosine: schedule === 'cosine',
    };
  } catch {
    return null;
  }
}

/**
 * `npx lockstep train …` with all that differs from the defaults.
 *
 * @param config of a run
 * @throws {UserError} if it is none
 */
export function trainCommandOf(config: unknown): string {
  const defaults = new Map(Object.entries<unknown>(flatten(parseRunConfig({}))));
  const flags = Object.entries<unknown>(flatten(parseRunConfig(config))).flatMap(([key, value]) => {
    const text = textOf(value);
    return text === textOf(defaults.get(key)) ? [] : [`${flagName(key)} ${quoted(text)}`];
  });
  return ['npx lockstep train', ...flags].join(' ');
}

/** One word of a shell; what could end a line or a block of code is escaped as Bash, Zsh and newer shells read it. */
function quoted(text: string): string {
  if (/^[\w.,/:@%+-]+$/.test(text)) return text;
  if (!/[\p{C}`]/u.test(text)) return `'${text.replaceAll("'", `'\\''`)}'`;
  const bytes = [...Buffer.from(text)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`);
  return `$'${bytes.join('')}'`;
}

/** Blocks of YAML 1.2; texts stand as in JSON, which is YAML too. */
function yaml(value: object, indent = ''): string {
  return Object.entries(value)
    .map(([key, part]: [string, unknown]) => {
      const name = Array.isArray(value) ? `${indent}- ` : `${indent}${key}: `;
      if (typeof part !== 'object' || part === null) return `${name}${JSON.stringify(part)}\n`;
      const block = yaml(part, `${indent}  `);
      // The first line of what is in a list stands beside its dash.
      return Array.isArray(value) ? name + block.trimStart() : `${name.trimEnd()}\n${block}`;
    })
    .join('');
}

function escapeMarkdown(text: string): string {
  return printable(text).replace(/[\\`*_[\]<>#|~&$]/g, '\\$&');
}

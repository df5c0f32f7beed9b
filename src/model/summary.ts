/**
 * A model as a table: what `lockstep summary` prints.
 */
import { formatCount } from '../shared/format.js';
import { formatTable } from '../shared/table.js';
import { area, LENET5, MNIST, type Layer, type Model } from './lenet.js';

export interface SummaryRow {
  /** `C1: Conv` */
  readonly layer: string;
  readonly description: string;
  /** `1×6×14×14`: images, channels, height, width; or the length of a vector. */
  readonly input: string;
  readonly output: string;
  readonly numWeights: number;
  /** How a convolution comes to its weights: `6·1·5·5+6`; null elsewhere. */
  readonly formula: string | null;
  /** FLOPs, counted as multiply–adds of one image's forward pass. */
  readonly numMultiplyAdds: number;
}

export interface Summary {
  readonly rows: readonly SummaryRow[];
  readonly numWeights: number;
  readonly numMultiplyAdds: number;
}

export function summarize(model: Model): Summary {
  return {
    rows: [inputRow(model), ...model.layers.map(rowOf)],
    numWeights: model.numParams,
    numMultiplyAdds: model.numMultiplyAdds,
  };
}

const HEADINGS = ['Layer', 'Description', 'Input', 'Output', 'Weights', 'FLOPs (multiply–adds)'];
const NUM_TEXT_COLUMNS = 4;

/** The table in plain text, numbers to the right, with the remarks that belong to it; no line break at the end. */
export function formatSummary(model: Model): string {
  const { rows, numWeights, numMultiplyAdds } = summarize(model);
  const cells = rows.map((row) => [
    row.layer,
    row.description,
    row.input,
    row.output,
    (row.formula === null ? '' : `${row.formula} = `) + formatCount(row.numWeights),
    formatCount(row.numMultiplyAdds),
  ]);
  const total = ['Total', '', '', '', formatCount(numWeights), formatCount(numMultiplyAdds)];
  const table = [HEADINGS, ...cells, total];
  const rule = HEADINGS.map((_, column) =>
    '─'.repeat(Math.max(...table.map((row) => row[column].length))),
  );
  const ruled = [HEADINGS, rule, ...cells, rule, total];
  const { activation } = model.hyperparameters;
  const remarks = [
    `A ${activation} follows every convolution and every fully connected layer but the last.`,
    ...(isLenet5(model) ? [COURSE_NOTE_REMARK] : []),
  ];
  return [...formatTable(ruled, (column) => column >= NUM_TEXT_COLUMNS), '', ...remarks].join('\n');
}

const COURSE_NOTE_REMARK = 'The course note states 61,686 weights; its own rows add up to 61,706.';

/** Whether the note's table is about this model; activation and pooling have no weights. */
function isLenet5({ hyperparameters, input, numClasses }: Model): boolean {
  const { activation, pool } = LENET5;
  return (
    JSON.stringify([
      { ...hyperparameters, activation, pool },
      { input, numClasses },
    ]) === JSON.stringify([LENET5, MNIST])
  );
}

/** By the number of channels. */
const IMAGES = ['grey image', 'grey image with alpha', 'RGB image', 'RGB image with alpha'];

function inputRow({ hyperparameters, input }: Model): SummaryRow {
  const { padding } = hyperparameters;
  const { channels, height, width } = input;
  const [paddedHeight, paddedWidth] = [height + 2 * padding, width + 2 * padding];
  const shape = cube(channels, paddedHeight, paddedWidth);
  const padded = padding > 0 ? `, padded to ${area(paddedHeight, paddedWidth)}` : '';
  return {
    layer: 'Input',
    description: `${area(height, width)} ${IMAGES[channels - 1]}${padded}`,
    input: shape,
    output: shape,
    numWeights: 0,
    formula: null,
    numMultiplyAdds: 0,
  };
}

function rowOf(layer: Layer): SummaryRow {
  switch (layer.kind) {
    case 'conv': {
      const { inChannels, inHeight, inWidth, padding, kernelSize, stride } = layer;
      const { outChannels, outHeight, outWidth } = layer;
      const fanIn = inChannels * kernelSize * kernelSize;
      return {
        layer: `${layer.name}: Conv`,
        description: `${outChannels} filters ${area(kernelSize, kernelSize)}, stride ${stride}`,
        input: cube(inChannels, inHeight + 2 * padding, inWidth + 2 * padding),
        output: cube(outChannels, outHeight, outWidth),
        numWeights: layer.weights.length + layer.biases.length,
        formula: `${outChannels}·${inChannels}·${kernelSize}·${kernelSize}+${outChannels}`,
        numMultiplyAdds: outChannels * outHeight * outWidth * fanIn,
      };
    }
    case 'pool':
      return {
        layer: `${layer.name}: Pooling`,
        description: `2×2 ${layer.pool === 'avg' ? 'average' : 'maximum'}, stride 2`,
        input: cube(layer.channels, layer.inHeight, layer.inWidth),
        output: cube(layer.channels, layer.outHeight, layer.outWidth),
        numWeights: 0,
        formula: null,
        numMultiplyAdds: 0,
      };
    case 'dense':
      return {
        layer: layer.activation === null ? layer.name : `${layer.name}: Fully connected`,
        description: `${layer.numInputs} → ${layer.numOutputs}`,
        input: String(layer.numInputs),
        output: String(layer.numOutputs),
        numWeights: layer.weights.length + layer.biases.length,
        formula: null,
        numMultiplyAdds: layer.numInputs * layer.numOutputs,
      };
  }
}

function cube(channels: number, height: number, width: number): string {
  return `1×${channels}×${area(height, width)}`;
}

/** A trained model, ready to use. */
import { findCheckpoint, modelOf, weightsSha256, type Checkpoint } from '../model/checkpoint.js';
import type { Split } from '../model/data/dataset.js';
import { createSimdEngine } from '../model/engine/simd/node.js';
import { evaluateSplit, reportOf, type Report } from '../model/evaluation.js';
import { exportModel, type ExportedFile } from '../model/export/export.js';
import type { ExportFormat } from '../model/export/format.js';
import type { InputShape } from '../model/lenet.js';
import { fileStorage } from '../shared/node/storage.js';

export interface Prediction {
  /** Of the class, from 0. */
  readonly index: number;
  /** Of the class. */
  readonly name: string;
  readonly probability: number;
  /** (numClasses,) */
  readonly probabilities: Float32Array;
}

export interface TrainedModel {
  readonly checkpoint: Checkpoint;
  readonly classNames: readonly string[];
  readonly input: InputShape;
  /** Of the weights, hex. */
  readonly sha256: string;
  /**
   * @param images n images, (n, channels, height, width) bytes
   * @returns n predictions
   * @throws {RangeError} if the bytes are no whole images
   */
  predict(images: Uint8Array): Prediction[];
  /** Accuracy, loss, confusion matrix and each class, on images with labels. */
  evaluate(split: Split): Promise<Report & { readonly loss: number }>;
  /** The files of the model in some formats, with a model card. */
  export(...formats: readonly ExportFormat[]): ExportedFile[];
}

/**
 * The model in a checkpoint, or of a run: its best checkpoint, else its last.
 *
 * @throws {UserError} if there is none
 */
export async function loadModel(path: string): Promise<TrainedModel> {
  const { checkpoint } = await findCheckpoint(fileStorage, path, (message) =>
    process.emitWarning(message),
  );
  return modelFrom(checkpoint);
}

/** The model in a checkpoint that is in memory, such as `train` returns. */
export function modelFrom(checkpoint: Checkpoint): TrainedModel {
  const { classNames, input } = checkpoint;
  const engine = createSimdEngine(modelOf(checkpoint), { numGradients: 0 });
  engine.setParams(checkpoint.params);
  return {
    checkpoint,
    classNames,
    input,
    sha256: weightsSha256(checkpoint.params),
    predict(images) {
      const all = engine.predict(images);
      const numClasses = classNames.length;
      return Array.from({ length: all.length / numClasses }, (_, image) => {
        const probabilities = all.slice(image * numClasses, (image + 1) * numClasses);
        const probability = Math.max(...probabilities);
        const index = probabilities.indexOf(probability);
        return { index, name: classNames[index], probability, probabilities };
      });
    },
    async evaluate(split) {
      const { loss, predictions } = await evaluateSplit(engine, split);
      return { loss, ...reportOf(split.labels, predictions, classNames) };
    },
    export: (...formats) => exportModel(checkpoint, formats),
  };
}

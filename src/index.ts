/**
 * Lockstep as a library: `import { train, loadModel } from 'lockstep'`. docs/library.md
 *
 * What stands here is kept; anything else in dist/ may change with any version.
 */
export { train, type TrainOptions, type TrainOutcome } from './library/train.js';
export {
  loadModel,
  modelFrom,
  type Prediction,
  type TrainedModel,
} from './library/trained-model.js';
export type { Observer, RunEvent, RunResult } from './coordinator/events.js';
export {
  decodeCheckpoint,
  encodeCheckpoint,
  weightsSha256,
  type Checkpoint,
} from './model/checkpoint.js';
export type { Dataset, Split } from './model/data/dataset.js';
export { loadDataset } from './model/data/load.js';
export type { Loading, PictureOptions } from './model/data/picture-set.js';
export type { Report } from './model/evaluation.js';
export { exportModel, type ExportedFile } from './model/export/export.js';
export { EXPORT_FORMATS, type ExportFormat } from './model/export/format.js';
export { buildModel, type Hyperparameters, type Model } from './model/lenet.js';
export { readPyTorchWeights } from './model/pytorch-weights.js';
export type { RunConfig } from './shared/config.js';
export { UserError } from './shared/errors.js';
export { version } from './shared/node/version.js';

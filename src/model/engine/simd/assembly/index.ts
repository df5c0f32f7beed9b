/** What simd.wasm exports. The host owns the memory and hands in addresses (bytes); nothing is allocated here. */
export { convBackwardWeights, convForward, flipWeights } from './conv';
export {
  activateBackward,
  activateForward,
  denseBackwardWeights,
  denseProduct,
  transposeLanes,
} from './dense';
export { lossBackward, softmax } from './loss';
export { loadPixels } from './pixels';
export { poolBackward, poolForward } from './pool';
export { reduceLanes } from './sums';
export { adam, add, divide, momentum, poison, sgd } from './vector';
export { winogradInput, winogradOutput, winogradProduct } from './winograd';
export {
  winogradInputBackward,
  winogradOutputBackward,
  winogradProductBackward,
  winogradWeightProduct,
} from './winograd-backward';
export {
  rowsForward,
  rowsInput,
  rowsOutputBackward,
  rowsWeightProduct,
  rowsWeights,
  rowsWeightsBackward,
} from './winograd-rows';
export { winogradWeights, winogradWeightsBackward } from './winograd-weights';

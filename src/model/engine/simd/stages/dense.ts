/** Dense layer and activation: assembly/dense.ts. */
import type { DenseLayer } from '../../../lenet.js';
import type { Layout } from '../wasm.js';
import {
  F32,
  LANES,
  MAX_GROUPS,
  V128,
  activationCode,
  type Ends,
  type PlannedStage,
} from './stage.js';

export function planDense(
  layout: Layout,
  dense: DenseLayer,
  { input, dInput, output, dOutput, params }: Ends,
): PlannedStage {
  const { numInputs, numOutputs } = dense;
  const weights = params + dense.weights.offset * F32;
  const biases = params + dense.biases.offset * F32;
  const activation = activationCode(dense.activation);
  const rowBytes = numInputs * F32;
  const rows = layout.take(LANES * MAX_GROUPS * Math.ceil(numInputs / 4) * V128);

  return (kernels) => ({
    name: dense.name,
    prepare() {
      // The weights are read where they lie.
    },
    forward({ numGroups }) {
      // prettier-ignore
      kernels.denseProduct(
        input.address, numInputs, weights, rowBytes, F32, biases,
        output.address, numOutputs, numGroups,
      );
      kernels.activateForward(output.address, numOutputs * numGroups, activation);
    },
    backward({ numGroups, numImages, isFirst }, gradient) {
      // From da to dz, in place.
      const dz = dOutput.address;
      kernels.activateBackward(dz, output.address, numOutputs * numGroups, activation);
      kernels.transposeLanes(input.address, numInputs, numGroups, rows);
      // prettier-ignore
      kernels.denseBackwardWeights(
        rows, numInputs, dz, numGroups, numOutputs, numImages,
        gradient + dense.weights.offset * F32, gradient + dense.biases.offset * F32, isFirst,
      );
      if (dInput !== null) {
        // prettier-ignore
        kernels.denseProduct(
          dz, numOutputs, weights, F32, rowBytes, 0, dInput.address, numInputs, numGroups,
        );
      }
    },
    finish() {
      // The gradient is already in its place.
    },
  });
}

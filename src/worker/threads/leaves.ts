/**
 * The work of each thread of a computation: it takes leaves of the plan until none is left, and adds two halves when it
 * finishes the second. The event-loop thread does so too, and handles frames between micro-batches.
 */
import { proveEngine } from '../../model/engine/proof.js';
import type { SimdEngine } from '../../model/engine/simd/engine.js';
import { createSharedKernels, createSimdEngine } from '../../model/engine/simd/node.js';
import type { Kernels } from '../../model/engine/simd/wasm.js';
import { TreeSum, addLoss } from '../../model/engine/tree-sum.js';
import { Regularizer } from '../../model/regularizer.js';
import type { Range } from '../../shared/protocol.js';
import type { SampleCache } from '../sample-cache.js';
import {
  CALLS,
  CONTROL,
  NODE,
  NODE_FIELDS,
  paramsOf,
  slotOf,
  type SharedState,
} from './shared-state.js';

/** Gradients of an engine: the sum of a leaf, and one for each level of the tree within it, up to 2^16 micro-batches. */
const NUM_GRADIENTS = 17;

/** Asked between micro-batches: whether the work is still wanted. */
type Proceed = () => Promise<boolean> | boolean;

export class Leaves {
  samples: SampleCache | null = null;
  private readonly state: SharedState;
  private readonly thread: number;
  private readonly engine: SimdEngine;
  /** Over the slots. */
  private readonly shared: Kernels;
  private readonly treeSum: TreeSum;
  private readonly regularizer: Regularizer;
  private paramsSeen = 0;
  private batch = { images: new Uint8Array(0), labels: new Uint16Array(0) };
  private readonly nodeDone: () => void;

  /** @param nodeDone called when the sum of a node that was asked for is done */
  constructor(state: SharedState, thread: number, nodeDone: () => void) {
    this.state = state;
    this.thread = thread;
    this.nodeDone = nodeDone;
    this.engine = createSimdEngine(state.model, { numGradients: NUM_GRADIENTS });
    this.shared = createSharedKernels(state.memory);
    this.treeSum = new TreeSum(this.engine);
    this.regularizer = new Regularizer(state.model, state.regularization);
  }

  /** Does this thread's part of the call. */
  async work(proceed: Proceed): Promise<void> {
    const { control, model } = this.state;
    if (control[CONTROL.kind] === CALLS.prove) {
      await this.prove();
      return;
    }
    if (this.paramsSeen !== control[CONTROL.params]) {
      this.engine.setParams(paramsOf(this.state, model.numParams));
      this.paramsSeen = control[CONTROL.params];
    }
    const isStep = control[CONTROL.kind] === CALLS.step;
    while (await proceed()) {
      const leaf = Atomics.add(control, CONTROL.nextLeaf, 1);
      if (leaf >= control[CONTROL.numLeaves]) return;
      if (!isStep) this.evaluate(leaf);
      else if (!(await this.sum(leaf, proceed))) return;
    }
  }

  private async prove(): Promise<void> {
    const { state, engine, regularizer } = this;
    const proofSeed = state.control[CONTROL.proofSeed] >>> 0;
    slotOf(state, state.model.numParams, this.thread).set(
      await proveEngine(engine, proofSeed, regularizer),
    );
    this.paramsSeen = 0;
  }

  /** @returns false if it was given up */
  private async sum(leaf: number, proceed: Proceed): Promise<boolean> {
    const { plan } = this.state;
    const range = [plan[leaf * NODE_FIELDS + NODE.lo], plan[leaf * NODE_FIELDS + NODE.hi]] as const;
    const batchOf = (units: Range) => this.batchOf(units);
    const partial = await this.treeSum.sum(range, batchOf, proceed);
    if (!partial) return false;
    this.gradientOf(leaf).set(partial.gradient);
    this.note(leaf, partial);
    let node = leaf;
    for (;;) {
      const parent = plan[node * NODE_FIELDS + NODE.parent];
      if (parent < 0) {
        Atomics.store(plan, node * NODE_FIELDS + NODE.isDone, 1);
        this.nodeDone();
        return true;
      }
      // The thread that finishes the second half adds; the first one continues with the next leaf.
      if (Atomics.add(plan, parent * NODE_FIELDS + NODE.numArrived, 1) === 0) return true;
      const left = plan[parent * NODE_FIELDS + NODE.left];
      const right = plan[parent * NODE_FIELDS + NODE.right];
      const { byteOffset, length } = this.gradientOf(left);
      this.shared.add(byteOffset, this.gradientOf(right).byteOffset, length);
      this.note(parent, addLoss(this.lossOf(left), this.lossOf(right)));
      node = parent;
    }
  }

  private evaluate(leaf: number): void {
    const { control, numImages, lossSums, predictions } = this.state;
    const begin = leaf * control[CONTROL.unitSize];
    const { images, labels } = this.gather(begin, begin + numImages[leaf]);
    const evaluation = this.engine.evaluate(images, labels);
    lossSums[leaf] = evaluation.lossSum;
    predictions.set(evaluation.predictions, begin);
  }

  /** The images of a range of micro-batches. */
  private batchOf([lo, hi]: Range) {
    const { control, indices } = this.state;
    const unitSize = control[CONTROL.unitSize];
    const begin = lo * unitSize;
    const end = Math.min(hi * unitSize, control[CONTROL.numImages]);
    const epoch = control[CONTROL.epoch] >>> 0;
    return this.regularizer.apply(this.gather(begin, end), indices.subarray(begin, end), epoch);
  }

  private gather(begin: number, end: number) {
    const samples = this.samples!;
    if (this.batch.labels.length < end - begin) this.batch = samples.createBatch(end - begin);
    return samples.gather(this.state.indices.subarray(begin, end), this.batch);
  }

  private gradientOf(node: number): Float32Array {
    const { state } = this;
    return slotOf(state, state.model.numParams, state.plan[node * NODE_FIELDS + NODE.slot]);
  }

  private lossOf(node: number) {
    const { lossSums, numCorrect, numImages } = this.state;
    return {
      lossSum: lossSums[node],
      numCorrect: numCorrect[node],
      numImages: numImages[node],
    };
  }

  private note(node: number, loss: ReturnType<Leaves['lossOf']>): void {
    const { lossSums, numCorrect, numImages } = this.state;
    lossSums[node] = loss.lossSum;
    numCorrect[node] = loss.numCorrect;
    numImages[node] = loss.numImages;
  }
}

/**
 * The shared state of a computation's threads: θ and a slot for each leaf's sum, in one WebAssembly memory; and the plan of
 * the current work. Each thread's engine has a memory of its own.
 */
import { Layout, createMemory, type WasmMemory } from '../../model/engine/simd/wasm.js';
import type { Model } from '../../model/lenet.js';
import type { Regularization } from '../../shared/config.js';
import { MAX_LEAVES, maxLeavesOf, type PlanNode } from './plan.js';

const MAX_NODES = 2 * MAX_LEAVES;
/** Sample indices of a step, and images of the leaves of an evaluation. */
export const MAX_IMAGES = 1 << 18;

/** Fields of `control`. */
export const CONTROL = {
  /** Counts the calls; threads sleep on it. */
  call: 0,
  /** One of `CALLS`. */
  kind: 1,
  /** The leaf to be taken next. */
  nextLeaf: 2,
  numLeaves: 3,
  /** Counts the θs. */
  params: 4,
  /** Counts the sample caches. */
  samples: 5,
  /** 1 once the work is no longer wanted. */
  isAborted: 6,
  proofSeed: 7,
  unitSize: 8,
  /** Images of a step's batch. */
  numImages: 9,
  /** Of a step. */
  epoch: 10,
  /** Threads, besides the main one, that have not done their part of the call. */
  numBusy: 11,
  /** 1 while the main thread has nothing to do and is to be told. */
  isMainAsleep: 12,
  /** 1 once a thread has failed, and has said why. */
  hasFailed: 13,
} as const;
const NUM_CONTROLS = 16;

export const CALLS = { prove: 0, step: 1, evaluate: 2 } as const;

/** Fields of a node in `plan`. */
export const NODE = {
  lo: 0,
  hi: 1,
  parent: 2,
  left: 3,
  right: 4,
  slot: 5,
  numArrived: 6,
  isDone: 7,
} as const;
export const NODE_FIELDS = 8;

/** All that a thread is started with; a structured clone shares its memory. */
export interface SharedState {
  readonly model: Model;
  readonly regularization: Regularization;
  readonly memory: WasmMemory;
  /** Address of θ (P,). */
  readonly params: number;
  /** Leaves that may be under way at a time: as many slots there are, in which the threads' proofs fit, too. */
  readonly maxLeaves: number;
  /** Address of the (maxLeaves, P) slots. */
  readonly slots: number;
  readonly control: Int32Array;
  /** (MAX_NODES, NODE_FIELDS) */
  readonly plan: Int32Array;
  /** (MAX_NODES,) each */
  readonly lossSums: Float32Array;
  readonly numCorrect: Int32Array;
  readonly numImages: Int32Array;
  /** (n,) of the step, or of the leaves of an evaluation one after the other */
  readonly indices: Uint32Array;
  readonly predictions: Uint16Array;
}

export function createSharedState(
  model: Model,
  regularization: Regularization,
  numThreads: number,
): SharedState {
  const P = 4 * model.numParams;
  const layout = new Layout();
  const params = layout.take(P);
  const maxLeaves = maxLeavesOf(numThreads, model.numParams);
  const slots = layout.take(maxLeaves * P);
  const int32 = (length: number) => new Int32Array(new SharedArrayBuffer(4 * length));
  return {
    model,
    regularization,
    memory: createMemory(layout.bytes, true),
    params,
    maxLeaves,
    slots,
    control: int32(NUM_CONTROLS),
    plan: int32(MAX_NODES * NODE_FIELDS),
    lossSums: new Float32Array(new SharedArrayBuffer(4 * MAX_NODES)),
    numCorrect: int32(MAX_NODES),
    numImages: int32(MAX_NODES),
    indices: new Uint32Array(new SharedArrayBuffer(4 * MAX_IMAGES)),
    predictions: new Uint16Array(new SharedArrayBuffer(2 * MAX_IMAGES)),
  };
}

export function paramsOf({ memory, params }: SharedState, numParams: number): Float32Array {
  return new Float32Array(memory.buffer, params, numParams);
}

/** (P,) where the sum of a leaf goes. */
export function slotOf(
  { memory, slots }: SharedState,
  numParams: number,
  slot: number,
): Float32Array {
  return new Float32Array(memory.buffer, slots + 4 * numParams * slot, numParams);
}

/** Writes the plan down for the threads. */
export function writePlan({ plan, control }: SharedState, nodes: readonly PlanNode[]): void {
  let numLeaves = 0;
  for (const [index, { range, parent, left, right }] of nodes.entries()) {
    if (left < 0) numLeaves++;
    // The sum of a node replaces that of its first leaf.
    let slot = index;
    while (nodes[slot].left >= 0) slot = nodes[slot].left;
    const at = index * NODE_FIELDS;
    plan[at + NODE.lo] = range[0];
    plan[at + NODE.hi] = range[1];
    plan[at + NODE.parent] = parent;
    plan[at + NODE.left] = left;
    plan[at + NODE.right] = right;
    plan[at + NODE.slot] = slot;
    plan[at + NODE.numArrived] = 0;
    plan[at + NODE.isDone] = 0;
  }
  control[CONTROL.numLeaves] = numLeaves;
}

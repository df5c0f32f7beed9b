/**
 * One thread of a computation: sleeps until there is work, takes leaves of the plan until none is left, adds the halves
 * of which it brings the second. It blocks, which a thread may: nothing else runs on it.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { proveEngine } from '../../model/engine/proof.js';
import { Regularizer } from '../../model/regularizer.js';
import { TreeSum, addLoss } from '../../model/engine/tree-sum.js';
import { ProtocolError, messageOf } from '../../shared/errors.js';
import type { Range } from '../../shared/protocol.js';
import { SampleCache, type SampleMemory } from '../sample-cache.js';
import {
  CALLS,
  CONTROL,
  NODE,
  NODE_FIELDS,
  createThreadEngine,
  paramsOf,
  slotOf,
  type SharedState,
} from './shared-state.js';

/** What the main thread is told: a node whose sum is done, or that this thread has nothing more to do. */
export type ThreadMessage =
  | { readonly done: number }
  | { readonly idle: true }
  | { readonly failed: string; readonly isProtocolError: boolean };

export interface ThreadStart {
  readonly state: SharedState;
  readonly thread: number;
}

interface Received {
  readonly message: SampleMemory;
}

const { state, thread } = workerData as ThreadStart;
const { model, control, plan, lossSums, numCorrect, numImages } = state;
const port = parentPort!;
const engine = createThreadEngine(state, model, thread);
const treeSum = new TreeSum(engine);
const regularizer = new Regularizer(model, state.regularization);
const params = paramsOf(state, model.numParams);
let paramsSeen = 0;
let samplesSeen = 0;
let samples: SampleCache | null = null;
let batch = { images: new Uint8Array(0), labels: new Uint16Array(0) };

const tell = (message: ThreadMessage) => port.postMessage(message);
const isWanted = () => Atomics.load(control, CONTROL.isAborted) === 0;

tell({ idle: true });
for (let call = 0; ;) {
  Atomics.wait(control, CONTROL.call, call);
  call = Atomics.load(control, CONTROL.call);
  try {
    if (control[CONTROL.kind] === CALLS.prove) await prove();
    else await work();
  } catch (error) {
    tell({ failed: messageOf(error), isProtocolError: error instanceof ProtocolError });
  }
  tell({ idle: true });
}

async function prove(): Promise<void> {
  slotOf(state, model.numParams, thread).set(
    await proveEngine(engine, control[CONTROL.proofSeed] >>> 0, regularizer),
  );
  paramsSeen = 0;
}

async function work(): Promise<void> {
  if (paramsSeen !== control[CONTROL.params]) {
    engine.setParams(params);
    paramsSeen = control[CONTROL.params];
  }
  if (samplesSeen !== control[CONTROL.samples]) {
    // Of several, sent for work that was superseded before it began, the last counts.
    for (let received; (received = receiveMessageOnPort(port) as Received | undefined);) {
      samples = new SampleCache(received.message);
    }
    samplesSeen = control[CONTROL.samples];
  }
  const compute = control[CONTROL.kind] === CALLS.step ? sumLeaf : evaluateLeaf;
  while (isWanted()) {
    const leaf = Atomics.add(control, CONTROL.nextLeaf, 1);
    if (leaf >= control[CONTROL.numLeaves]) return;
    if (!(await compute(leaf))) return;
  }
}

/** @returns false if it was given up */
async function sumLeaf(leaf: number): Promise<boolean> {
  const range = rangeOf(leaf);
  const partial = await treeSum.sum(range, batchOf, isWanted, gradientOf(leaf));
  if (!partial) return false;
  note(leaf, partial);
  let node = leaf;
  for (;;) {
    const parent = plan[node * NODE_FIELDS + NODE.parent];
    if (parent < 0) {
      tell({ done: node });
      return true;
    }
    // Whoever brings the second half adds; the first one goes on with the next leaf.
    if (Atomics.add(plan, parent * NODE_FIELDS + NODE.numArrived, 1) === 0) return true;
    const left = plan[parent * NODE_FIELDS + NODE.left];
    const right = plan[parent * NODE_FIELDS + NODE.right];
    engine.add(gradientOf(left), gradientOf(right));
    note(parent, addLoss(lossOf(left), lossOf(right)));
    node = parent;
  }
}

function evaluateLeaf(leaf: number): boolean {
  const begin = leaf * control[CONTROL.unitSize];
  const { images, labels } = gather(begin, begin + numImages[leaf]);
  const evaluation = engine.evaluate(images, labels);
  lossSums[leaf] = evaluation.lossSum;
  state.predictions.set(evaluation.predictions, begin);
  return true;
}

/** The images of a range of micro-batches. */
function batchOf([lo, hi]: Range) {
  const unitSize = control[CONTROL.unitSize];
  const begin = lo * unitSize;
  const end = Math.min(hi * unitSize, control[CONTROL.numImages]);
  const indices = state.indices.subarray(begin, end);
  return regularizer.apply(gather(begin, end), indices, control[CONTROL.epoch] >>> 0);
}

function gather(begin: number, end: number) {
  if (batch.labels.length < end - begin) batch = samples!.createBatch(end - begin);
  return samples!.gather(state.indices.subarray(begin, end), batch);
}

function rangeOf(node: number): Range {
  const at = node * NODE_FIELDS;
  return [plan[at + NODE.lo], plan[at + NODE.hi]];
}

function gradientOf(node: number): Float32Array {
  return slotOf(state, model.numParams, plan[node * NODE_FIELDS + NODE.slot]);
}

function lossOf(node: number) {
  return {
    lossSum: lossSums[node],
    numCorrect: numCorrect[node],
    numImages: numImages[node],
  };
}

function note(node: number, loss: ReturnType<typeof lossOf>): void {
  lossSums[node] = loss.lossSum;
  numCorrect[node] = loss.numCorrect;
  numImages[node] = loss.numImages;
}

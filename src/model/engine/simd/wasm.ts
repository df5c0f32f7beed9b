/**
 * The WebAssembly module behind the `simd` engine and the vector operations: its exports, and the layout of its
 * memory. The compiled module is an argument: node.ts reads it from a file, a browser fetches it.
 *
 * The module (assembly/) allocates nothing. The host creates the memory at its full size, so that no view of it is ever
 * detached, and hands addresses to the kernels. Pages that are never touched cost nothing.
 */
/** Addresses and distances are in bytes, counts in elements; shapes stand beside the kernels in assembly/. */
export interface Kernels {
  loadPixels(
    images: number,
    count: number,
    channels: number,
    height: number,
    width: number,
    x: number,
    padding: number,
  ): void;
  convForward(
    input: number,
    rowBytes: number,
    stepBytes: number,
    weights: number,
    biases: number,
    output: number,
    height: number,
    width: number,
    numOutputs: number,
    taps: number,
    numTaps: number,
  ): void;
  convBackwardWeights(
    input: number,
    rowBytes: number,
    stepBytes: number,
    dz: number,
    dzBytes: number,
    dzRowBytes: number,
    dzStepBytes: number,
    height: number,
    width: number,
    numOutputs: number,
    taps: number,
    numTaps: number,
    quads: number,
    numQuads: number,
    sums: number,
  ): void;
  flipWeights(
    weights: number,
    flipped: number,
    numOutputs: number,
    numInputs: number,
    kernelSize: number,
  ): void;
  poolForward(
    z: number,
    pooled: number,
    pooledStep: number,
    height: number,
    width: number,
    channels: number,
    activation: number,
    isMax: boolean,
  ): void;
  poolBackward(
    s: number,
    dPooled: number,
    dPooledStep: number,
    height: number,
    width: number,
    channels: number,
    dz: number,
    dzBytes: number,
    dzRowBytes: number,
    dzStepBytes: number,
    biasSums: number,
  ): void;
  winogradInput(
    input: number,
    groupBytes: number,
    channels: number,
    height: number,
    width: number,
    tilesPerColumn: number,
    tilesPerRow: number,
    firstRow: number,
    numRows: number,
    v: number,
    vChannels: number,
    blockTiles: number,
    temp: number,
  ): void;
  winogradProduct(
    v: number,
    channels: number,
    vChannels: number,
    blockTiles: number,
    u: number,
    m: number,
    outputs: number,
  ): void;
  winogradOutput(
    m: number,
    paddedOutputs: number,
    outputs: number,
    biases: number,
    firstTile: number,
    numTiles: number,
    tilesPerGroup: number,
    s: number,
    pooled: number,
    groupBytes: number,
    pooledStep: number,
    activation: number,
    isMax: boolean,
    temp: number,
  ): void;
  winogradOutputBackward(
    s: number,
    dPooled: number,
    groupBytes: number,
    dPooledStep: number,
    outputs: number,
    firstTile: number,
    numTiles: number,
    tilesPerGroup: number,
    dm: number,
    paddedOutputs: number,
    blockTiles: number,
    biasSums: number,
  ): void;
  winogradWeightProduct(
    dm: number,
    outputs: number,
    v: number,
    vChannels: number,
    blockTiles: number,
    numTiles: number,
    du: number,
  ): void;
  winogradProductBackward(
    dm: number,
    outputs: number,
    ut: number,
    dv: number,
    vChannels: number,
    blockTiles: number,
    numTiles: number,
  ): void;
  winogradInputBackward(
    dv: number,
    vChannels: number,
    blockTiles: number,
    dInput: number,
    groupBytes: number,
    channels: number,
    height: number,
    width: number,
    tilesPerColumn: number,
    tilesPerRow: number,
    firstRow: number,
    numRows: number,
    temp: number,
  ): void;
  winogradWeights(
    w: number,
    outputs: number,
    channels: number,
    paddedOutputs: number,
    vChannels: number,
    u: number,
    ut: number,
    temp: number,
  ): void;
  winogradWeightsBackward(
    du: number,
    outputs: number,
    channels: number,
    paddedOutputs: number,
    vChannels: number,
    dw: number,
    temp: number,
  ): void;
  rowsInput(input: number, width: number, rows: number, numTiles: number, v: number): void;
  rowsForward(
    v: number,
    rows: number,
    numTiles: number,
    u: number,
    biases: number,
    outputs: number,
    z: number,
    numQ: number,
    temp: number,
  ): void;
  rowsOutputBackward(dz: number, outputs: number, numQ: number, dm: number): void;
  rowsWeightProduct(
    dm: number,
    outputs: number,
    numQ: number,
    v: number,
    rows: number,
    numTiles: number,
    du: number,
  ): void;
  rowsWeights(w: number, outputs: number, u: number): void;
  rowsWeightsBackward(du: number, outputs: number, dw: number): void;
  denseProduct(
    x: number,
    numSteps: number,
    w: number,
    rowBytes: number,
    stepBytes: number,
    biases: number,
    y: number,
    numRows: number,
    numGroups: number,
  ): void;
  activateForward(z: number, count: number, activation: number): void;
  activateBackward(da: number, a: number, count: number, activation: number): void;
  transposeLanes(x: number, numInputs: number, numGroups: number, rows: number): void;
  denseBackwardWeights(
    rows: number,
    numInputs: number,
    dz: number,
    numGroups: number,
    numOutputs: number,
    numImages: number,
    dw: number,
    db: number,
    isFirst: boolean,
  ): void;
  softmax(
    logits: number,
    numClasses: number,
    numGroups: number,
    labels: number,
    losses: number,
    predictions: number,
  ): void;
  lossBackward(
    p: number,
    numClasses: number,
    numGroups: number,
    labels: number,
    numImages: number,
  ): void;
  reduceLanes(sums: number, out: number, count: number): void;
  add(sum: number, term: number, count: number): void;
  divide(x: number, divisor: number, count: number): void;
  sgd(params: number, gradient: number, rate: number, decay: number, count: number): void;
  momentum(
    params: number,
    velocity: number,
    gradient: number,
    momentum: number,
    rate: number,
    decay: number,
    count: number,
  ): void;
  adam(
    params: number,
    mean: number,
    meanSquare: number,
    gradient: number,
    beta1: number,
    rest1: number,
    beta2: number,
    rest2: number,
    rate: number,
    scale: number,
    epsilon: number,
    decay: number,
    count: number,
  ): void;
  poison(x: number, count: number): number;
}

/** The part of the WebAssembly interface that is used here; TypeScript has it in the DOM's library only. */
declare const WebAssembly: {
  Instance: new (module: WasmModule, imports: object) => { readonly exports: unknown };
  Memory: new (size: { initial: number; maximum: number; shared?: boolean }) => WasmMemory;
};

/** A compiled simd.wasm, or simd-shared.wasm for a memory that threads share: a `WebAssembly.Module`. */
export type WasmModule = object;

export interface WasmMemory {
  readonly buffer: ArrayBuffer;
}

const PAGE_BYTES = 65536;
const MAX_PAGES = 65536;
/** What WebAssembly can address. */
export const MAX_MEMORY_BYTES = PAGE_BYTES * MAX_PAGES;

/** Hands out 16-byte aligned addresses, ascending; address 0 stands for "none" and is never handed out. */
export class Layout {
  #end = 16;

  /** Where the next thing would go. */
  get bytes(): number {
    return this.#end;
  }

  /** @param bytes room for so many; zeroed, as memory is fresh */
  take(bytes: number): number {
    const address = this.#end;
    this.#end += Math.ceil(bytes / 16) * 16;
    return address;
  }
}

export interface Instance {
  readonly kernels: Kernels;
  readonly buffer: ArrayBuffer;
}

/** The kernels over a memory. */
export function instantiate(module: WasmModule, memory: WasmMemory): Instance {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  return { kernels: exports as Kernels, buffer: memory.buffer };
}

/**
 * A fresh, zeroed memory of at least `bytes`.
 *
 * @throws {RangeError} if WebAssembly cannot address so much
 */
export function createMemory(bytes: number, shared = false): WasmMemory {
  const pages = Math.ceil(bytes / PAGE_BYTES);
  if (pages > MAX_PAGES) {
    throw new RangeError(
      `Cannot place ${bytes} bytes in WebAssembly memory, which ends at ${MAX_MEMORY_BYTES}; ` +
        'take a smaller model',
    );
  }
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
}

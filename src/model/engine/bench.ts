/**
 * How fast an engine is here: images/s of gradients and evaluations for each size of call, and the time of each layer.
 * Returns data only; the caller prints it.
 *
 * On a shared machine, the shortest of many repetitions shows what the engine can do, the median what it achieved.
 */
import type { Engine } from './engine.js';
import { imageBytes, type DataShape } from '../lenet.js';
import type { StageTime } from './simd/engine.js';

export const BENCH_SIZES: readonly number[] = [1, 4, 8, 16, 32, 64];

export interface Throughput {
  /** From the shortest repetition. */
  readonly best: number;
  readonly median: number;
}

export interface SizeBench {
  /** Images in each call. */
  readonly numImages: number;
  /** images/s */
  readonly gradient: Throughput;
  /** images/s */
  readonly evaluation: Throughput;
}

export interface EngineBench {
  readonly sizes: readonly SizeBench[];
  /** Shortest times for the 16 images of one call; empty if the engine cannot tell. */
  readonly layers: readonly StageTime[];
  /** Of one `setParams`, shortest. */
  readonly setParamsMs: number;
}

export interface EngineBenchOptions {
  readonly sizes?: readonly number[];
  readonly timing?: TimingOptions;
}

interface TimingOptions {
  /** Time for each figure; the first tenth warms up. */
  readonly msPerFigure?: number;
  /** In milliseconds, ascending. */
  readonly now?: () => number;
  /** Breaks it off, between two repetitions. */
  readonly signal?: AbortSignal;
}

/** Between pauses in which signals are heard, ms. */
const PAUSE_EVERY_MS = 200;

/** An engine that can time its layers, as `simd` can. */
interface Profiled {
  profile(images: Uint8Array, labels: Uint16Array): StageTime[];
}

/** @param params θ (P,), which the engine then holds */
export async function benchEngine(
  engine: Engine & Partial<Profiled>,
  params: Float32Array,
  { sizes = BENCH_SIZES, timing = {} }: EngineBenchOptions = {},
): Promise<EngineBench> {
  engine.setParams(params);
  const results: SizeBench[] = [];
  for (const numImages of sizes) {
    const { images, labels } = benchImages(engine.model, numImages);
    const evaluate = () => engine.evaluate(images, labels);
    results.push({
      numImages,
      gradient: await benchGradient(engine, numImages, timing),
      evaluation: throughput(numImages, await durationsOf(evaluate, timing)),
    });
  }

  let layers: StageTime[] = [];
  if (engine.profile !== undefined) {
    const { images, labels } = benchImages(engine.model, 16);
    const profile = () => {
      const times = engine.profile!(images, labels);
      layers = times.map((time, index) => ({
        layer: time.layer,
        forwardMs: Math.min(time.forwardMs, layers.at(index)?.forwardMs ?? Infinity),
        backwardMs: Math.min(time.backwardMs, layers.at(index)?.backwardMs ?? Infinity),
      }));
    };
    await durationsOf(profile, timing);
  }
  const [setParamsMs] = await durationsOf(() => engine.setParams(params), timing);
  return { sizes: results, layers, setParamsMs };
}

/** The gradient alone, with so many images a call, of an engine that has its parameters. */
export async function benchGradient(
  engine: Engine,
  numImages: number,
  timing: TimingOptions = {},
): Promise<Throughput> {
  const { images, labels } = benchImages(engine.model, numImages);
  const out = engine.allocateGradient();
  const gradient = () => engine.gradient(images, labels, out);
  return throughput(numImages, await durationsOf(gradient, timing));
}

/** Of repeated calls, ascending, ms. */
async function durationsOf(
  work: () => unknown,
  { msPerFigure = 300, now = () => performance.now(), signal }: TimingOptions,
): Promise<number[]> {
  const durations: number[] = [];
  const start = now();
  let pausedAt = start;
  let warmUp = true;
  for (let end = start; end - start < msPerFigure || durations.length === 0;) {
    const before = now();
    await work();
    end = now();
    if (warmUp && end - start > msPerFigure / 10) warmUp = false;
    else if (!warmUp) durations.push(end - before);
    if (signal && end - pausedAt > PAUSE_EVERY_MS) {
      pausedAt = end;
      await new Promise((resolve) => setTimeout(resolve));
      signal.throwIfAborted();
    }
  }
  return durations.sort((a, b) => a - b);
}

function throughput(numImages: number, durations: readonly number[]): Throughput {
  return {
    best: (1000 * numImages) / durations[0],
    median: (1000 * numImages) / durations[durations.length >> 1],
  };
}

/** Bytes and labels that are no image of anything: time does not depend on them. */
function benchImages({ input, numClasses }: DataShape, numImages: number) {
  return {
    images: Uint8Array.from(
      { length: numImages * imageBytes(input) },
      (_, i) => (i * 97 + (i >> 5)) & 255,
    ),
    labels: Uint16Array.from({ length: numImages }, (_, i) => i % numClasses),
  };
}

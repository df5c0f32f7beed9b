/** How the filters of a run's first convolution developed, in bounded memory. */
import type { RunStarted } from '../events.js';
import type { FilterFrame, Filters } from './update.js';

const MAX_FRAMES = 64;
/** Weights per frame: as many whole filters as fit. */
const MAX_FRAME_WEIGHTS = 2048;
const MAX_FILTERS = 32;

export class FilterHistory {
  private readonly shape: Pick<Filters, 'numFilters' | 'channels' | 'kernelSize'>;
  private readonly current: Float32Array;
  private globalStep = 0;
  private isEmpty = true;
  private frames: FilterFrame[];
  /** Those of `frames` that have not been in an update yet. */
  private fresh: FilterFrame[];
  private interval: number;

  /** @param before the history of the run before it was resumed, whose frames are kept */
  constructor({ config, input }: RunStarted, before: FilterHistory | null) {
    const [numChannels] = config.hyperparameters.channels;
    const { kernelSize } = config.hyperparameters;
    const { channels } = input;
    const fitting = Math.floor(MAX_FRAME_WEIGHTS / (channels * kernelSize ** 2));
    const numFilters = Math.min(numChannels, fitting, MAX_FILTERS);
    this.shape = { numFilters, channels, kernelSize };
    this.current = new Float32Array(numFilters * channels * kernelSize ** 2);
    this.frames = before?.frames ?? [];
    this.fresh = before?.fresh ?? [];
    this.interval = before?.interval ?? 1;
  }

  /**
   * @param params θ, which begins with the weights of the first convolution, (numFilters, C, K, K)
   * @returns whether there is something new to show
   */
  keep(params: Float32Array, globalStep: number): boolean {
    const { length } = this.current;
    if (length === 0 || params.length < length) return false;
    this.current.set(params.subarray(0, length));
    this.globalStep = globalStep;
    this.isEmpty = false;
    const isKnown = this.frames.at(-1)?.globalStep === globalStep;
    if (!isKnown && globalStep % this.interval === 0) this.addFrame();
    return true;
  }

  private addFrame(): void {
    const frame = this.currentFrame();
    this.frames.push(frame);
    this.fresh.push(frame);
    if (this.frames.length <= MAX_FRAMES) return;
    this.interval *= 2;
    const isKept = ({ globalStep }: FilterFrame) => globalStep % this.interval === 0;
    this.frames = this.frames.filter(isKept);
    this.fresh = this.fresh.filter(isKept);
  }

  private currentFrame(): FilterFrame {
    const { buffer, byteOffset, byteLength } = this.current;
    const bytes = Buffer.from(buffer, byteOffset, byteLength);
    return { globalStep: this.globalStep, weights: bytes.toString('base64') };
  }

  /** With all frames; null before the first. */
  all(): Filters | null {
    return this.withFrames(this.frames);
  }

  /** With the frames since the last call; null before the first. */
  takeFresh(): Filters | null {
    const { fresh } = this;
    this.fresh = [];
    return this.withFrames(fresh);
  }

  private withFrames(frames: readonly FilterFrame[]): Filters | null {
    if (this.isEmpty) return null;
    return { ...this.shape, interval: this.interval, current: this.currentFrame(), frames };
  }
}

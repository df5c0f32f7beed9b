/**
 * Parameters in slices: θ and gradients are sent, reduced and updated in parts, one after the other, so that no frame is longer than
 * a slice, and one slice is being sent while the next is computed. By default there is a single slice.
 */
import { bytesOf } from './codec.js';
import { ProtocolError } from './errors.js';
import type { Range } from './protocol.js';

/** More would be all overhead; a coordinator that asks a worker for more means it ill. */
export const MAX_SLICES = 4096;

export class Slices {
  /** [first, end) of each, in order; they cover [0, P). */
  readonly ranges: readonly Range[];

  /**
   * @param sliceValues values of each but the last, which may have fewer
   * @throws {ProtocolError} `malformed` if there would be more than `MAX_SLICES`
   */
  constructor(numParams: number, sliceValues: number) {
    const length = Math.max(1, Math.ceil(numParams / sliceValues));
    if (length > MAX_SLICES) {
      throw new ProtocolError('malformed', `${length} slices of params, at most ${MAX_SLICES}`);
    }
    this.ranges = Array.from({ length }, (_, i): Range => {
      return [i * sliceValues, Math.min((i + 1) * sliceValues, numParams)];
    });
  }

  get last(): Range {
    return this.ranges[this.ranges.length - 1];
  }

  /** All but the last, which travels with the message that they belong to. */
  get early(): readonly Range[] {
    return this.ranges.slice(0, -1);
  }

  get isWhole(): boolean {
    return this.ranges.length === 1;
  }
}

/** The values of one range, not copied. */
export function sliceOf(values: Float32Array, [first, end]: Range): Float32Array {
  return values.subarray(first, end);
}

/** Puts slices together that come in order. */
export class Assembly {
  /** (P,) */
  readonly values: Float32Array;
  private readonly slices: Slices;
  private numSlices = 0;

  constructor(slices: Slices, values: Float32Array) {
    this.slices = slices;
    this.values = values;
  }

  /**
   * @returns which slice it is, from 0
   * @throws {ProtocolError} `malformed` if it is not the next slice; the first begins anew
   */
  take(first: number, bytes: Uint8Array, what: string): number {
    if (first === 0) this.numSlices = 0;
    const index = this.numSlices;
    const range = this.slices.ranges[index];
    const numBytes = 4 * (range[1] - range[0]);
    if (first !== range[0] || bytes.length !== numBytes) {
      throw new ProtocolError(
        'malformed',
        `Wrong slice of ${what}: ${bytes.length} bytes from value ${first} on, expected ${numBytes} from ${range[0]} on`,
      );
    }
    bytesOf(sliceOf(this.values, range)).set(bytes);
    this.numSlices = (index + 1) % this.slices.ranges.length;
    return index;
  }
}

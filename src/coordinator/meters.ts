/**
 * Running estimates over what workers report: how fast each is, and how far its clock is from ours.
 */
import type { Pace } from './planner.js';

/** Weight of a new measurement in a running mean. */
const WEIGHT = 0.2;

/** How fast one worker does one kind of work. */
export class PaceMeter {
  private msPerUnit: number | null = null;
  private overheadMs = 0;
  private hasOverhead = false;

  /** Notes that `numUnits` units took `computeMs` of computing. */
  addCompute(numUnits: number, computeMs: number): void {
    const measured = computeMs / numUnits;
    this.msPerUnit =
      this.msPerUnit === null ? measured : this.msPerUnit + WEIGHT * (measured - this.msPerUnit);
  }

  /** Notes what a whole answer took besides computing, ms. */
  addOverhead(overheadMs: number): void {
    const measured = Math.max(0, overheadMs);
    this.overheadMs = this.hasOverhead
      ? this.overheadMs + WEIGHT * (measured - this.overheadMs)
      : measured;
    this.hasOverhead = true;
  }

  /** Notes that a unit is taking this long and is not done: a worker that stops answering must not stay fast. */
  addUnanswered(msPerUnitAtLeast: number): void {
    if (this.msPerUnit === null || msPerUnitAtLeast > this.msPerUnit) {
      this.addCompute(1, msPerUnitAtLeast);
    }
  }

  paceOf(workerId: string): Pace {
    return { workerId, msPerUnit: this.msPerUnit, overheadMs: this.overheadMs };
  }
}

/** Samples kept of a clock's offset. */
const OFFSET_SAMPLES = 16;

/**
 * Offset of a worker's clock, from pings: of the last round trips the shortest says most, since its two ways can
 * differ least (Mills, RFC 5905, clock filter).
 */
export class ClockOffset {
  private readonly samples: { readonly roundTripMs: number; readonly offsetMs: number }[] = [];

  add(roundTripMs: number, offsetMs: number): void {
    this.samples.push({ roundTripMs, offsetMs });
    if (this.samples.length > OFFSET_SAMPLES) this.samples.shift();
  }

  /** Worker's clock less the coordinator's, ms; 0 before the first ping. */
  get offsetMs(): number {
    let best = { roundTripMs: Infinity, offsetMs: 0 };
    for (const sample of this.samples) if (sample.roundTripMs < best.roundTripMs) best = sample;
    return best.offsetMs;
  }
}

/**
 * Running estimates from the reports of workers: how fast each is, and how far its clock is from ours.
 */
import type { Pace } from '../round/planner.js';

/** Measurements that an estimate is made of: enough to pass over an outlier, few enough to notice a change. */
const WINDOW = 9;
/** Decay of a measured overhead per round without a new one. */
const OVERHEAD_FADES = 0.97;
/** Of the last rounds, so many without an answer that should have come make a worker unreliable. */
const STALLS_TO_DISTRUST = 3;
/** Decay of a stall per round without an answer: it is forgotten after about a thousand rounds. */
const STALL_FADES = 0.999;

/**
 * How fast one worker does one kind of work: the median of its last compute times, and the least of what its last
 * answers took besides. One hiccup of a machine or a network changes neither; a lasting change does within a few steps.
 *
 * A worker that is fast when it answers, but often does not (its machine is busy with something else, by turns), is slow
 * all the same: what was waited for in vain, beyond what its speed explains, counts as overhead, until it has answered
 * in time for most of a window.
 */
export class PaceMeter {
  private readonly computes: number[] = [];
  private readonly overheads: number[] = [];
  /** For each of the last rounds in which it was asked, what was waited for in vain, ms. */
  private readonly stalls: number[] = [];
  private lastMsPerUnit: number | null = null;
  private lastOverheadMs = 0;

  /** Notes that `numUnits` units took `computeMs` of computing. */
  addCompute(numUnits: number, computeMs: number): void {
    this.lastMsPerUnit = computeMs / numUnits;
    push(this.computes, this.lastMsPerUnit);
  }

  /** Notes what a whole answer took besides computing, ms. */
  addOverhead(overheadMs: number): void {
    this.lastOverheadMs = Math.max(0, overheadMs);
    push(this.overheads, this.lastOverheadMs);
  }

  /** Notes a round in which it had answered for all that it was asked. */
  addInTime(): void {
    push(this.stalls, 0);
  }

  /**
   * Notes a round without an answer: what is known of the overhead and of stalls loses weight, so that a worker with an
   * unlucky measurement gets a share again and can be measured anew.
   */
  addSilence(): void {
    this.overheads.forEach((overheadMs, i) => (this.overheads[i] = OVERHEAD_FADES * overheadMs));
    this.stalls.forEach((stallMs, i) => (this.stalls[i] = STALL_FADES * stallMs));
  }

  /** Notes that units take this long and are not done: a worker that stops answering must not stay fast. */
  addUnanswered(numUnits: number, waitedMs: number): void {
    const explainedMs = numUnits * (this.lastMsPerUnit ?? Infinity);
    // The round was over first: it would have taken longer. Where it was over so soon that nobody could have answered,
    // that says nothing.
    if (waitedMs > explainedMs + this.lastOverheadMs)
      push(this.stalls, Math.max(this.stallMs(), waitedMs - explainedMs));
    const msPerUnitAtLeast = waitedMs / numUnits;
    const known = this.msPerUnit();
    if (known === null || msPerUnitAtLeast > known) push(this.computes, msPerUnitAtLeast);
  }

  paceOf(workerId: string): Pace {
    const overheadMs = this.overheads.length > 0 ? Math.min(...this.overheads) : 0;
    return {
      workerId,
      msPerUnit: this.msPerUnit(),
      overheadMs: Math.max(overheadMs, this.stallMs()),
    };
  }

  private stallMs(): number {
    return this.stalls.toSorted((a, b) => b - a).at(STALLS_TO_DISTRUST - 1) ?? 0;
  }

  private msPerUnit(): number | null {
    const sorted = this.computes.toSorted((a, b) => a - b);
    return sorted.at(Math.floor(sorted.length / 2)) ?? null;
  }
}

function push(window: number[], value: number): void {
  window.push(value);
  if (window.length > WINDOW) window.shift();
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

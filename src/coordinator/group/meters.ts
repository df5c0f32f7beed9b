/** Running estimates from workers' messages: how fast each worker is, and how far its clock is from ours. */
import type { Pace } from '../round/planner.js';

/** Measurements per estimate: enough to ignore an outlier, few enough to notice a change. */
const WINDOW = 9;
/** Decay of a measured overhead per round without a new measurement. */
const OVERHEAD_FADES = 0.97;
/** Number of stalls within the window that make a worker unreliable. */
const STALLS_TO_DISTRUST = 3;
/** Decay of a stall per round without an answer: it is forgotten after about a thousand rounds. */
const STALL_FADES = 0.999;

/**
 * One worker's pace at one kind of work: the median of its recent compute times, and the minimum of its recent overheads. A
 * single hiccup of the machine or the network changes neither; a lasting change shows within a few steps.
 *
 * A worker that is fast when it answers, but often does not (because its machine is intermittently busy with something
 * else), is slow all the same: a stall, the time waited in vain beyond what its pace explains, counts as overhead until it
 * has answered in time for most of a window.
 */
export class PaceMeter {
  private readonly computes: number[] = [];
  private readonly overheads: number[] = [];
  /** For each of the last rounds in which it had work, the time waited in vain, ms; 0 if it answered in time. */
  private readonly stalls: number[] = [];
  private lastMsPerUnit: number | null = null;
  private lastOverheadMs = 0;

  addCompute(numUnits: number, computeMs: number): void {
    this.lastMsPerUnit = computeMs / numUnits;
    push(this.computes, this.lastMsPerUnit);
  }

  /** @param overheadMs time of the worker's answers in a round, besides computing */
  addOverhead(overheadMs: number): void {
    this.lastOverheadMs = Math.max(0, overheadMs);
    push(this.overheads, this.lastOverheadMs);
  }

  /** The worker answered all its work of a round. */
  addInTime(): void {
    push(this.stalls, 0);
  }

  /**
   * A round passed without an answer: known overheads and stalls decay, so that a worker with an unlucky measurement gets a
   * share again and can be measured anew.
   */
  addSilence(): void {
    this.overheads.forEach((overheadMs, i) => (this.overheads[i] = OVERHEAD_FADES * overheadMs));
    this.stalls.forEach((stallMs, i) => (this.stalls[i] = STALL_FADES * stallMs));
  }

  /** Units have taken this long and are not done: a worker that stops answering must not keep counting as fast. */
  addUnanswered(numUnits: number, waitedMs: number): void {
    const explainedMs = numUnits * (this.lastMsPerUnit ?? Infinity);
    // A lower bound, as the round ended first. If it ended before the worker could have answered, it tells nothing.
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

const OFFSET_SAMPLES = 16;

/**
 * Offset of a worker's clock, estimated from pings: the shortest of the last round trips gives the best estimate, since its
 * two directions can differ least (Mills, RFC 5905, clock filter).
 */
export class ClockOffset {
  private readonly samples: { readonly roundTripMs: number; readonly offsetMs: number }[] = [];

  add(roundTripMs: number, offsetMs: number): void {
    this.samples.push({ roundTripMs, offsetMs });
    if (this.samples.length > OFFSET_SAMPLES) this.samples.shift();
  }

  /** The worker's clock minus the coordinator's, ms; 0 before the first ping. */
  get offsetMs(): number {
    let best = { roundTripMs: Infinity, offsetMs: 0 };
    for (const sample of this.samples) if (sample.roundTripMs < best.roundTripMs) best = sample;
    return best.offsetMs;
  }
}

/**
 * One round of work, a step's micro-batches or an evaluation's blocks: who holds which unit, what is still open, who
 * is late. Pure: time and paces come in, ranges to hand out go back; it neither sends nor waits.
 *
 * A unit is open until its result is there. Open units that nobody holds are orphans; `handOut` gives them away. A
 * unit may be held by several workers, after `hedge` or `shadow`: the first answer counts.
 */
import type { Range } from '../../shared/protocol.js';
import { planShares, type Pace } from './planner.js';

/** Expected time of a unit from a worker that has never answered, ms. */
const UNKNOWN_MS_PER_UNIT = 50;
/**
 * A worker is late when it takes this many times what was expected, and a few time slices of a busy machine more: work
 * that is done twice is in the way of the others.
 */
const LATE_FACTOR = 2;
const LATE_SLACK_MS = 15;

interface Holding {
  /** Units given to the worker and not answered yet, with how often: a hedge may ask for what an audit asked for. */
  readonly pending: Map<number, number>;
  /** When the worker was given its first pending units. */
  readonly since: number;
  readonly expectedMs: number;
  readonly numGiven: number;
}

export type Shares = ReadonlyMap<string, readonly Range[]>;

export class Round {
  readonly numUnits: number;
  private readonly isDone: (unit: number) => boolean;
  private readonly holdings = new Map<string, Holding>();

  constructor(numUnits: number, isDone: (unit: number) => boolean) {
    this.numUnits = numUnits;
    this.isDone = isDone;
  }

  /** Gives every orphan to one of the workers. */
  handOut(now: number, paces: readonly Pace[]): Shares {
    const held = this.heldUnits();
    const orphans = this.openUnits().filter((unit) => !held.has(unit));
    if (orphans.length === 0) return new Map();
    const shares = planShares(
      orphans,
      paces.map((pace) => this.withPending(pace)),
    );
    this.take(now, shares, paces);
    return shares;
  }

  /**
   * Gives the open units of late workers to idle ones too.
   *
   * @param paces of the workers that may be asked; those that hold something are passed over
   */
  hedge(now: number, paces: readonly Pace[]): Shares {
    const idle = paces.filter(({ workerId }) => this.isIdle(workerId));
    const onTime = new Set<number>();
    for (const holding of this.holdings.values()) {
      if (now < lateAt(holding)) for (const unit of holding.pending.keys()) onTime.add(unit);
    }
    const late = this.openUnits().filter((unit) => !onTime.has(unit));
    if (idle.length === 0 || late.length === 0) return new Map();
    const shares = planShares(late, idle);
    this.take(now, shares, idle);
    return shares;
  }

  /** Gives the worker a unit that another one holds, to see how fast it is; nothing waits for it. */
  shadow(now: number, pace: Pace): Shares {
    const unit = this.openUnits().at(0);
    if (unit === undefined || !this.isIdle(pace.workerId)) return new Map();
    return this.assign(now, pace, [unit, unit + 1]);
  }

  /** Gives the worker a range, whoever else has it. */
  assign(now: number, pace: Pace, range: Range): Shares {
    const shares: Shares = new Map([[pace.workerId, [range]]]);
    this.take(now, shares, [pace]);
    return shares;
  }

  /**
   * Notes that the worker answered for a range.
   *
   * @returns false if it was not asked for each unit of it, or has answered before
   */
  answer(workerId: string, [lo, hi]: Range): boolean {
    const holding = this.holdings.get(workerId);
    if (!holding || hi > this.numUnits) return false;
    for (let unit = lo; unit < hi; unit++) if (!holding.pending.has(unit)) return false;
    for (let unit = lo; unit < hi; unit++) {
      const times = holding.pending.get(unit)! - 1;
      if (times > 0) holding.pending.set(unit, times);
      else holding.pending.delete(unit);
    }
    if (holding.pending.size === 0) this.holdings.delete(workerId);
    return true;
  }

  /** Takes back what the worker holds: it is lost, or its answer was not taken. @returns how many open units */
  release(workerId: string): number {
    const holding = this.holdings.get(workerId);
    if (!holding) return 0;
    this.holdings.delete(workerId);
    return [...holding.pending.keys()].filter((unit) => !this.isDone(unit)).length;
  }

  isIdle(workerId: string): boolean {
    return !this.holdings.has(workerId);
  }

  /** Workers that still hold something, how many units they were given, and for how long they have had them, ms. */
  unanswered(
    now: number,
  ): { readonly workerId: string; readonly numUnits: number; readonly waitedMs: number }[] {
    return [...this.holdings].map(([workerId, { since, numGiven }]) => ({
      workerId,
      numUnits: numGiven,
      waitedMs: now - since,
    }));
  }

  /** When the next worker that holds an open unit will be late; null if none does. */
  nextLateAt(now: number): number | null {
    let next: number | null = null;
    for (const holding of this.holdings.values()) {
      const at = lateAt(holding);
      if (at > now && (next === null || at < next)) next = at;
    }
    return next;
  }

  private take(now: number, shares: Shares, paces: readonly Pace[]): void {
    for (const [workerId, ranges] of shares) {
      const pace = paces.find((candidate) => candidate.workerId === workerId)!;
      const before = this.holdings.get(workerId);
      const pending = before?.pending ?? new Map<number, number>();
      for (const [lo, hi] of ranges)
        for (let unit = lo; unit < hi; unit++) {
          pending.set(unit, (pending.get(unit) ?? 0) + 1);
        }
      this.holdings.set(workerId, {
        pending,
        since: now,
        expectedMs: pace.overheadMs + pending.size * (pace.msPerUnit ?? UNKNOWN_MS_PER_UNIT),
        numGiven: pending.size,
      });
    }
  }

  private withPending(pace: Pace): Pace {
    const pending = this.holdings.get(pace.workerId)?.pending.size ?? 0;
    const msPerUnit = pace.msPerUnit ?? UNKNOWN_MS_PER_UNIT;
    return pending === 0 ? pace : { ...pace, overheadMs: pace.overheadMs + pending * msPerUnit };
  }

  private heldUnits(): Set<number> {
    const held = new Set<number>();
    for (const { pending } of this.holdings.values())
      for (const unit of pending.keys()) held.add(unit);
    return held;
  }

  private openUnits(): number[] {
    const open: number[] = [];
    for (let unit = 0; unit < this.numUnits; unit++) if (!this.isDone(unit)) open.push(unit);
    return open;
  }
}

function lateAt({ since, expectedMs }: Holding): number {
  return since + LATE_FACTOR * expectedMs + LATE_SLACK_MS;
}

/**
 * The state of one round, over the micro-batches of a step or the blocks of an evaluation: which worker holds which unit,
 * which units are open, which workers are late. Pure: times and paces in, ranges to dispatch out; it neither sends nor waits.
 *
 * A unit is open until its result has arrived. Open units that no worker holds are orphans, which `handOut` assigns. After
 * `hedge` or `probe`, several workers may hold a unit: the first answer counts.
 *
 * The queries made on every answer (`isComplete`, `hasOrphans`, `mayBeLate`) take time independent of the number of workers.
 */
import { DEADLINES } from '../../shared/deadlines.js';
import type { Range } from '../../shared/protocol.js';
import { planShares, type Pace } from './planner.js';

/** Assumed time per unit of a worker that has never answered, ms. */
const UNKNOWN_MS_PER_UNIT = 50;
/**
 * A worker is late after this many times its expected time plus a few time slices of a busy machine: hedging too early
 * wastes time on duplicate work.
 */
const LATE_FACTOR = 2;
const LATE_SLACK_MS = 15;

interface Holding {
  /** Units assigned to the worker and not answered yet. */
  readonly pending: Set<number>;
  /** When the worker was last given work. */
  readonly since: number;
  readonly lateAt: number;
  readonly numGiven: number;
}

export type Shares = ReadonlyMap<string, readonly Range[]>;

const NOTHING: Shares = new Map();

/** The units of a round. */
export interface Units {
  readonly numUnits: number;
  /** Whether answers are nodes of the tree over the units. */
  readonly isTree: boolean;
  isDone(unit: number): boolean;
  /** False for a unit that is done, or whose answer is being confirmed. */
  isOpen(unit: number): boolean;
}

export class Round {
  private readonly units: Units;
  private readonly holdings = new Map<string, Holding>();
  /** How many workers hold each unit. */
  private readonly numHolders: Uint16Array;
  /** Units that no worker holds; some may be done by now. */
  private readonly unheld: Set<number>;
  /** The units below this one are all done. */
  private numDone = 0;
  /** Lower bound on when the next worker becomes late; Infinity if all that hold work are late. */
  private nextLate = Infinity;
  /** Whether there may be an open unit that only late workers hold. */
  private mayBeBehind = false;

  constructor(units: Units) {
    const { numUnits } = units;
    this.units = units;
    this.numHolders = new Uint16Array(numUnits);
    this.unheld = new Set(Array.from({ length: numUnits }, (_, unit) => unit));
  }

  get isComplete(): boolean {
    const { units } = this;
    while (this.numDone < units.numUnits && units.isDone(this.numDone)) this.numDone++;
    return this.numDone === units.numUnits;
  }

  get hasOrphans(): boolean {
    for (const unit of this.unheld) {
      if (this.units.isOpen(unit)) return true;
      if (this.units.isDone(unit)) this.unheld.delete(unit);
    }
    return false;
  }

  /** Latest time to call `hedge`; Infinity if time alone makes no other worker late. */
  get nextLateAt(): number {
    return this.nextLate;
  }

  /** Whether `hedge` may find something to do now. */
  mayBeLate(now: number): boolean {
    return this.mayBeBehind || now >= this.nextLate;
  }

  /** Assigns every orphan to one of the workers. */
  handOut(now: number, paces: readonly Pace[]): Shares {
    if (!this.hasOrphans || paces.length === 0) return NOTHING;
    const orphans = [...this.unheld]
      .filter((unit) => this.units.isOpen(unit))
      .sort((a, b) => a - b);
    const shares = planShares(
      orphans,
      paces.map((pace) => this.withPending(pace)),
      this.numLeaves,
    );
    this.take(now, shares, paces);
    return shares;
  }

  /**
   * Assigns the open units of late workers to idle workers as well.
   *
   * @param paces of the workers that can be given work; those that hold units are skipped
   */
  hedge(now: number, paces: readonly Pace[]): Shares {
    if (!this.mayBeLate(now)) return NOTHING;
    const onTime = new Set<number>();
    const late = new Set<number>();
    this.nextLate = Infinity;
    for (const { lateAt, pending } of this.holdings.values()) {
      const isLate = now >= lateAt;
      if (!isLate) this.nextLate = Math.min(this.nextLate, lateAt);
      for (const unit of pending) (isLate ? late : onTime).add(unit);
    }
    const units = [...late].filter((unit) => !onTime.has(unit) && this.units.isOpen(unit));
    const idle = paces.filter(({ workerId }) => this.isIdle(workerId));
    this.mayBeBehind = units.length > 0 && idle.length === 0;
    if (units.length === 0 || this.mayBeBehind) return NOTHING;
    const shares = planShares(
      units.sort((a, b) => a - b),
      idle,
      this.numLeaves,
    );
    this.take(now, shares, idle);
    return shares;
  }

  /** Gives an idle worker a unit that another one holds, to measure its pace; nothing waits for its answer. */
  probe(now: number, pace: Pace): Shares {
    if (this.isComplete || !this.isIdle(pace.workerId)) return NOTHING;
    const shares: Shares = new Map([[pace.workerId, [[this.numDone, this.numDone + 1]]]]);
    this.take(now, shares, [pace]);
    return shares;
  }

  /**
   * Records that the worker answered for a range.
   *
   * @returns false unless it was asked for every unit of the range and had answered none
   */
  answer(workerId: string, range: Range): boolean {
    if (!this.holds(workerId, range)) return false;
    const [lo, hi] = range;
    const { pending } = this.holdings.get(workerId)!;
    for (let unit = lo; unit < hi; unit++) this.drop(pending, unit);
    if (pending.size === 0) this.holdings.delete(workerId);
    return true;
  }

  /** Whether the worker was asked for every unit of the range and has answered none. */
  holds(workerId: string, [lo, hi]: Range): boolean {
    const holding = this.holdings.get(workerId);
    if (!holding || hi > this.units.numUnits) return false;
    for (let unit = lo; unit < hi; unit++) if (!holding.pending.has(unit)) return false;
    return true;
  }

  /** Takes back the units that a lost worker holds. @returns how many of them are open */
  release(workerId: string): number {
    const holding = this.holdings.get(workerId);
    if (!holding) return 0;
    this.holdings.delete(workerId);
    const units = [...holding.pending];
    for (const unit of units) this.drop(holding.pending, unit);
    return units.filter((unit) => this.units.isOpen(unit)).length;
  }

  isIdle(workerId: string): boolean {
    return !this.holdings.has(workerId);
  }

  /** The workers that still hold units, with how many they were given and how long ago, ms. */
  unanswered(
    now: number,
  ): { readonly workerId: string; readonly numUnits: number; readonly waitedMs: number }[] {
    return [...this.holdings].map(([workerId, { since, numGiven }]) => ({
      workerId,
      numUnits: numGiven,
      waitedMs: now - since,
    }));
  }

  private take(now: number, shares: Shares, paces: readonly Pace[]): void {
    for (const pace of paces) {
      const ranges = shares.get(pace.workerId);
      if (!ranges) continue;
      const pending = this.holdings.get(pace.workerId)?.pending ?? new Set<number>();
      for (const [lo, hi] of ranges)
        for (let unit = lo; unit < hi; unit++) {
          if (pending.has(unit)) continue;
          pending.add(unit);
          this.numHolders[unit]++;
          this.unheld.delete(unit);
        }
      const expectedMs = pace.overheadMs + pending.size * (pace.msPerUnit ?? UNKNOWN_MS_PER_UNIT);
      // However slow it says that it is, it has to answer something within the deadline.
      const lateAt = now + Math.min(LATE_FACTOR * expectedMs + LATE_SLACK_MS, DEADLINES.answerMs);
      this.holdings.set(pace.workerId, { pending, since: now, lateAt, numGiven: pending.size });
      this.nextLate = Math.min(this.nextLate, lateAt);
    }
  }

  /** The worker no longer holds the unit. */
  private drop(pending: Set<number>, unit: number): void {
    pending.delete(unit);
    if (--this.numHolders[unit] === 0) this.unheld.add(unit);
    else this.mayBeBehind = true;
  }

  private get numLeaves(): number | null {
    return this.units.isTree ? this.units.numUnits : null;
  }

  private withPending(pace: Pace): Pace {
    const pending = this.holdings.get(pace.workerId)?.pending.size ?? 0;
    const msPerUnit = pace.msPerUnit ?? UNKNOWN_MS_PER_UNIT;
    return pending === 0 ? pace : { ...pace, overheadMs: pace.overheadMs + pending * msPerUnit };
  }
}

/**
 * Virtual time: a queue of events, run one after the other, each with everything it wakes, as fast as the machine can.
 *
 * Between two events all promise reactions run to their end, so a schedule is the same each time it is run.
 */
import { checkedDelay, type Clock, type Timer } from '../../src/shared/clock.js';
import type { Random } from '../../src/shared/random.js';

/** Where all virtual time begins, ms since the Unix epoch. */
export const VIRTUAL_START_MS = Date.UTC(2026, 0, 1);

interface Event {
  readonly at: number;
  readonly order: number;
  readonly process: VirtualProcess | null;
  callback: (() => void) | null;
}

export class VirtualTime {
  private now_ = 0;
  private nextOrder = 0;
  /** A binary heap by time, then by the order of scheduling. */
  private readonly heap: Event[] = [];

  /** Milliseconds since the start. */
  get now(): number {
    return this.now_;
  }

  /**
   * Runs the callback `delayMs` from now.
   *
   * @param process whose event it is: held while the process is paused, dropped when it is dead
   */
  schedule(delayMs: number, callback: () => void, process: VirtualProcess | null = null): Timer {
    const at = this.now_ + checkedDelay(delayMs);
    const event: Event = { at, order: this.nextOrder++, process, callback };
    if (at < Infinity) this.push(event);
    return { cancel: () => (event.callback = null) };
  }

  /**
   * Runs events until the condition holds after one of them.
   *
   * @returns false if it did not by the deadline, ms since the start, or if nothing is left to run
   */
  async runUntil(isDone: () => boolean, deadlineMs: number): Promise<boolean> {
    for (;;) {
      await reactions();
      if (isDone()) return true;
      const event = this.heap.at(0);
      if (!event || event.at > deadlineMs) return false;
      this.pop();
      const { callback, process } = event;
      if (!callback) continue;
      this.now_ = event.at;
      if (process) process.run(callback);
      else callback();
    }
  }

  /** Lets that much time pass, with all that happens in it. */
  async advance(durationMs: number): Promise<void> {
    let isOver = false;
    this.schedule(durationMs, () => (isOver = true));
    await this.runUntil(() => isOver, Infinity);
  }

  private push(event: Event): void {
    const { heap } = this;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(heap[at], heap[parent])) break;
      [heap[at], heap[parent]] = [heap[parent], heap[at]];
      at = parent;
    }
  }

  private pop(): void {
    const { heap } = this;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    heap[0] = last;
    for (let at = 0; ;) {
      let least = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < heap.length && isBefore(heap[child], heap[least])) least = child;
      }
      if (least === at) return;
      [heap[at], heap[least]] = [heap[least], heap[at]];
      at = least;
    }
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** Resolves when no promise reaction is left to run: Node turns to its ticks only then. */
function reactions(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

/** How a process's clock goes wrong; without it the clock is true but for its offset, and timers are punctual. */
export interface ClockFaults {
  readonly random: Random;
  /** Its milliseconds in a true one: 1 if it does not drift. */
  readonly rate: number;
  /** A reading takes up to so long, ms: no two are the same. */
  readonly readingMs: number;
  /** Timers are late by so much now and then, ms; also, as in Node, they are early by less than one. */
  readonly lateMs: number;
}

/** The clock of one process: it never goes back, and that is all that can be relied on. */
class VirtualClock implements Clock {
  private readonly time: VirtualTime;
  private readonly process: VirtualProcess;
  private readonly faults: ClockFaults | null;
  private readonly pending = new Set<Timer>();
  private offsetMs: number;
  private lastReading = -Infinity;

  constructor(process: VirtualProcess, time: VirtualTime, offsetMs: number, faults?: ClockFaults) {
    this.process = process;
    this.time = time;
    this.offsetMs = VIRTUAL_START_MS + offsetMs;
    this.faults = faults ?? null;
  }

  now(): number {
    const { faults, time, offsetMs } = this;
    if (!faults) return time.now + offsetMs;
    const readingMs = faults.readingMs * (0.1 + 0.9 * faults.random.float());
    this.lastReading = Math.max(this.lastReading + readingMs, time.now * faults.rate + offsetMs);
    return this.lastReading;
  }

  schedule(delayMs: number, callback: () => void): Timer {
    const timer: Timer = {
      cancel: () => {
        event.cancel();
        this.pending.delete(timer);
      },
    };
    const run = () => {
      if (this.pending.delete(timer)) callback();
    };
    const event = this.time.schedule(this.trueDelay(delayMs), run, this.process);
    this.pending.add(timer);
    return timer;
  }

  yield(): Promise<void> {
    return new Promise((resolve) => void this.process.after(0, resolve));
  }

  /** Puts the clock forward: timers do not notice. */
  jump(byMs: number): void {
    this.offsetMs += byMs;
  }

  get numTimers(): number {
    return this.pending.size;
  }

  isPending(timer: Timer): boolean {
    return this.pending.has(timer);
  }

  stop(): void {
    this.pending.clear();
  }

  /** As `setTimeout` has it: whole milliseconds, at least one, and what else the machine has to do. */
  private trueDelay(delayMs: number): number {
    if (!this.faults) return delayMs;
    const { random, rate, lateMs } = this.faults;
    const wholeMs = Math.max(1, Math.trunc(delayMs)) / rate;
    const draw = random.below(16);
    if (draw === 0) return wholeMs + lateMs * random.float();
    return draw < 8 ? wholeMs - 0.2 * random.float() : wholeMs + random.float();
  }
}

export interface VirtualProcessOptions {
  readonly name: string;
  /** Its clock less true time at the start, ms. */
  readonly clockOffsetMs?: number;
  readonly clockFaults?: ClockFaults;
  /** Takes what its code throws out of an event; by default it is thrown on. */
  readonly crashed?: (error: unknown) => void;
}

/** What runs in one operating system process: it has its own clock, and can be paused and killed. */
export class VirtualProcess {
  readonly name: string;
  readonly clock: VirtualClock;
  state: 'running' | 'paused' | 'dead' = 'running';
  private readonly time: VirtualTime;
  private readonly crashed: (error: unknown) => void;
  private readonly held: (() => void)[] = [];

  constructor(time: VirtualTime, options: VirtualProcessOptions) {
    this.time = time;
    this.name = options.name;
    this.crashed =
      options.crashed ??
      ((error) => {
        throw error;
      });
    this.clock = new VirtualClock(this, time, options.clockOffsetMs ?? 0, options.clockFaults);
  }

  /** Timers that are neither over nor cancelled. */
  get numTimers(): number {
    return this.clock.numTimers;
  }

  /** As the clock's `schedule`, for what is no timer of the process's own: frames, computing, disks. */
  after(delayMs: number, callback: () => void): Timer {
    return this.time.schedule(delayMs, callback, this);
  }

  /** Runs an event of this process now, or when it is resumed, or never. */
  run(callback: () => void): void {
    if (this.state === 'dead') return;
    if (this.state === 'paused') {
      this.held.push(callback);
      return;
    }
    try {
      callback();
    } catch (error) {
      this.crashed(error);
    }
  }

  /** As SIGSTOP. */
  pause(): void {
    if (this.state === 'running') this.state = 'paused';
  }

  /** As SIGCONT: what was held happens now, in order. */
  resume(): void {
    if (this.state !== 'paused') return;
    this.state = 'running';
    for (const callback of this.held.splice(0)) this.after(0, callback);
  }

  /** As SIGKILL. */
  kill(): void {
    this.state = 'dead';
    this.held.length = 0;
    this.clock.stop();
  }
}

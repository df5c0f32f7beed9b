/**
 * What happens in one simulated run: a cluster and its faults, all from one seed.
 */
import type { RunEvent } from '../../../src/coordinator/events.js';
import { createRandom, type Random } from '../../../src/shared/random.js';

/** How a machine's clock differs from true time. */
export interface ClockSetup {
  readonly offsetMs: number;
  /** Its milliseconds in a true one. */
  readonly rate: number;
  /** A reading takes up to so long, ms. */
  readonly readingMs: number;
  /** Its timers are late by up to so much now and then, ms. */
  readonly lateMs: number;
}

/** A worker, or a relay. */
export interface WorkerSetup {
  /** The relay that it works for, as an index into the schedule's workers; null for the coordinator. */
  readonly parent: number | null;
  /** Null of a worker. */
  readonly relay: RelaySetup | null;
  readonly startAtMs: number;
  readonly clock: ClockSetup;
  readonly msPerImage: number;
  readonly latencyMs: number;
  readonly jitterMs: number;
  readonly bytesPerMs: number;
}

export interface RelaySetup {
  readonly minWorkers: number;
  /** Share of answers that it computes again. */
  readonly audit: number;
}

/** When a fault strikes: at a time, or soon after the n-th event of a kind. */
export type Moment =
  | { readonly atMs: number }
  | { readonly event: RunEvent['type']; readonly count: number; readonly plusMs: number };

/** `worker` is an index into the schedule's workers; `durationMs` is Infinity for what is never mended. */
export type Fault =
  | {
      readonly kind: 'kill worker';
      readonly worker: number;
      readonly isSilent: boolean;
      readonly restartMs: number;
    }
  | { readonly kind: 'stop worker'; readonly worker: number; readonly restartMs: number }
  | { readonly kind: 'pause worker'; readonly worker: number; readonly durationMs: number }
  | {
      readonly kind: 'slow worker';
      readonly worker: number;
      readonly factor: number;
      readonly durationMs: number;
    }
  | { readonly kind: 'wedge worker'; readonly worker: number; readonly durationMs: number }
  | { readonly kind: 'wrong bits'; readonly worker: number; readonly count: number }
  | { readonly kind: 'bad numbers'; readonly worker: number; readonly count: number }
  | { readonly kind: 'double frames'; readonly worker: number; readonly count: number }
  | { readonly kind: 'garble frame'; readonly worker: number }
  | { readonly kind: 'break connection'; readonly worker: number }
  | { readonly kind: 'black hole'; readonly worker: number }
  | { readonly kind: 'partition'; readonly workers: readonly number[]; readonly durationMs: number }
  /** `worker` is null for the coordinator's. */
  | { readonly kind: 'jump of a clock'; readonly worker: number | null; readonly byMs: number }
  | { readonly kind: 'pause coordinator'; readonly durationMs: number }
  | { readonly kind: 'kill coordinator'; readonly isSilent: boolean; readonly restartMs: number }
  | { readonly kind: 'stop coordinator'; readonly restartMs: number }
  | { readonly kind: 'damaged file' }
  | { readonly kind: 'disk full'; readonly durationMs: number };

export interface Schedule {
  readonly seed: number;
  /** Index into `allTrainings`. */
  readonly training: number;
  readonly minWorkers: number;
  readonly maxWorkers: number;
  readonly heartbeatTimeoutMs: number;
  readonly checkpointEveryMs: number;
  readonly checkpointEverySteps: number;
  /** From the start of a write to its being durable, at most. */
  readonly diskMs: number;
  /** Share of partials that a second worker repeats. */
  readonly audit: number;
  readonly coordinatorClock: ClockSetup;
  readonly workers: readonly WorkerSetup[];
  readonly faults: readonly (Fault & { readonly when: Moment })[];
}

const TRUE_CLOCK: ClockSetup = { offsetMs: 0, rate: 1, readingMs: 0.01, lateMs: 0 };

/** A run that nobody disturbs, its workers in turn behind a chain of relays. */
export function undisturbed(training: number, numWorkers = 1, numRelays = 0): Schedule {
  const node = (parent: number | null, relay: RelaySetup | null): WorkerSetup => ({
    parent,
    relay,
    startAtMs: 0,
    clock: TRUE_CLOCK,
    msPerImage: 1,
    latencyMs: 0.2,
    jitterMs: 0.05,
    bytesPerMs: 100_000,
  });
  return {
    seed: 0,
    training,
    minWorkers: 1,
    maxWorkers: 64,
    heartbeatTimeoutMs: 3_000,
    checkpointEveryMs: 2_000,
    checkpointEverySteps: 0,
    diskMs: 5,
    audit: 0,
    coordinatorClock: TRUE_CLOCK,
    workers: [
      ...Array.from({ length: numWorkers }, (_, i) =>
        node(numRelays === 0 ? null : numWorkers + (i % numRelays), null),
      ),
      ...Array.from({ length: numRelays }, (_, k) =>
        node(k === 0 ? null : numWorkers + k - 1, { minWorkers: 1, audit: 0 }),
      ),
    ],
    faults: [],
  };
}

export function scheduleOf(seed: number, numTrainings: number): Schedule {
  const schedule = starOf(seed, numTrainings);
  const random = createRandom(seed, 'relays');
  return random.below(3) === 0 ? withRelays(random, schedule) : schedule;
}

function starOf(seed: number, numTrainings: number): Schedule {
  const random = createRandom(seed, 'schedule');
  const below = (n: number) => random.below(n);
  const numWorkers = 1 + below(5);
  const minWorkers = 1 + below(Math.min(3, numWorkers));
  const heartbeatTimeoutMs = pick(random, [600, 1_500, 3_000]);
  const schedule = {
    seed,
    training: below(numTrainings),
    minWorkers,
    maxWorkers: below(8) === 0 ? numWorkers : 64,
    heartbeatTimeoutMs,
    checkpointEveryMs: pick(random, [20, 100, 500, 2_000]),
    checkpointEverySteps: pick(random, [0, 0, 1, 2]),
    diskMs: pick(random, [1, 10, 100, 400]),
    audit: pick(random, [0, 0, 0.1, 1]),
    coordinatorClock: clockOf(random, 0),
    workers: workersOf(random, numWorkers, minWorkers),
  };
  // Wrong bits are found out where every answer is audited.
  if (below(12) === 0) return withLiars(random, schedule);
  // Some schedules are calm, some are all about one kind of fault, most are a mixture.
  const numFaults = pick(random, [0, 1, 2, 3, 5, 8, 12]);
  const only = below(3) === 0 ? below(NUM_KINDS) : null;
  const spanMs = pick(random, [150, 400, 1_000, 3_000]);
  // Enough workers stay able to work.
  const mayWedge = new Set(
    Array.from({ length: numWorkers }, (_, worker) => worker).slice(minWorkers),
  );
  const faults = Array.from({ length: numFaults }, () => ({
    ...faultOf(random, only ?? below(NUM_KINDS), numWorkers, heartbeatTimeoutMs, mayWedge),
    when: momentOf(random, spanMs),
  }));
  return { ...schedule, faults };
}

/** The links of those that a run does not need may be so slow that θ takes longer than a step. */
function workersOf(random: Random, numWorkers: number, minWorkers: number): WorkerSetup[] {
  return Array.from({ length: numWorkers }, (_, index) => ({
    parent: null,
    relay: null,
    startAtMs: random.below(3) === 0 ? random.below(1_500) : 0,
    clock: clockOf(random, pick(random, [0, 0, -7_200_000, 3_600_000 * random.float()])),
    msPerImage: pick(random, [0.3, 1, 1, 2, 5]),
    latencyMs: pick(random, [0.1, 0.3, 1, 20]),
    jitterMs: pick(random, [0, 0.1, 1, 10]),
    bytesPerMs: pick(random, [1_000, 50_000, 100_000, index < minWorkers ? 1_000 : 200]),
  }));
}

function clockOf(random: Random, offsetMs: number): ClockSetup {
  return {
    offsetMs,
    rate: pick(random, [1, 1, 0.9995, 1.0005]),
    readingMs: pick(random, [0.001, 0.02, 0.3]),
    lateMs: pick(random, [0, 2, 20]),
  };
}

/** All workers but one compute wrong bits now and then; nothing else goes wrong. */
function withLiars(random: Random, schedule: Omit<Schedule, 'faults'>): Schedule {
  const numWorkers = 2 + random.below(4);
  return {
    ...schedule,
    audit: 1,
    minWorkers: 1,
    maxWorkers: 64,
    workers: workersOf(random, numWorkers, 1),
    faults: Array.from({ length: numWorkers - 1 }, (_, worker) => ({
      kind: 'wrong bits' as const,
      worker,
      count: 1 + random.below(3),
      when: { atMs: random.below(300) },
    })),
  };
}

/** The same with its workers behind relays, some of which may be behind others; and relays fail, too. */
function withRelays(random: Random, schedule: Schedule): Schedule {
  const below = (n: number) => random.below(n);
  const { heartbeatTimeoutMs } = schedule;
  const numWorkers = schedule.workers.length;
  const numRelays = 1 + below(3);
  const relayAt = (k: number) => numWorkers + k;
  const hasLiars = schedule.faults.some(({ kind }) => kind === 'wrong bits');
  const hasDirect = below(2) === 0;
  // A relay never sees a second worker if that hangs for ever.
  const mayWait = !schedule.faults.some(
    (fault) => fault.kind === 'wedge worker' && fault.durationMs === Infinity,
  );
  // The run needs a worker that has an address left.
  const mayLoseRelays = hasDirect && !hasLiars;
  const workers = schedule.workers.map((setup, index) => ({
    ...setup,
    parent: hasDirect && index === 0 ? null : relayAt(below(numRelays)),
  }));
  const uplinks = workersOf(random, numRelays, numRelays).map((setup, k) => ({
    ...setup,
    parent: k > 0 && below(2) === 0 ? relayAt(below(k)) : null,
  }));
  const relays = uplinks.map((setup, k) => {
    const numBelow = workers.filter(({ parent }) => parent === relayAt(k)).length;
    return {
      ...setup,
      relay: {
        minWorkers: numBelow > 1 && below(3) === 0 && mayWait ? 2 : 1,
        audit: hasLiars ? 1 : pick(random, [0, 0, 0.1, 1]),
      },
    };
  });
  const all = [...workers, ...relays];
  const tree = {
    ...schedule,
    workers: all,
    minWorkers:
      hasDirect || !mayWait ? 1 : Math.min(schedule.minWorkers, numBranches(all, numWorkers)),
    maxWorkers: 64,
  };
  const relayFault = (restartsMs: readonly number[]) => {
    const worker = relayAt(below(numRelays));
    const fault = faultOf(random, pick(random, RELAY_KINDS), 1, heartbeatTimeoutMs, new Set());
    const moved = 'worker' in fault && fault.worker !== null ? { ...fault, worker } : fault;
    return moved.kind === 'kill worker'
      ? { ...moved, restartMs: pick(random, restartsMs) }
      : moved.kind === 'partition'
        ? { ...moved, workers: all.map((_, i) => i).filter((i) => i === worker || below(4) === 0) }
        : moved;
  };
  if (!hasDirect && below(3) === 0) {
    const kill = { kind: 'kill worker' as const, worker: relayAt(below(numRelays)) };
    // Nothing else goes wrong: a worker that starts anew, and finds no relay, knows no other address.
    const when = { event: 'step' as const, count: 1 + below(3), plusMs: 5 * random.float() };
    return { ...tree, faults: [{ ...kill, isSilent: below(3) === 0, restartMs: Infinity, when }] };
  }
  const restartsMs = [1, 50, 300, 1_500, ...(mayLoseRelays ? [Infinity, Infinity] : [])];
  const faults = Array.from({ length: pick(random, [0, 1, 2, 4]) }, () => ({
    ...relayFault(restartsMs),
    when: momentOf(random, pick(random, [150, 400, 1_000])),
  }));
  return { ...tree, faults: [...schedule.faults, ...faults] };
}

/** How many of those that work for the coordinator itself are workers or have one behind them. */
function numBranches(all: readonly WorkerSetup[], numWorkers: number): number {
  const top = (index: number): number => {
    const { parent } = all[index];
    return parent === null ? index : top(parent);
  };
  return new Set(Array.from({ length: numWorkers }, (_, index) => top(index))).size;
}

/** Of faults that strike a relay: it dies, is told to go, hangs, is cut off, or speaks out of turn. */
const RELAY_KINDS = [0, 0, 0, 2, 3, 7, 8, 9, 11, 12, 18];
const NUM_KINDS = 20;

function faultOf(
  random: Random,
  kind: number,
  numWorkers: number,
  heartbeatTimeoutMs: number,
  mayWedge: ReadonlySet<number>,
): Fault {
  const below = (n: number) => random.below(n);
  const worker = below(numWorkers);
  const restartMs = pick(random, [1, 50, 300, 1_500]);
  // Below the heartbeat timeout nobody may notice, above it everyone must.
  const durationMs = pick(random, [0.02, 0.2, 0.9, 1.1, 3]) * heartbeatTimeoutMs;
  switch (kind) {
    case 0:
    case 1:
      return { kind: 'kill worker', worker, isSilent: below(3) === 0, restartMs };
    case 2:
      return { kind: 'stop worker', worker, restartMs };
    case 3:
      return { kind: 'pause worker', worker, durationMs };
    case 4:
      return { kind: 'slow worker', worker, factor: pick(random, [4, 10, 100]), durationMs };
    case 5:
      return {
        kind: 'wedge worker',
        worker,
        durationMs: mayWedge.has(worker) && below(2) === 0 ? Infinity : durationMs,
      };
    case 6:
      return { kind: 'bad numbers', worker, count: 1 + below(3) };
    case 7:
      return { kind: 'double frames', worker, count: 1 + below(3) };
    case 8:
      return { kind: 'garble frame', worker };
    case 9:
    case 10:
      return { kind: 'break connection', worker };
    case 11:
      return { kind: 'black hole', worker };
    case 12: {
      const workers = Array.from({ length: numWorkers }, (_, i) => i).filter(() => below(2) === 0);
      return { kind: 'partition', workers, durationMs };
    }
    case 13:
      return { kind: 'pause coordinator', durationMs };
    case 14:
    case 15:
      return { kind: 'kill coordinator', isSilent: below(3) === 0, restartMs };
    case 16:
      return { kind: 'stop coordinator', restartMs };
    case 17:
      return { kind: 'damaged file' };
    case 18:
      return {
        kind: 'jump of a clock',
        worker: below(2) === 0 ? null : worker,
        byMs: pick(random, [5, 50, durationMs]),
      };
    default:
      return { kind: 'disk full', durationMs };
  }
}

function momentOf(random: Random, spanMs: number): Moment {
  if (random.below(2) === 0) return { atMs: random.float() * spanMs };
  const event = pick(random, [
    'step',
    'step',
    'evaluation',
    'checkpoint',
    'workerJoined',
    'workerLost',
  ] as const);
  const count = 1 + random.below(event === 'step' ? 9 : 3);
  return { event, count, plusMs: random.below(2) === 0 ? 0 : random.float() * 5 };
}

export function describeFault({
  when,
  kind,
  ...details
}: Fault & { readonly when: Moment }): string {
  const fields = Object.entries(details)
    .map(([name, value]) => ` ${name}=${typeof value === 'number' ? round(value) : String(value)}`)
    .join('');
  const moment =
    'atMs' in when
      ? `at ${round(when.atMs)} ms`
      : `${round(when.plusMs)} ms after ${when.event} ${when.count}`;
  return `${kind}${fields} ${moment}`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[random.below(choices.length)];
}

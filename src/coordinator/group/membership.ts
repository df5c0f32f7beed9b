/**
 * Decides which workers may take part. Pure: it knows their history, but no sockets and no clock.
 */

/** Failures are forgotten after this time, ms. */
const FAILURE_MEMORY_MS = 120_000;
/** Failures within the memory that are forgiven. */
const FAILURES_FORGIVEN = 3;
const FIRST_QUARANTINE_MS = 1_000;
const LONGEST_QUARANTINE_MS = 60_000;
/** How long no new worker is taken from an address after the second one that was shut out there; then twice as long. */
const FIRST_BAN_MS = 60_000;
const LONGEST_BAN_MS = 3_600_000;
/** Absent workers remembered; the number of those present is limited by --max-workers. */
export const MAX_ABSENT = 256;
/** Addresses whose failures are remembered. */
export const MAX_ADDRESSES = 1024;

/** The failures of a worker. */
export interface FailureHistory {
  /** Times, ms, oldest first. */
  readonly failedAt: readonly number[];
  /** Not admitted before, ms; `Infinity` for a worker that is shut out for good. */
  readonly keptOutUntil: number;
}

export const NO_FAILURES: FailureHistory = { failedAt: [], keptOutUntil: 0 };

/**
 * The history with one more failure. From the fourth within two minutes on, the worker is kept out: for 1 s, then for
 * twice as long each time, a minute at most.
 */
export function recordFailure<History extends FailureHistory>(
  now: number,
  history: History,
): History {
  const failedAt = [...history.failedAt.filter((time) => now - time < FAILURE_MEMORY_MS), now];
  const excess = failedAt.length - FAILURES_FORGIVEN;
  if (excess <= 0) return { ...history, failedAt };
  const quarantineMs = Math.min(FIRST_QUARANTINE_MS * 2 ** (excess - 1), LONGEST_QUARANTINE_MS);
  const keptOutUntil = Math.max(history.keptOutUntil, now + quarantineMs);
  return { ...history, failedAt, keptOutUntil };
}

/** The history of a worker that is shut out for the rest of the run. */
export function shutOut(history: FailureHistory): FailureHistory {
  return { ...history, keptOutUntil: Infinity };
}

/** The failures of an address, for workers without an id. */
export interface AddressHistory extends FailureHistory {
  /** Workers from there that were shut out. */
  readonly numShutOut: number;
}

export const UNKNOWN_ADDRESS: AddressHistory = { ...NO_FAILURES, numShutOut: 0 };

/**
 * The history of an address with one more worker that was shut out. One is forgiven: many may share an address. From the
 * second on nobody new is taken from there for a minute, then for twice as long each time, an hour at most.
 */
export function recordShutOut(now: number, history: AddressHistory): AddressHistory {
  const numShutOut = history.numShutOut + 1;
  if (numShutOut === 1) return { ...history, numShutOut };
  const banMs = Math.min(FIRST_BAN_MS * 2 ** (numShutOut - 2), LONGEST_BAN_MS);
  return { ...history, numShutOut, keptOutUntil: Math.max(history.keptOutUntil, now + banMs) };
}

/**
 * What counts as one address: an IPv4 address, or the /64 of an IPv6 address, since a /64 is usually assigned as a whole.
 */
export function networkOf(address: string): string {
  const bare = address.replace(/%.*$/, '').toLowerCase();
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(bare);
  if (mapped) return mapped[1];
  if (!bare.includes(':')) return bare;
  const [head, ...tails] = bare.split('::');
  const groups = head === '' ? [] : head.split(':');
  for (const tail of tails.slice(0, 1)) {
    const rest = tail === '' ? [] : tail.split(':');
    while (groups.length + rest.length < 8) groups.push('0');
    groups.push(...rest);
  }
  const prefix = groups.slice(0, 4).map((group) => group.replace(/^0+(?=.)/, ''));
  return `${prefix.join(':')}::/64`;
}

/** A worker that is away, as far as it matters for forgetting it. */
export interface Absent {
  readonly workerId: string;
  readonly history: FailureHistory;
  readonly hasTakenPart: boolean;
  /** Since when, ms. */
  readonly absentSince: number;
}

/**
 * Who is forgotten, so that `MAX_ABSENT` remain: first who took no part, last who is shut out; among them who is away
 * longest.
 */
export function whomToForget(absent: readonly Absent[]): readonly Absent[] {
  if (absent.length <= MAX_ABSENT) return [];
  const worth = ({ history, hasTakenPart }: Absent) =>
    (history.keptOutUntil === Infinity ? 2 : 0) + (hasTakenPart ? 1 : 0);
  const order = (a: Absent, b: Absent) => worth(a) - worth(b) || a.absentSince - b.absentSince;
  // They go one by one as a rule.
  if (absent.length === MAX_ABSENT + 1) return [absent.reduce((a, b) => (order(b, a) < 0 ? b : a))];
  return [...absent].sort(order).slice(0, absent.length - MAX_ABSENT);
}

export interface Applicant {
  /** Of the worker, if it is known; of its address, if it is new. */
  readonly history: FailureHistory;
  readonly isNew: boolean;
  readonly tokenMatches: boolean;
  readonly protocolVersion: number;
  /** True when a connection of the same worker is open, which this one would replace. */
  readonly isConnected: boolean;
}

export interface AdmissionRules {
  readonly protocolVersion: number;
  readonly maxWorkers: number;
  /** Workers that have proved themselves and are there. */
  readonly numActive: number;
}

interface Refused {
  readonly isAdmitted: false;
  readonly reason: 'versionMismatch' | 'unauthorized' | 'badNumbers' | 'quarantined' | 'full';
  readonly message: string;
  /** When to try again, ms from now; null for never. */
  readonly retryAfterMs: number | null;
}

export type Admission = { readonly isAdmitted: true } | Refused;

/** Whether a worker that said hello may come in. */
export function decideAdmission(
  now: number,
  applicant: Applicant,
  rules: AdmissionRules,
): Admission {
  const { history } = applicant;
  if (applicant.protocolVersion !== rules.protocolVersion) {
    return refuse(
      'versionMismatch',
      `The worker speaks protocol version ${applicant.protocolVersion}, the coordinator ${rules.protocolVersion}; ` +
        'install the same version of Lockstep on both',
      null,
    );
  }
  const waitMs = Math.ceil(history.keptOutUntil - now);
  const wait = `${(waitMs / 1000).toFixed(1)} s`;
  // Before the token is looked at: who guesses is not told whether a guess was right.
  if (applicant.isNew && waitMs > 0) {
    return refuse(
      'quarantined',
      `Too many recent failures of workers from this address; new ones are refused for ${wait}`,
      waitMs,
    );
  }
  if (!applicant.tokenMatches) {
    return refuse(
      'unauthorized',
      'The token is missing or wrong; give the token of the coordinator with --token',
      null,
    );
  }
  if (history.keptOutUntil === Infinity) {
    return refuse(
      'badNumbers',
      'The worker is shut out, for wrong results or on request, for as long as the run lasts',
      null,
    );
  }
  if (waitMs > 0) {
    return refuse(
      'quarantined',
      `The worker failed ${history.failedAt.length} times recently and is refused for ${wait}`,
      waitMs,
    );
  }
  if (!applicant.isConnected && rules.numActive >= rules.maxWorkers) {
    return fullRun(rules.maxWorkers);
  }
  return { isAdmitted: true };
}

/** The refusal if the run is full. */
export function fullRun(maxWorkers: number): Refused {
  return refuse('full', `The run has its maximum of ${maxWorkers} workers`, 5_000);
}

function refuse(reason: Refused['reason'], message: string, retryAfterMs: number | null): Refused {
  return { isAdmitted: false, reason, message, retryAfterMs };
}

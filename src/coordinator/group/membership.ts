/** Decides which workers are admitted. Pure: it knows their history, but no sockets and no clock. */

/** Failures are forgotten after this time, ms. */
const FAILURE_MEMORY_MS = 120_000;
/** Number of failures within that time that are forgiven. */
const FAILURES_FORGIVEN = 3;
const FIRST_QUARANTINE_MS = 1_000;
const LONGEST_QUARANTINE_MS = 60_000;
/** Ban on new workers from an address once a second worker from it is shut out; doubles with each further one. */
const FIRST_BAN_MS = 60_000;
const LONGEST_BAN_MS = 3_600_000;
/** Absent workers remembered; --max-workers limits those that are connected. */
export const MAX_ABSENT = 256;
/** Addresses whose failures are remembered. */
export const MAX_ADDRESSES = 1024;

/** A worker's failures. */
export interface FailureHistory {
  /** Times, ms, oldest first. */
  readonly failedAt: readonly number[];
  /** Not admitted before this time, ms; `Infinity` for a worker that is shut out for good. */
  readonly keptOutUntil: number;
}

export const NO_FAILURES: FailureHistory = { failedAt: [], keptOutUntil: 0 };

/**
 * The history with one more failure. From the fourth failure within two minutes on, the worker is quarantined: for 1 s,
 * then twice as long each time, up to a minute.
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

/** The history of a worker once it is shut out for the rest of the run. */
export function shutOut(history: FailureHistory): FailureHistory {
  return { ...history, keptOutUntil: Infinity };
}

/** The failures at an address, which apply to workers without an id. */
export interface AddressHistory extends FailureHistory {
  /** Workers from this address that were shut out. */
  readonly numShutOut: number;
}

export const UNKNOWN_ADDRESS: AddressHistory = { ...NO_FAILURES, numShutOut: 0 };

/**
 * The history of an address with one more worker shut out. The first is forgiven, since many workers may share an address.
 * From the second on, new workers from it are banned for a minute, then twice as long each time, up to an hour.
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

/** What decides whether an absent worker is forgotten. */
export interface Absent {
  readonly workerId: string;
  readonly history: FailureHistory;
  readonly hasTakenPart: boolean;
  /** Since when, ms. */
  readonly absentSince: number;
}

/**
 * The workers to forget, so that `MAX_ABSENT` remain: first those that took no part, last those that are shut out; within
 * each group, those absent longest.
 */
export function whomToForget(absent: readonly Absent[]): readonly Absent[] {
  if (absent.length <= MAX_ABSENT) return [];
  const worth = ({ history, hasTakenPart }: Absent) =>
    (history.keptOutUntil === Infinity ? 2 : 0) + (hasTakenPart ? 1 : 0);
  const order = (a: Absent, b: Absent) => worth(a) - worth(b) || a.absentSince - b.absentSince;
  // The usual case, without sorting.
  if (absent.length === MAX_ABSENT + 1) return [absent.reduce((a, b) => (order(b, a) < 0 ? b : a))];
  return [...absent].sort(order).slice(0, absent.length - MAX_ABSENT);
}

export interface Applicant {
  /** Of the worker if it is known, else of its address. */
  readonly history: FailureHistory;
  readonly isNew: boolean;
  readonly tokenMatches: boolean;
  readonly protocolVersion: number;
  /** Whether the same worker already has an open connection, which this one would replace. */
  readonly isConnected: boolean;
}

export interface AdmissionRules {
  readonly protocolVersion: number;
  readonly maxWorkers: number;
  /** Workers that are connected and have passed their proof. */
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

/** Decides on a worker's hello. */
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
  // Checked before the token, so that an attacker who is guessing does not learn whether a guess was right.
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

export function fullRun(maxWorkers: number): Refused {
  return refuse('full', `The run has its maximum of ${maxWorkers} workers`, 5_000);
}

function refuse(reason: Refused['reason'], message: string, retryAfterMs: number | null): Refused {
  return { isAdmitted: false, reason, message, retryAfterMs };
}

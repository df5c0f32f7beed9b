/**
 * Who may take part. Pure decisions over the history of workers: no sockets, no clock of its own.
 */

/** Failures are forgotten after this time, ms. */
const FAILURE_MEMORY_MS = 120_000;
/** Failures within the memory that are forgiven. */
const FAILURES_FORGIVEN = 3;
const FIRST_QUARANTINE_MS = 1_000;
const LONGEST_QUARANTINE_MS = 60_000;

/** What is remembered of a worker's failures. */
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
export function recordFailure(now: number, history: FailureHistory): FailureHistory {
  const failedAt = [...history.failedAt.filter((time) => now - time < FAILURE_MEMORY_MS), now];
  const excess = failedAt.length - FAILURES_FORGIVEN;
  if (excess <= 0) return { ...history, failedAt };
  const quarantineMs = Math.min(FIRST_QUARANTINE_MS * 2 ** (excess - 1), LONGEST_QUARANTINE_MS);
  return { failedAt, keptOutUntil: Math.max(history.keptOutUntil, now + quarantineMs) };
}

/** The history of a worker that is shut out for the rest of the run. */
export function shutOut(history: FailureHistory): FailureHistory {
  return { ...history, keptOutUntil: Infinity };
}

export interface Applicant {
  readonly history: FailureHistory;
  readonly tokenMatches: boolean;
  readonly protocolVersion: number;
  /** True when a connection of the same worker is open, which this one would replace. */
  readonly isConnected: boolean;
}

export interface AdmissionRules {
  readonly protocolVersion: number;
  readonly maxWorkers: number;
  /** Workers connected now. */
  readonly numConnected: number;
}

export type Admission =
  | { readonly isAdmitted: true }
  | {
      readonly isAdmitted: false;
      readonly reason: 'versionMismatch' | 'unauthorized' | 'badNumbers' | 'quarantined' | 'full';
      readonly message: string;
      /** When to try again, ms from now; null for never. */
      readonly retryAfterMs: number | null;
    };

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
  if (!applicant.tokenMatches) {
    return refuse(
      'unauthorized',
      'The token is missing or wrong; give the one of the coordinator with --token',
      null,
    );
  }
  if (history.keptOutUntil === Infinity) {
    return refuse('badNumbers', 'The worker is shut out of this run for wrong results', null);
  }
  if (now < history.keptOutUntil) {
    const waitMs = Math.ceil(history.keptOutUntil - now);
    return refuse(
      'quarantined',
      `The worker failed ${history.failedAt.length} times lately and is kept out for ${(waitMs / 1000).toFixed(1)} s`,
      waitMs,
    );
  }
  if (!applicant.isConnected && rules.numConnected >= rules.maxWorkers) {
    return refuse('full', `The run has its maximum of ${rules.maxWorkers} workers`, 5_000);
  }
  return { isAdmitted: true };
}

function refuse(
  reason: Extract<Admission, { isAdmitted: false }>['reason'],
  message: string,
  retryAfterMs: number | null,
): Admission {
  return { isAdmitted: false, reason, message, retryAfterMs };
}

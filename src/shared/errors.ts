/**
 * The errors that callers react to. Anything else is a TypeError, RangeError or SyntaxError, or a bug.
 */

/** Something the user can mend: a wrong option, a missing file, a port in use. Its message is all they are shown. */
export class UserError extends Error {
  override readonly name = 'UserError';
}

/**
 * Why a connection ends. The close codes are those that stand on the wire (RFC 6455 leaves 4000–4999 to
 * applications); docs/protocol.md lists them.
 */
export const CLOSE_CODES = {
  /** The run is finished; the worker is done. */
  finished: 4000,
  /** The coordinator stops; the run can be resumed. */
  stopped: 4001,
  /** The worker said `leave`. */
  left: 4002,
  /** The frame is no message, or one with wrong fields. */
  malformed: 4400,
  /** The token is missing or wrong. */
  unauthorized: 4401,
  /** The worker's engine failed its proof or is not allowed in this run. */
  engineRefused: 4403,
  /** Nothing was heard within the heartbeat timeout. */
  silent: 4408,
  /** Pings were answered, but none of the work within the answer deadline. */
  mute: 4410,
  /** The same worker connected again; the older connection ends. */
  replaced: 4409,
  /** The worker's and the coordinator's protocol versions differ. */
  versionMismatch: 4426,
  /** The message is well-formed but answers nothing that was asked. */
  unexpected: 4422,
  /** Too many failures lately; come back later. */
  quarantined: 4429,
  /** Values that cannot be right: NaN, Inf, or bits that an audit refuted. */
  badNumbers: 4460,
  /** The run has its maximum of workers. */
  full: 4503,
} as const;
export type CloseReason = keyof typeof CLOSE_CODES;

/** The other side broke the protocol: its connection is closed with the code, and the run goes on. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
  readonly reason: CloseReason;

  constructor(reason: CloseReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }

  get closeCode(): number {
    return CLOSE_CODES[this.reason];
  }
}

/** The sentence of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

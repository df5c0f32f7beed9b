/**
 * The errors that callers react to. Anything else is a TypeError, RangeError or SyntaxError, or a bug.
 */

/** Something the user can mend: a wrong option, a missing file, a port in use. Its message is all they are shown. */
export class UserError extends Error {
  override readonly name = 'UserError';
}

/** The command line or configuration is invalid: exit code 2. */
export class UsageError extends UserError {}

/** Makes something of values that the user gave: what is out of its range is theirs to mend. */
export function fromUser<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UserError(error.message, { cause: error });
  }
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
  /** More frames or bytes a second than work could need. */
  flooding: 4413,
  /** It does not read what it is sent: too much is queued. */
  slow: 4414,
  /** Values that cannot be right: NaN, Inf, or bits that an audit refuted. */
  badNumbers: 4460,
  /** It had not said hello when too many others came. */
  crowded: 4502,
  /** The run has its maximum of workers. */
  full: 4503,
  /** An error that nobody expected, on the side that closes. */
  failed: 1011,
} as const;
export type CloseReason = keyof typeof CLOSE_CODES;

/** What a close frame has room for besides its code (RFC 6455, section 5.5.1). */
const MAX_CLOSE_REASON_BYTES = 123;

/** The text, or as much of its beginning as fits into a close frame, cut between two characters. */
export function closeReason(text: string): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(MAX_CLOSE_REASON_BYTES));
  return text.slice(0, read);
}

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

/** For the log: the sentence and where it was thrown, in one line. */
export function stackOf(error: unknown): string {
  const stack = error instanceof Error ? error.stack : undefined;
  return (stack ?? messageOf(error)).replace(/\s*\n\s*/g, ' ');
}

/**
 * One worker's connection: its state, its deadlines, and the guarantee that an error in its messages affects no other
 * connection.
 */
import type { Channel, ChannelHandler, Frame } from '../../shared/channel.js';
import type { Clock, Timer } from '../../shared/clock.js';
import { decodeWorkerMessage, encode } from '../../shared/codec.js';
import { DEADLINES } from '../../shared/deadlines.js';
import { CLOSE_CODES, ProtocolError, type CloseReason } from '../../shared/errors.js';
import type { CoordinatorMessage, RunProgress, WorkerMessage } from '../../shared/protocol.js';
import type { FailureHistory } from './membership.js';
import type { ClockOffset } from './meters.js';

/** Pings that a connection may leave open; it lives on what else it says. */
const MAX_PINGS_OPEN = 64;

/** A worker that has said hello in this run, connected or not; of those that are away, as many as are remembered. */
export interface Member {
  readonly workerId: string;
  name: string;
  host: string;
  engine: string;
  device: string;
  /** Workers that it stands for: those behind a relay, or itself. */
  numWorkers: number;
  /** By the coordinator's verdict on its proof, not by its own word. */
  isExact: boolean;
  history: FailureHistory;
  /** Where it came from. */
  address: string;
  /** It came, without an id, from where others were shut out: nothing it says counts before it is confirmed. */
  readonly isOnProbation: boolean;
  /** Null while it is away. */
  connection: Connection | null;
  absentSince: number;
  readonly clockOffset: ClockOffset;
  hasTakenPart: boolean;
}

/** Whose connections they are. */
export interface ConnectionOwner {
  /** @throws {ProtocolError} to have the connection closed */
  received(connection: Connection, message: WorkerMessage): void;
  /** All that was sent on the connection has left. */
  drained(connection: Connection): void;
  /** The connection broke the protocol, and is to be closed for it. */
  wronged(connection: Connection, error: ProtocolError): void;
  /** Called when a connection has ended, from either side; `reason` is null if it just broke. */
  lose(connection: Connection, reason: CloseReason | null, message: string): void;
  /** An error that nobody expected came of what the connection said. */
  failed(connection: Connection, error: unknown): void;
}

export class Connection implements ChannelHandler {
  readonly channel: Channel;
  readonly address: string;
  state: 'greeting' | 'proving' | 'active' | 'closed' = 'greeting';
  member: Member | null = null;
  lastHeardAt: number;
  proofSeed = 0;
  /** As its hello said. */
  wantsProgress = false;
  /** The samples that the worker says it has, bit i for sample i; null until it is admitted, where it has none of the run. */
  cached: Uint8Array | null = null;
  private readonly owner: ConnectionOwner;
  private readonly clock: Clock;
  private deadline: Timer | null = null;
  /** Whether it has said something since the last ping. */
  private hasSpoken = true;
  /** Whether the first ping since it last spoke waits behind frames that have not left. */
  private isPingWaiting = false;
  /** What waited to leave when the heartbeat last looked. */
  private queuedBytes = 0;
  /** When the pings were sent that have no pong yet, oldest first. */
  private pings: number[] = [];

  constructor(owner: ConnectionOwner, channel: Channel, address: string, clock: Clock) {
    this.owner = owner;
    this.channel = channel;
    this.address = address;
    this.clock = clock;
    this.lastHeardAt = clock.now();
    this.expect('hello', DEADLINES.helloMs);
  }

  send(message: CoordinatorMessage): void {
    this.channel.send(encode(message));
  }

  /** The worker has said hello, and is to say ready. */
  welcome(member: Member, proofSeed: number): void {
    this.member = member;
    this.proofSeed = proofSeed;
    this.state = 'proving';
    this.expect('ready', DEADLINES.readyMs);
  }

  /** The worker is one of the run. */
  admit(): void {
    this.state = 'active';
    this.channel.trust?.();
    this.deadline?.cancel();
  }

  /**
   * For how long it has said nothing, ms. While the ping waits behind frames that are leaving, the worker has not been
   * asked; what is queued after the ping has no say in it.
   */
  silentMs(now: number): number {
    const { bufferedBytes } = this.channel;
    if (this.isPingWaiting && bufferedBytes < this.queuedBytes) this.lastHeardAt = now;
    if (bufferedBytes === 0) this.isPingWaiting = false;
    this.queuedBytes = bufferedBytes;
    return now - this.lastHeardAt;
  }

  /** Asks for a sign of life, unless it owes too many already. @param progress for those who want it */
  ping(now: number, progress: () => RunProgress | null): void {
    if (this.hasSpoken) this.isPingWaiting = this.channel.bufferedBytes > 0;
    this.hasSpoken = false;
    if (this.pings.length >= MAX_PINGS_OPEN) return;
    this.pings.push(now);
    const told = this.wantsProgress ? progress() : null;
    this.send({ type: 'ping', sentAt: now, ...(told && { progress: told }) });
  }

  /** @throws {ProtocolError} if the pong answers no ping */
  takePong(sentAt: number): void {
    const index = this.pings.indexOf(sentAt);
    if (index < 0) throw new ProtocolError('unexpected', 'A pong that no ping asked for');
    this.pings = this.pings.slice(index + 1);
  }

  /** Ends it, in as many words as the reason has; without any where the other side is not there to hear them. */
  end(reason: CloseReason | null, message: string): void {
    this.state = 'closed';
    this.deadline?.cancel();
    if (reason === null || reason === 'silent' || reason === 'crowded') this.channel.terminate();
    else this.channel.close(CLOSE_CODES[reason], message);
  }

  received(frame: Frame): void {
    if (this.state === 'closed') return;
    this.lastHeardAt = this.clock.now();
    this.hasSpoken = true;
    this.contain(() => {
      try {
        this.owner.received(this, decodeWorkerMessage(frame));
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        this.owner.wronged(this, error);
      }
    });
  }

  drained(): void {
    if (this.isPingWaiting) this.lastHeardAt = this.clock.now();
    this.isPingWaiting = false;
    this.contain(() => this.owner.drained(this));
  }

  closed(code: number, reason: string): void {
    const said = reason === '' ? '' : `: ${reason}`;
    this.contain(() =>
      this.owner.lose(this, null, `the connection closed with code ${code}${said}`),
    );
  }

  private contain(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.owner.failed(this, error);
    }
  }

  private expect(what: string, withinMs: number): void {
    this.deadline?.cancel();
    this.deadline = this.clock.schedule(withinMs, () =>
      this.owner.lose(this, 'silent', `no ${what} within ${withinMs / 1000} s`),
    );
  }
}

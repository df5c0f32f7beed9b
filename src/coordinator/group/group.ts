/**
 * The workers of a run and their connections: heartbeats, losses, and routing of messages. Admission is the reception's job;
 * assigning work is the dispatcher's.
 */
import type { Channel } from '../../shared/channel.js';
import type { Clock, Timer } from '../../shared/clock.js';
import { ProtocolError, stackOf, type CloseReason } from '../../shared/errors.js';
import type { Message, RunProgress, WorkerMessage } from '../../shared/protocol.js';
import type { Random } from '../../shared/random.js';
import type { Observer, WorkerLost } from '../events.js';
import { Connection, type ConnectionOwner, type Member } from './connection.js';
import { recordFailure, shutOut } from './membership.js';
import { Reception, type ReceptionOptions, type Refusal } from './reception.js';
import { Roster } from './roster.js';

/** Pings per heartbeat timeout; silence is detected one ping before the timeout is over. */
const PINGS_PER_TIMEOUT = 6;

export type { Member };

/** Notified by the group. */
export interface GroupHandler {
  /** @param cached the samples that the worker has, bit i for sample i; the handler may change it */
  joined(member: Member, cached: Uint8Array): void;
  /** The worker's send queue is empty. */
  drained(member: Member): void;
  /** @returns whether the worker held work, and what was done about it, for the log */
  lost(member: Member, isGraceful: boolean): { readonly hadWork: boolean; readonly action: string };
  /** @throws {ProtocolError} to have the connection closed */
  answered(member: Member, message: Message<'partial'> | Message<'evaluation'>): void;
  /** One slice of an answer, but not the last. @throws {ProtocolError} to have the connection closed */
  sliced(member: Member, message: Message<'gradientSlice'>): void;
}

export interface GroupOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly report: Observer;
  readonly welcome: ReceptionOptions['welcome'];
  readonly workerKey: ReceptionOptions['workerKey'];
  readonly judge: ReceptionOptions['judge'];
  readonly isTokenRight: ReceptionOptions['isTokenRight'];
  readonly maxWorkers: number;
  /** The run's progress, for workers that ask for it; none by default. */
  readonly progress?: (workerId: string) => RunProgress;
}

const UNATTENDED: GroupHandler = {
  joined: () => undefined,
  drained: () => undefined,
  lost: () => ({ hadWork: false, action: 'nothing to do' }),
  answered: () => undefined,
  sliced: () => undefined,
};

export class WorkerGroup implements ConnectionOwner {
  /** Set by the owner before it accepts a connection. */
  handler: GroupHandler = UNATTENDED;
  private readonly roster = new Roster();
  private readonly reception: Reception;
  private readonly connections = new Set<Connection>();
  private readonly options: GroupOptions;
  private timer: Timer | null = null;
  private lastTickAt: number;
  private closing: { readonly isFinal: boolean; readonly reason: string } | null = null;

  constructor(options: GroupOptions) {
    this.options = options;
    this.lastTickAt = options.clock.now();
    this.reception = new Reception(options, this.roster, this.lose.bind(this));
    this.scheduleTick();
  }

  accept(channel: Channel, address: string): void {
    const { clock } = this.options;
    const connection = new Connection(this, channel, address, clock);
    channel.handler = connection;
    if (this.closing) {
      connection.send({ type: 'finished', ...this.closing });
      connection.end(this.closing.isFinal ? 'finished' : 'stopped', 'the run is over');
      return;
    }
    this.connections.add(connection);
    this.reception.enter(connection);
  }

  /** The workers that are ready for work, in rank order. */
  active(): readonly Member[] {
    return this.roster.active();
  }

  /** Bytes in the send queue of each worker, by workerId; empty queues are left out. */
  queuedBytes(): Map<string, number> {
    const queued = new Map<string, number>();
    for (const { workerId, connection } of this.roster.all()) {
      const numBytes = connection?.channel.bufferedBytes ?? 0;
      if (numBytes > 0) queued.set(workerId, numBytes);
    }
    return queued;
  }

  all(): Iterable<Member> {
    return this.roster.all();
  }

  get(workerId: string): Member | undefined {
    return this.roster.get(workerId);
  }

  /** Evicts a misbehaving worker; `isForGood` shuts it out for the rest of the run. */
  evict(member: Member, reason: CloseReason, message: string, isForGood = false): void {
    if (isForGood) {
      member.history = shutOut(member.history);
      this.reception.shutOut(member.address);
    } else this.reception.failed(member.address);
    if (member.connection) this.lose(member.connection, reason, message);
  }

  /** Sends away the connected workers with that name or id, for the rest of the run. @returns how many */
  dismiss(nameOrId: string): number {
    const dismissed = this.roster.called(nameOrId);
    for (const member of dismissed) {
      const connection = member.connection!;
      member.history = shutOut(member.history);
      connection.send({ type: 'finished', isFinal: true, reason: 'this worker was sent away' });
      this.lose(connection, 'finished', 'it was sent away');
    }
    return dismissed.length;
  }

  /** Tells every worker that the run is over or suspended, closes all connections and accepts no more. */
  close(isFinal: boolean, reason: string): void {
    this.closing = { isFinal, reason };
    this.timer?.cancel();
    for (const connection of [...this.connections]) {
      connection.send({ type: 'finished', isFinal, reason });
      connection.end(isFinal ? 'finished' : 'stopped', reason);
    }
    this.connections.clear();
    this.roster.changed();
  }

  drained(connection: Connection): void {
    if (connection.state === 'active') this.handler.drained(connection.member!);
  }

  /** The connection broke the protocol. */
  wronged(connection: Connection, { reason, message }: ProtocolError): void {
    if (connection.state !== 'active') this.reception.failed(connection.address);
    this.lose(connection, reason, message);
  }

  /** Ends a connection that either side gave up; `reason` is null if it simply broke. */
  lose(connection: Connection, reason: CloseReason | null, message: string): void {
    if (connection.state === 'closed') return;
    const wasActive = connection.state === 'active';
    const wasReceiving = connection.channel.isReceiving;
    connection.end(reason, message);
    this.dropConnection(connection);
    const { member } = connection;
    if (member?.connection !== connection) {
      if (reason !== null && reason !== 'replaced') {
        this.reception.notice(`Connection from ${connection.address} closed: ${message}`);
      }
      return;
    }
    const { clock, report } = this.options;
    this.roster.leaveBehind(member, clock.now());
    const isGraceful = reason === 'left' || reason === 'replaced' || reason === 'finished';
    if (!isGraceful) member.history = recordFailure(clock.now(), member.history);
    if (!wasActive) {
      this.reception.notice(`${member.name} (${member.workerId}) did not get ready: ${message}`);
      return;
    }
    const { hadWork, action } = this.handler.lost(member, isGraceful);
    const phase: WorkerLost['phase'] = !hadWork
      ? 'waiting'
      : wasReceiving
        ? 'sending'
        : 'computing';
    const silentMs = clock.now() - connection.lastHeardAt;
    report({
      type: 'workerLost',
      time: clock.now(),
      workerId: member.workerId,
      name: member.name,
      worldSize: this.active().length,
      isGraceful,
      phase,
      lastSeen: connection.lastHeardAt,
      message:
        `${member.name} (${member.workerId}) ${isGraceful ? 'left' : 'lost'} while ${phase}: ${message}; ` +
        `${isGraceful ? '' : `last heard ${(silentMs / 1000).toFixed(1)} s ago; `}${action}`,
    });
  }

  /** A bug: logs the stack and ends the connection, and the run continues. */
  failed(connection: Connection, error: unknown): void {
    this.complain(`Internal error, closing a worker's connection: ${stackOf(error)}`);
    try {
      this.lose(connection, 'failed', 'an internal error of the coordinator');
    } catch (another) {
      this.complain(`Internal error, the worker's units were not reassigned: ${stackOf(another)}`);
    }
  }

  received(connection: Connection, message: WorkerMessage): void {
    if (connection.state === 'greeting') {
      if (message.type !== 'hello') throw unexpected(message, 'hello');
      const refusal = this.reception.greet(connection, message);
      if (refusal) this.refuse(connection, refusal, message.name);
      return;
    }
    const member = connection.member!;
    switch (message.type) {
      case 'hello':
        throw unexpected(message, 'only one hello');
      case 'ready':
        if (connection.state !== 'proving') throw unexpected(message, 'only one ready');
        this.admit(connection, member, message);
        break;
      case 'partial':
      case 'evaluation':
        if (connection.state !== 'active') throw unexpected(message, 'ready');
        this.handler.answered(member, message);
        break;
      case 'gradientSlice':
        if (connection.state !== 'active') throw unexpected(message, 'ready');
        this.handler.sliced(member, message);
        break;
      case 'pong':
        connection.takePong(message.sentAt);
        this.measure(member, message);
        break;
      case 'leave':
        this.lose(connection, 'left', 'it said goodbye');
        break;
    }
  }

  private admit(connection: Connection, member: Member, ready: Message<'ready'>): void {
    const refusal = this.reception.admit(connection, member, ready);
    if (refusal) this.refuse(connection, refusal, member.name);
    else this.handler.joined(member, connection.cached!);
  }

  private dropConnection(connection: Connection): void {
    this.connections.delete(connection);
    this.reception.leave(connection);
  }

  private refuse(connection: Connection, refusal: Refusal, name: string): void {
    const { reason, message, retryAfterMs } = refusal;
    connection.send({ type: 'refused', reason: message, retryAfterMs });
    connection.end(reason, message);
    this.dropConnection(connection);
    const { member } = connection;
    if (member?.connection === connection) {
      this.roster.leaveBehind(member, this.options.clock.now());
    }
    this.reception.notice(`${name} refused: ${message}`);
  }

  private measure(member: Member, pong: Message<'pong'>): void {
    const { clock, report } = this.options;
    const now = clock.now();
    const roundTripMs = now - pong.sentAt;
    member.numWorkers = pong.numWorkers ?? 1;
    member.clockOffset.add(roundTripMs, pong.workerTime - (pong.sentAt + now) / 2);
    report({
      type: 'workerPinged',
      time: now,
      workerId: member.workerId,
      roundTripMs,
      clockOffsetMs: member.clockOffset.offsetMs,
      ...(pong.numWorkers === undefined ? {} : { numWorkers: pong.numWorkers }),
      isHidden: pong.isHidden ?? null,
    });
  }

  private scheduleTick(): void {
    const { clock, welcome } = this.options;
    this.timer = clock.schedule(welcome.heartbeatTimeoutMs / PINGS_PER_TIMEOUT, () => {
      this.tick();
      this.scheduleTick();
    });
  }

  /** Pings every worker, and drops those that have been silent for too long. */
  private tick(): void {
    const { clock, welcome } = this.options;
    const now = clock.now();
    const tickMs = welcome.heartbeatTimeoutMs / PINGS_PER_TIMEOUT;
    // If this process itself stalled, messages that arrived meanwhile have not been read yet.
    const wasAsleep = now - this.lastTickAt > 2 * tickMs;
    this.lastTickAt = now;
    for (const connection of [...this.connections]) {
      if (wasAsleep) connection.lastHeardAt = now;
      if (connection.state === 'greeting') continue;
      const silentMs = connection.silentMs(now);
      if (silentMs >= welcome.heartbeatTimeoutMs - tickMs) {
        this.lose(connection, 'silent', `silent for ${(silentMs / 1000).toFixed(1)} s`);
      } else {
        connection.ping(now, () => this.options.progress?.(connection.member!.workerId) ?? null);
      }
    }
  }

  private complain(message: string): void {
    const { clock, report } = this.options;
    report({ type: 'notice', time: clock.now(), level: 'error', message });
  }
}

function unexpected(message: WorkerMessage, wanted: string): ProtocolError {
  return new ProtocolError('unexpected', `Unexpected ${message.type}: expected ${wanted}`);
}

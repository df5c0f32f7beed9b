/**
 * The workers of a run and their connections: greeting, proof, heartbeats, loss. It knows who is there; what they are
 * to do is the dispatcher's business.
 */
import type { Channel } from '../../shared/channel.js';
import type { Clock, Timer } from '../../shared/clock.js';
import { ProtocolError, stackOf, type CloseReason } from '../../shared/errors.js';
import {
  PROTOCOL_VERSION,
  type Message,
  type RunProgress,
  type WorkerMessage,
} from '../../shared/protocol.js';
import type { Random } from '../../shared/random.js';
import type { Verdict } from '../../model/engine/proof.js';
import type { Observer, WorkerLost } from '../events.js';
import { AddressBook } from './address-book.js';
import { Connection, type ConnectionOwner, type Member } from './connection.js';
import { Identity } from './identity.js';
import {
  NO_FAILURES,
  decideAdmission,
  fullRun,
  recordFailure,
  shutOut,
  whomToForget,
} from './membership.js';
import { ClockOffset } from './meters.js';
import { TokenBucket } from '../../shared/token-bucket.js';
import { WaitingRoom } from './waiting-room.js';

/** Pings within a heartbeat timeout; silence is noticed one ping before the timeout is over. */
const PINGS_PER_TIMEOUT = 6;
/** Connections that have not said hello; one more, and one of them goes. */
export const MAX_STRANGERS = 128;
/** Those that have, and have not proved themselves yet: as many as the run takes workers, and so many more. */
export const MORE_PROVING = 128;

/** Lines of the log about connections that no worker was behind. */
const STRANGER_NOTICES_PER_SECOND = 2;

export type { Member };

/** What the group tells its owner. */
export interface GroupHandler {
  /** @param cached the samples that the worker has kept, bit i for sample i; the handler's to change */
  joined(member: Member, cached: Uint8Array): void;
  /** All that was sent to the worker has left. */
  drained(member: Member): void;
  /** @returns what was done about the work that the worker held, for the log, and the phase it was in */
  lost(member: Member, isGraceful: boolean): { readonly hadWork: boolean; readonly action: string };
  /** @throws {ProtocolError} to have the connection closed */
  answered(member: Member, message: Message<'partial'> | Message<'evaluation'>): void;
  /** A part of an answer that is not whole yet. @throws {ProtocolError} to have the connection closed */
  sliced(member: Member, message: Message<'gradientSlice'>): void;
}

export interface GroupOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly report: Observer;
  /** The welcome of this run, but for what is the worker's own. */
  readonly welcome: Omit<Message<'welcome'>, 'type' | 'workerId' | 'secret' | 'proofSeed'>;
  /** The key of the workers' secrets, 32 random bytes: the same as long as the run lasts, known to nobody else. */
  readonly workerKey: Uint8Array;
  readonly judge: (ready: Message<'ready'>, proofSeed: number) => Verdict;
  readonly isTokenRight: (token: string | null) => boolean;
  readonly maxWorkers: number;
  /** How the run is going, as a worker is told that wants to know; nothing by default. */
  readonly progress?: (workerId: string) => RunProgress;
}

const UNATTENDED: GroupHandler = {
  joined: () => undefined,
  drained: () => undefined,
  lost: () => ({ hadWork: false, action: 'nobody cares' }),
  answered: () => undefined,
  sliced: () => undefined,
};

export class WorkerGroup implements ConnectionOwner {
  /** Set by the owner before it accepts a connection. */
  handler: GroupHandler = UNATTENDED;
  /** By workerId, in the order of their first hello: their ranks. */
  private readonly members = new Map<string, Member>();
  private readonly connections = new Set<Connection>();
  private readonly addresses = new AddressBook();
  private readonly identity: Identity;
  /** Those of them that have not said hello. */
  private readonly strangers: WaitingRoom<Connection>;
  /** Those that have, and have not proved themselves. */
  private readonly proving: WaitingRoom<Connection>;
  private readonly options: GroupOptions;
  private readonly strangerNotices = new TokenBucket(
    STRANGER_NOTICES_PER_SECOND,
    10 * STRANGER_NOTICES_PER_SECOND,
  );
  private numUnsaid = 0;
  private timer: Timer | null = null;
  private lastTickAt: number;
  private closing: { readonly isFinal: boolean; readonly reason: string } | null = null;

  constructor(options: GroupOptions) {
    this.options = options;
    this.identity = new Identity(options.workerKey);
    this.lastTickAt = options.clock.now();
    this.strangers = new WaitingRoom(MAX_STRANGERS, (connection) =>
      this.lose(connection, 'crowded', 'it had not said hello, and others came'),
    );
    this.proving = new WaitingRoom(MORE_PROVING + options.maxWorkers, (connection) =>
      this.lose(connection, 'crowded', 'it had not proved itself, and others came'),
    );
    this.scheduleTick();
  }

  /** Takes a new connection. */
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
    this.strangers.enter(connection, address);
  }

  /** Workers ready to work, by rank. */
  active(): Member[] {
    return [...this.members.values()].filter(({ connection }) => connection?.state === 'active');
  }

  /** By workerId: bytes that wait to leave for a worker, where there are any. */
  queuedBytes(): Map<string, number> {
    const queued = new Map<string, number>();
    for (const { workerId, connection } of this.members.values()) {
      const numBytes = connection?.channel.bufferedBytes ?? 0;
      if (numBytes > 0) queued.set(workerId, numBytes);
    }
    return queued;
  }

  all(): Iterable<Member> {
    return this.members.values();
  }

  get(workerId: string): Member | undefined {
    return this.members.get(workerId);
  }

  /** Ends the connection of a worker that did wrong; `isForGood` shuts it out of the run. */
  evict(member: Member, reason: CloseReason, message: string, isForGood = false): void {
    const now = this.options.clock.now();
    if (isForGood) {
      member.history = shutOut(member.history);
      this.addresses.shutOut(now, member.address);
    } else this.addresses.failed(now, member.address);
    if (member.connection) this.lose(member.connection, reason, message);
  }

  /** Sends the connected workers of that name or id away, for the rest of the run. @returns how many there were */
  dismiss(nameOrId: string): number {
    const dismissed = [...this.members.values()].filter(
      ({ name, workerId, connection }) => connection && [name, workerId].includes(nameOrId),
    );
    for (const member of dismissed) {
      const connection = member.connection!;
      member.history = shutOut(member.history);
      connection.send({ type: 'finished', isFinal: true, reason: 'it was sent away' });
      this.lose(connection, 'finished', 'it was sent away');
    }
    return dismissed.length;
  }

  /** Tells every worker that the run is over or suspended, closes all connections and takes no more. */
  close(isFinal: boolean, reason: string): void {
    this.closing = { isFinal, reason };
    this.timer?.cancel();
    for (const connection of [...this.connections]) {
      connection.send({ type: 'finished', isFinal, reason });
      connection.end(isFinal ? 'finished' : 'stopped', reason);
    }
    this.connections.clear();
  }

  drained(connection: Connection): void {
    if (connection.state === 'active') this.handler.drained(connection.member!);
  }

  /** A connection broke the protocol. */
  wronged(connection: Connection, { reason, message }: ProtocolError): void {
    if (connection.state !== 'active') this.fail(connection);
    this.lose(connection, reason, message);
  }

  /** Ends a connection, whoever began; `reason` is null when it just broke. */
  lose(connection: Connection, reason: CloseReason | null, message: string): void {
    if (connection.state === 'closed') return;
    const wasActive = connection.state === 'active';
    const wasReceiving = connection.channel.isReceiving;
    connection.end(reason, message);
    this.dropConnection(connection);
    const { member } = connection;
    if (member?.connection !== connection) {
      if (reason !== null && reason !== 'replaced') {
        this.strangerNotice(`Connection from ${connection.address} closed: ${message}`);
      }
      return;
    }
    this.leaveBehind(member);
    const { clock, report } = this.options;
    const isGraceful = reason === 'left' || reason === 'replaced' || reason === 'finished';
    if (!isGraceful) member.history = recordFailure(clock.now(), member.history);
    if (!wasActive) {
      this.strangerNotice(`${member.name} (${member.workerId}) did not get ready: ${message}`);
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

  /** Ends the connection, and shows the stack: it is a bug, and the run goes on. */
  failed(connection: Connection, error: unknown): void {
    this.notice('error', `A connection is closed for an error of ours: ${stackOf(error)}`);
    try {
      this.lose(connection, 'failed', 'an error of the coordinator');
    } catch (another) {
      this.notice('error', `Its work was not given back: ${stackOf(another)}`);
    }
  }

  received(connection: Connection, message: WorkerMessage): void {
    if (connection.state === 'greeting') {
      if (message.type !== 'hello') throw unexpected(message, 'hello');
      this.greet(connection, message);
      return;
    }
    const member = connection.member!;
    switch (message.type) {
      case 'hello':
        throw unexpected(message, 'no second hello');
      case 'ready':
        if (connection.state !== 'proving') throw unexpected(message, 'no second ready');
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

  private greet(connection: Connection, hello: Message<'hello'>): void {
    const { clock, random, welcome } = this.options;
    const { workerId: id, secret } = hello;
    const isOwner = id !== null && secret !== null && this.identity.isOwner(id, secret);
    const known = isOwner ? this.members.get(id) : undefined;
    const origin = this.addresses.of(connection.address);
    const admission = decideAdmission(
      clock.now(),
      {
        history: isOwner ? (known?.history ?? NO_FAILURES) : origin,
        isNew: !isOwner,
        tokenMatches: this.options.isTokenRight(hello.token),
        protocolVersion: hello.protocolVersion,
        isConnected: known?.connection != null,
      },
      {
        protocolVersion: PROTOCOL_VERSION,
        maxWorkers: this.options.maxWorkers,
        numActive: this.active().length,
      },
    );
    if (!admission.isAdmitted) {
      const { reason, message, retryAfterMs } = admission;
      if (reason === 'unauthorized') this.fail(connection);
      this.refuse(connection, reason, message, retryAfterMs, hello.name);
      return;
    }
    if (known?.connection) this.lose(known.connection, 'replaced', 'it connected again');
    const workerId = isOwner ? id : this.newWorkerId();
    const member: Member = known ?? {
      workerId,
      name: hello.name,
      host: hello.host,
      engine: hello.engine,
      device: '',
      numWorkers: 1,
      isExact: false,
      history: NO_FAILURES,
      address: connection.address,
      isOnProbation: !isOwner && origin.numShutOut > 0,
      connection: null,
      absentSince: 0,
      clockOffset: new ClockOffset(),
      hasTakenPart: false,
    };
    member.address = connection.address;
    member.name = hello.name;
    member.host = hello.host;
    member.engine = hello.engine;
    connection.wantsProgress = hello.wantsProgress ?? false;
    connection.cached = cachedSamples(hello, welcome.datasetId, welcome.numSamples);
    member.connection = connection;
    this.members.set(workerId, member);
    const proofSeed = random.uint32();
    this.strangers.leave(connection);
    this.proving.enter(connection, connection.address);
    connection.welcome(member, proofSeed);
    connection.send({
      ...{ type: 'welcome', workerId, secret: this.identity.secretOf(workerId) },
      ...{ proofSeed, ...welcome },
    });
  }

  private admit(connection: Connection, member: Member, ready: Message<'ready'>): void {
    const { clock, report, judge, maxWorkers } = this.options;
    // Others may have been faster.
    const numActive = this.active().length;
    if (numActive >= maxWorkers) {
      const { message, retryAfterMs } = fullRun(maxWorkers);
      this.refuse(connection, 'full', message, retryAfterMs, member.name);
      return;
    }
    const verdict = judge(ready, connection.proofSeed);
    if (!verdict.isAccepted) {
      this.fail(connection);
      this.refuse(connection, 'engineRefused', verdict.message, null, member.name);
      return;
    }
    const isReturn = member.hasTakenPart;
    member.isExact = verdict.isExact;
    member.device = ready.device;
    member.hasTakenPart = true;
    this.proving.leave(connection);
    connection.admit();
    report({
      type: 'workerJoined',
      time: clock.now(),
      workerId: member.workerId,
      name: member.name,
      host: member.host,
      engine: member.engine,
      device: member.device,
      isExact: member.isExact,
      worldSize: this.active().length,
      isReturn,
    });
    this.handler.joined(member, connection.cached);
  }

  private dropConnection(connection: Connection): void {
    this.connections.delete(connection);
    this.strangers.leave(connection);
    this.proving.leave(connection);
  }

  private refuse(
    connection: Connection,
    reason: CloseReason,
    message: string,
    retryAfterMs: number | null,
    name: string,
  ): void {
    connection.send({ type: 'refused', reason: message, retryAfterMs });
    connection.end(reason, message);
    this.dropConnection(connection);
    if (connection.member?.connection === connection) this.leaveBehind(connection.member);
    this.strangerNotice(`${name} refused: ${message}`);
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

  /** Pings everyone, and loses those that were silent for too long. */
  private tick(): void {
    const { clock, welcome } = this.options;
    const now = clock.now();
    const tickMs = welcome.heartbeatTimeoutMs / PINGS_PER_TIMEOUT;
    // Where this process itself was held up, what the workers said meanwhile is still waiting to be read.
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

  /** Long enough that none is drawn twice, those forgotten among them. */
  private newWorkerId(): string {
    const { random } = this.options;
    const draw = () => random.uint32().toString(36).padStart(7, '0');
    return `w${draw()}${draw()}`;
  }

  /** A stranger did wrong, whom nothing but its address tells from others. */
  private fail({ address }: Connection): void {
    this.addresses.failed(this.options.clock.now(), address);
  }

  /** The member is away; of those that are, some may have to be forgotten. */
  private leaveBehind(member: Member): void {
    member.connection = null;
    member.absentSince = this.options.clock.now();
    const absent = [...this.members.values()].filter(({ connection }) => connection === null);
    for (const { workerId } of whomToForget(absent)) this.members.delete(workerId);
  }

  /** Strangers come by the thousand: not each of them is worth a line. */
  private strangerNotice(message: string): void {
    if (!this.strangerNotices.take(this.options.clock.now())) {
      this.numUnsaid++;
      return;
    }
    const others = this.numUnsaid > 0 ? `; ${this.numUnsaid} others before it` : '';
    this.numUnsaid = 0;
    this.notice('warn', `${message}${others}`);
  }

  private notice(level: 'warn' | 'error', message: string): void {
    const { clock, report } = this.options;
    report({ type: 'notice', time: clock.now(), level, message });
  }
}

function unexpected(message: WorkerMessage, wanted: string): ProtocolError {
  return new ProtocolError('unexpected', `Unexpected ${message.type}: expected ${wanted}`);
}

/** The bits of the samples that a worker says it has, if they are of this data set. */
function cachedSamples(hello: Message<'hello'>, datasetId: string, numSamples: number): Uint8Array {
  const numBytes = Math.ceil(numSamples / 8);
  const cached = new Uint8Array(numBytes);
  if (hello.datasetId !== datasetId) return cached;
  if (hello.cached.length !== numBytes) {
    throw new ProtocolError(
      'malformed',
      `Wrong length of cached: ${hello.cached.length} bytes, expected ${numBytes}`,
    );
  }
  cached.set(hello.cached);
  return cached;
}

/**
 * Where workers come in. Each says hello, shows the secret of its id if it has one, and proves its engine; who does not is
 * turned away, and however many come, there is room for so many and no more. Those who are in are the group's.
 */
import type { Verdict } from '../../model/engine/proof.js';
import type { Clock } from '../../shared/clock.js';
import { ProtocolError, type CloseReason } from '../../shared/errors.js';
import { PROTOCOL_VERSION, type Message } from '../../shared/protocol.js';
import type { Random } from '../../shared/random.js';
import { TokenBucket } from '../../shared/token-bucket.js';
import type { Observer } from '../events.js';
import { AddressBook } from './address-book.js';
import type { Connection, Member } from './connection.js';
import { Identity } from './identity.js';
import { NO_FAILURES, decideAdmission, fullRun } from './membership.js';
import { ClockOffset } from './meters.js';
import type { Roster } from './roster.js';
import { WaitingRoom } from './waiting-room.js';

/** Connections that have not said hello; one more, and one of them goes. */
export const MAX_STRANGERS = 128;
/** Those that have, and have not proved themselves yet: as many as the run takes workers, and so many more. */
export const MORE_PROVING = 128;

/** Lines of the log about connections that no worker was behind. */
const STRANGER_NOTICES_PER_SECOND = 2;

export interface ReceptionOptions {
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
}

/** Why a worker is not taken. */
export interface Refusal {
  readonly reason: CloseReason;
  readonly message: string;
  /** When to try again, ms from now; null for never. */
  readonly retryAfterMs: number | null;
}

export class Reception {
  /** What went wrong with workers, by where they came from. */
  private readonly addresses = new AddressBook();
  private readonly options: ReceptionOptions;
  private readonly roster: Roster;
  private readonly lose: (connection: Connection, reason: CloseReason, message: string) => void;
  private readonly identity: Identity;
  /** Connections that have not said hello. */
  private readonly strangers: WaitingRoom<Connection>;
  /** Those that have, and have not proved themselves. */
  private readonly proving: WaitingRoom<Connection>;
  private readonly notices = new TokenBucket(
    STRANGER_NOTICES_PER_SECOND,
    10 * STRANGER_NOTICES_PER_SECOND,
  );
  private numUnsaid = 0;

  /** @param lose ends a connection that another takes the place of */
  constructor(options: ReceptionOptions, roster: Roster, lose: Reception['lose']) {
    this.options = options;
    this.roster = roster;
    this.lose = lose;
    this.identity = new Identity(options.workerKey);
    this.strangers = new WaitingRoom(MAX_STRANGERS, (connection) =>
      lose(connection, 'crowded', 'it had not said hello, and others came'),
    );
    this.proving = new WaitingRoom(MORE_PROVING + options.maxWorkers, (connection) =>
      lose(connection, 'crowded', 'it had not proved itself, and others came'),
    );
  }

  /** A new connection. */
  enter(connection: Connection): void {
    this.strangers.enter(connection, connection.address);
  }

  /** The connection is over, whatever it waited for. */
  leave(connection: Connection): void {
    this.strangers.leave(connection);
    this.proving.leave(connection);
  }

  /** Welcomes a worker that may prove itself. @returns why it may not; null if it may */
  greet(connection: Connection, hello: Message<'hello'>): Refusal | null {
    const { clock, random, welcome, maxWorkers } = this.options;
    const { workerId: id, secret, name, host, engine } = hello;
    const { address } = connection;
    const isOwner = id !== null && secret !== null && this.identity.isOwner(id, secret);
    const known = isOwner ? this.roster.get(id) : undefined;
    const origin = this.addresses.of(address);
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
        maxWorkers,
        numActive: this.roster.active().length,
      },
    );
    if (!admission.isAdmitted) {
      if (admission.reason === 'unauthorized') this.failed(address);
      return admission;
    }
    if (known?.connection) this.lose(known.connection, 'replaced', 'it connected again');
    const workerId = isOwner ? id : this.newWorkerId();
    const member: Member = known ?? {
      ...{ workerId, name, host, engine, address },
      device: '',
      numWorkers: 1,
      isExact: false,
      history: NO_FAILURES,
      isOnProbation: !isOwner && origin.numShutOut > 0,
      connection: null,
      absentSince: 0,
      clockOffset: new ClockOffset(),
      hasTakenPart: false,
    };
    member.name = name;
    member.host = host;
    member.engine = engine;
    member.address = address;
    connection.wantsProgress = hello.wantsProgress ?? false;
    connection.cached = cachedSamples(hello, welcome.datasetId, welcome.numSamples);
    member.connection = connection;
    this.roster.add(member);
    const proofSeed = random.uint32();
    this.strangers.leave(connection);
    this.proving.enter(connection, address);
    connection.welcome(member, proofSeed);
    connection.send({
      ...{ type: 'welcome', workerId, secret: this.identity.secretOf(workerId) },
      ...{ proofSeed, ...welcome },
    });
    return null;
  }

  /** Takes a worker in that has proved itself. @returns why it is not taken; null if it is */
  admit(connection: Connection, member: Member, ready: Message<'ready'>): Refusal | null {
    const { clock, report, judge, maxWorkers } = this.options;
    // Others may have been faster.
    if (this.roster.active().length >= maxWorkers) return fullRun(maxWorkers);
    const verdict = judge(ready, connection.proofSeed);
    if (!verdict.isAccepted) {
      this.failed(connection.address);
      return { reason: 'engineRefused', message: verdict.message, retryAfterMs: null };
    }
    const isReturn = member.hasTakenPart;
    member.isExact = verdict.isExact;
    member.device = ready.device;
    member.hasTakenPart = true;
    this.proving.leave(connection);
    connection.admit();
    const { workerId, name, host, engine, device, isExact } = member;
    report({
      type: 'workerJoined',
      time: clock.now(),
      ...{ workerId, name, host, engine, device, isExact },
      worldSize: this.roster.active().length,
      isReturn,
    });
    return null;
  }

  /** Somebody from that address did wrong: a stranger, whom nothing else tells from others, or a worker. */
  failed(address: string): void {
    this.addresses.failed(this.options.clock.now(), address);
  }

  /** A worker from that address was shut out. */
  shutOut(address: string): void {
    this.addresses.shutOut(this.options.clock.now(), address);
  }

  /** Strangers come by the thousand: not each of them is worth a line. */
  notice(message: string): void {
    const { clock, report } = this.options;
    const time = clock.now();
    if (!this.notices.take(time)) {
      this.numUnsaid++;
      return;
    }
    const others = this.numUnsaid > 0 ? `; ${this.numUnsaid} others before it` : '';
    this.numUnsaid = 0;
    report({ type: 'notice', time, level: 'warn', message: `${message}${others}` });
  }

  /** Long enough that none is drawn twice, those forgotten among them. */
  private newWorkerId(): string {
    const { random } = this.options;
    const draw = () => random.uint32().toString(36).padStart(7, '0');
    return `w${draw()}${draw()}`;
  }
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

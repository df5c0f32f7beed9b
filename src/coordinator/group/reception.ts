/**
 * Admits workers. Each says hello, presents the secret of its id if it has one, and proves its engine; otherwise it is turned
 * away. The number of connections at each stage is bounded, however many arrive. Admitted workers belong to the group.
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

/** Connections that have not said hello; one more, and one of them is dropped. */
export const MAX_STRANGERS = 128;
/** Connections between hello and proof: --max-workers plus this many. */
export const MORE_PROVING = 128;

/** Log lines about connections that did not become workers. */
const STRANGER_NOTICES_PER_SECOND = 2;

export interface ReceptionOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly report: Observer;
  /** The run's welcome, without the fields that differ between workers. */
  readonly welcome: Omit<Message<'welcome'>, 'type' | 'workerId' | 'secret' | 'proofSeed'>;
  /** The key of the workers' secrets, 32 random bytes: fixed for the whole run, and known only to the coordinator. */
  readonly workerKey: Uint8Array;
  readonly judge: (ready: Message<'ready'>, proofSeed: number) => Verdict;
  readonly isTokenRight: (token: string | null) => boolean;
  readonly maxWorkers: number;
}

/** Why a worker is not admitted. */
export interface Refusal {
  readonly reason: CloseReason;
  readonly message: string;
  /** When to try again, ms from now; null for never. */
  readonly retryAfterMs: number | null;
}

export class Reception {
  private readonly addresses = new AddressBook();
  private readonly options: ReceptionOptions;
  private readonly roster: Roster;
  private readonly lose: (connection: Connection, reason: CloseReason, message: string) => void;
  private readonly identity: Identity;
  /** Connections that have not said hello. */
  private readonly strangers: WaitingRoom<Connection>;
  /** Connections between hello and proof. */
  private readonly proving: WaitingRoom<Connection>;
  private readonly notices = new TokenBucket(
    STRANGER_NOTICES_PER_SECOND,
    10 * STRANGER_NOTICES_PER_SECOND,
  );
  private numUnsaid = 0;

  /** @param lose ends a connection that has to make room for another */
  constructor(options: ReceptionOptions, roster: Roster, lose: Reception['lose']) {
    this.options = options;
    this.roster = roster;
    this.lose = lose;
    this.identity = new Identity(options.workerKey);
    this.strangers = new WaitingRoom(MAX_STRANGERS, (connection) =>
      lose(connection, 'crowded', 'too many connections, and it had not said hello'),
    );
    this.proving = new WaitingRoom(MORE_PROVING + options.maxWorkers, (connection) =>
      lose(connection, 'crowded', 'too many connections, and it had not proved its engine'),
    );
  }

  /** A new connection. */
  enter(connection: Connection): void {
    this.strangers.enter(connection, connection.address);
  }

  /** The connection has ended, at whatever stage. */
  leave(connection: Connection): void {
    this.strangers.leave(connection);
    this.proving.leave(connection);
  }

  /** Handles hello: welcomes the worker, which then has to prove its engine. @returns null if it was welcomed */
  greet(connection: Connection, hello: Message<'hello'>): Refusal | null {
    const { clock, random, welcome, maxWorkers } = this.options;
    const { workerId: id, secret, name, host, engine } = hello;
    const { address } = connection;
    const isOwner = id !== null && secret !== null && this.identity.isOwner(id, secret);
    const known = isOwner ? this.roster.get(id) : undefined;
    const origin = this.addresses.of(address);
    // An id is given before any proof: it speaks for a worker only once that has taken part.
    const isKnown =
      known !== undefined && (known.hasTakenPart || known.history.keptOutUntil === Infinity);
    const admission = decideAdmission(
      clock.now(),
      {
        history: isKnown ? known.history : origin,
        isNew: !isKnown,
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
    const member: Member = isKnown
      ? known
      : {
          ...{ workerId, name, host, engine, address },
          device: '',
          numWorkers: 1,
          isExact: false,
          history: NO_FAILURES,
          isOnProbation: origin.numShutOut > 0,
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

  /** Handles ready: checks the proof and admits the worker. @returns null if it was admitted */
  admit(connection: Connection, member: Member, ready: Message<'ready'>): Refusal | null {
    const { clock, report, judge, maxWorkers, welcome } = this.options;
    // The run may have filled up since hello.
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
    connection.cached ??= new Uint8Array(Math.ceil(welcome.numSamples / 8));
    connection.admit();
    this.roster.changed();
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

  /** A worker, or a connection that never became one, misbehaved. */
  failed(address: string): void {
    this.addresses.failed(this.options.clock.now(), address);
  }

  shutOut(address: string): void {
    this.addresses.shutOut(this.options.clock.now(), address);
  }

  /** Rate-limited, as strangers may connect by the thousand. */
  notice(message: string): void {
    const { clock, report } = this.options;
    const time = clock.now();
    if (!this.notices.take(time)) {
      this.numUnsaid++;
      return;
    }
    const others = this.numUnsaid > 0 ? `; ${this.numUnsaid} more before it were not logged` : '';
    this.numUnsaid = 0;
    report({ type: 'notice', time, level: 'warn', message: `${message}${others}` });
  }

  /** Long enough never to repeat, not even the id of a forgotten worker. */
  private newWorkerId(): string {
    const { random } = this.options;
    const draw = () => random.uint32().toString(36).padStart(7, '0');
    return `w${draw()}${draw()}`;
  }
}

/** Which samples the worker says it has, bit i for sample i; null if they are of another data set. */
function cachedSamples(
  hello: Message<'hello'>,
  datasetId: string,
  numSamples: number,
): Uint8Array | null {
  if (hello.datasetId !== datasetId) return null;
  const numBytes = Math.ceil(numSamples / 8);
  if (hello.cached.length !== numBytes) {
    throw new ProtocolError(
      'malformed',
      `Wrong length of cached: ${hello.cached.length} bytes, expected ${numBytes}`,
    );
  }
  return hello.cached.slice();
}

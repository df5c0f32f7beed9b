/**
 * A network in virtual time: TCP as `ws` shows it. Frames of a connection arrive whole and in order or not at all;
 * different connections overtake each other; a connection breaks with or without a word.
 */
import {
  frameBytes,
  type Channel,
  type ChannelHandler,
  type Frame,
} from '../../../src/shared/channel.js';
import { DEADLINES } from '../../../src/shared/deadlines.js';
import { closeReason } from '../../../src/shared/errors.js';
import type { Random } from '../../../src/shared/random.js';
import type { VirtualProcess, VirtualTime } from '../virtual-clock.js';

/** The way between the machine of a worker, or of a relay, and those that it dials. */
export class Link {
  latencyMs: number;
  jitterMs: number;
  bytesPerMs: number;
  /** While cut, frames wait, as TCP sends them again and again; new connections do not come about. */
  isCut = false;
  readonly connections = new Set<Connection>();

  constructor(latencyMs: number, jitterMs: number, bytesPerMs: number) {
    this.latencyMs = latencyMs;
    this.jitterMs = jitterMs;
    this.bytesPerMs = bytesPerMs;
  }

  heal(): void {
    this.isCut = false;
    for (const connection of this.connections) connection.pump();
  }

  /** Breaks what connections there are; both sides are told soon. */
  reset(): void {
    for (const connection of [...this.connections]) connection.reset();
  }

  /** Breaks what connections there are and tells nobody. */
  blackhole(): void {
    for (const connection of [...this.connections]) connection.isBlackHole = true;
  }
}

/** Who takes connections: the process of the coordinator or of a relay, while it listens. */
export interface Listener {
  readonly process: VirtualProcess;
  readonly accept: (channel: End, address: string) => void;
}

export class SimulatedNetwork {
  /** By address. */
  private readonly listeners = new Map<string, Listener>();
  readonly time: VirtualTime;
  readonly random: Random;

  constructor(time: VirtualTime, random: Random) {
    this.time = time;
    this.random = random;
  }

  listen(address: string, listener: Listener): void {
    this.listeners.set(address, listener);
  }

  /** Takes no more connections for that process. */
  close(address: string, process: VirtualProcess): void {
    if (this.listeners.get(address)?.process === process) this.listeners.delete(address);
  }

  /** Opens a connection from a process to whoever listens there. */
  dial(
    process: VirtualProcess,
    link: Link,
    address: string,
    signal: AbortSignal,
  ): Promise<Channel> {
    return new Promise((resolve, reject) => {
      let isSettled = false;
      const fail = (message: string) => {
        if (isSettled) return;
        isSettled = true;
        timeout.cancel();
        signal.removeEventListener('abort', abort);
        reject(new Error(message));
      };
      const abort = () => process.after(0, () => fail('the dialling was given up'));
      const timeout = process.after(DEADLINES.dialMs, () => fail('Opening handshake timed out'));
      signal.addEventListener('abort', abort, { once: true });

      const arrive = () => {
        if (link.isCut) return;
        const listener = this.listeners.get(address);
        if (!listener || listener.process.state === 'dead') {
          process.after(this.delay(link), () => fail('connect ECONNREFUSED'));
          return;
        }
        listener.process.after(0, () => {
          if (this.listeners.get(address) !== listener) return;
          const connection = new Connection(this, link, process, listener.process);
          listener.accept(connection.upperEnd, process.name);
          this.time.schedule(this.delay(link), () => {
            process.after(0, () => {
              if (isSettled || signal.aborted) {
                connection.lowerEnd.terminate();
                return;
              }
              isSettled = true;
              timeout.cancel();
              signal.removeEventListener('abort', abort);
              resolve(connection.lowerEnd);
            });
          });
        });
      };
      this.time.schedule(this.delay(link), arrive);
    });
  }

  /** The connections of a process that is gone: its system tells the other sides, or (a machine gone too) does not. */
  forget(process: VirtualProcess, links: readonly Link[], isSilent: boolean): void {
    for (const link of links) {
      for (const connection of [...link.connections]) {
        for (const end of [connection.lowerEnd, connection.upperEnd]) {
          if (end.process === process) connection.abandon(end, isSilent);
        }
      }
    }
  }

  delay(link: Link): number {
    return link.latencyMs + link.jitterMs * this.random.float();
  }
}

type Item =
  | { readonly kind: 'frame'; frame: Frame; readonly arriveAt: number; leftAt: number }
  | { readonly kind: 'close'; readonly code: number; readonly reason: string; arriveAt: number }
  | { readonly kind: 'reset'; arriveAt: number };

export class Connection {
  readonly lowerEnd: End;
  readonly upperEnd: End;
  readonly link: Link;
  isBlackHole = false;

  constructor(network: SimulatedNetwork, link: Link, lower: VirtualProcess, upper: VirtualProcess) {
    this.link = link;
    this.lowerEnd = new End(network, this, lower);
    this.upperEnd = new End(network, this, upper);
    this.lowerEnd.peer = this.upperEnd;
    this.upperEnd.peer = this.lowerEnd;
    link.connections.add(this);
  }

  pump(): void {
    this.lowerEnd.pump();
    this.upperEnd.pump();
  }

  /** The path between them breaks: each side finds out, what was under way is lost. */
  reset(): void {
    this.isBlackHole = true;
    for (const end of [this.lowerEnd, this.upperEnd]) end.breakSoon();
  }

  /** One side's process is gone. */
  abandon(end: End, isSilent: boolean): void {
    end.state = 'closed';
    if (isSilent) this.isBlackHole = true;
    else end.sendReset();
    this.forgetIfOver();
  }

  forgetIfOver(): void {
    if (this.lowerEnd.state === 'closed' && this.upperEnd.state === 'closed') {
      this.link.connections.delete(this);
    }
  }
}

/** One side of a connection. */
export class End implements Channel {
  handler: ChannelHandler = { received: () => undefined, closed: () => undefined };
  state: 'open' | 'closing' | 'closed' = 'open';
  peer!: End;
  readonly process: VirtualProcess;
  private readonly network: SimulatedNetwork;
  private readonly connection: Connection;
  /** Frames that, as far as the process knows, have not left yet. */
  readonly queue: { readonly frame: Frame; readonly left: (() => void) | undefined }[] = [];
  /** Under way to the peer. */
  private readonly items: Item[] = [];
  private lastLeftAt = 0;
  private lastArrivalAt = 0;
  /** Here, not handed to the process yet. */
  private readonly inbox: (() => void)[] = [];
  private isTold = false;

  constructor(network: SimulatedNetwork, connection: Connection, process: VirtualProcess) {
    this.network = network;
    this.connection = connection;
    this.process = process;
  }

  get bufferedBytes(): number {
    return this.queue.reduce((numBytes, { frame }) => numBytes + frameBytes(frame), 0);
  }

  get isReceiving(): boolean {
    const { now } = this.network.time;
    const next = this.peer.items.at(0);
    if (next?.kind !== 'frame' || this.connection.isBlackHole) return false;
    return next.arriveAt - frameBytes(next.frame) / this.connection.link.bytesPerMs <= now;
  }

  send(frame: Frame, left?: () => void): void {
    if (this.state !== 'open') {
      left?.();
      return;
    }
    const { link } = this.connection;
    const { time } = this.network;
    // The bytes are the sender's until they have left: whoever changes them too early is found out.
    const leftAt = Math.max(this.lastLeftAt, time.now) + frameBytes(frame) / link.bytesPerMs;
    this.lastLeftAt = leftAt;
    const item: Item = { kind: 'frame', frame, leftAt, arriveAt: this.arrival(leftAt) };
    this.queue.push({ frame, left });
    time.schedule(leftAt - time.now, () => {
      item.frame = item.frame.map((piece) => piece.slice());
      this.process.after(0, () => {
        const first = this.queue.shift();
        if (!first) return;
        first.left?.();
        if (this.queue.length === 0) this.handler.drained?.();
      });
    });
    this.push(item);
  }

  close(code: number, reason: string): void {
    if (this.state !== 'open') return;
    this.state = 'closing';
    this.push({
      kind: 'close',
      code,
      reason: closeReason(reason),
      arriveAt: this.arrival(this.lastLeftAt),
    });
    this.network.time.schedule(DEADLINES.closeMs, () => {
      if (this.state !== 'closed') this.terminate();
    });
  }

  terminate(): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.connection.forgetIfOver();
    this.sendReset();
    this.tell(1006, '');
  }

  /** The peer's system says that nobody is there. */
  sendReset(): void {
    const { now } = this.network.time;
    // What has not left the process goes with it.
    const left = this.items.filter((item) => item.kind !== 'frame' || item.leftAt <= now);
    this.items.splice(0, this.items.length, ...left);
    for (const { left } of this.queue.splice(0)) this.process.after(0, () => left?.());
    this.lastLeftAt = now;
    this.push({ kind: 'reset', arriveAt: this.arrival(now) });
  }

  breakSoon(): void {
    this.network.time.schedule(this.network.delay(this.connection.link), () => this.break());
  }

  /** Hands on what has arrived. */
  pump(): void {
    const { time } = this.network;
    if (this.connection.isBlackHole) {
      this.items.length = 0;
      return;
    }
    if (this.connection.link.isCut) return;
    for (let next = this.items.at(0); next && next.arriveAt <= time.now; next = this.items.at(0)) {
      this.items.shift();
      this.peer.take(next);
    }
  }

  private push(item: Item): void {
    const { time } = this.network;
    this.items.push(item);
    time.schedule(item.arriveAt - time.now, () => this.pump());
  }

  private arrival(leftAt: number): number {
    const { time } = this.network;
    const at = Math.max(leftAt, time.now) + this.network.delay(this.connection.link);
    this.lastArrivalAt = Math.max(this.lastArrivalAt, at);
    return this.lastArrivalAt;
  }

  /** By this side's system; the process gets it when it has time. */
  private take(item: Item): void {
    if (this.process.state === 'dead') {
      if (item.kind !== 'reset') this.sendReset();
      return;
    }
    switch (item.kind) {
      case 'frame':
        this.deliver(() => {
          if (!this.isTold) this.handler.received(item.frame);
        });
        break;
      case 'close':
        this.deliver(() => {
          if (this.state === 'closed') return;
          const wasOpen = this.state === 'open';
          this.state = 'closed';
          if (wasOpen) {
            this.push({ ...item, arriveAt: this.arrival(this.lastLeftAt) });
          }
          this.connection.forgetIfOver();
          this.tellNow(item.code, item.reason);
        });
        break;
      case 'reset':
        this.deliver(() => this.break());
        break;
    }
  }

  private break(): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.connection.forgetIfOver();
    this.tell(1006, '');
  }

  private tell(code: number, reason: string): void {
    this.deliver(() => this.tellNow(code, reason));
  }

  private tellNow(code: number, reason: string): void {
    if (this.isTold) return;
    this.isTold = true;
    this.handler.closed(code, reason);
  }

  /** First in, first out, however events of the process are held and let go. */
  private deliver(action: () => void): void {
    this.inbox.push(action);
    this.process.after(0, () => this.inbox.shift()!());
  }
}

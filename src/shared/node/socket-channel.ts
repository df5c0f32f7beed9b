/**
 * A WebSocket of `ws` as a `Channel`, on either side: what the peer sends and leaves unread is bounded.
 */
import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import {
  frameBytes,
  joinFrame,
  type Channel,
  type ChannelHandler,
  type Frame,
} from '../channel.js';
import type { Clock } from '../clock.js';
import { CLOSE_CODES, closeReason, type CloseReason } from '../errors.js';
import { TokenBucket } from '../token-bucket.js';

/** What one connection may cost; a peer that goes beyond is cut off. */
export interface ChannelLimits {
  /** Frames that it may send, control frames among them, once it is trusted, and before. */
  readonly framesPerSecond: number;
  readonly strangerFramesPerSecond: number;
  readonly bytesPerSecond: number;
  /** Bytes that it may leave unread. */
  readonly maxQueuedBytes: number;
}

/** For a side that trusts the other one. */
export const NO_LIMITS: ChannelLimits = {
  framesPerSecond: Infinity,
  strangerFramesPerSecond: Infinity,
  bytesPerSecond: Infinity,
  maxQueuedBytes: Infinity,
};

export class SocketChannel implements Channel {
  /** Called when this side begins to close it. */
  onClosing: () => void = () => undefined;
  /** Resolves when it has closed. */
  readonly ended: Promise<void>;
  private handler_: ChannelHandler = { received: () => undefined, closed: () => undefined };
  private readonly webSocket: WebSocket;
  private readonly socket: Pick<Socket, 'bytesRead' | 'cork' | 'uncork'> | null;
  private readonly limits: ChannelLimits;
  private readonly clock: Clock;
  private framesPerSecond: number;
  private frames: TokenBucket;
  private readonly bytes: TokenBucket;
  /** Of the mask in what arrives: a client's frames have one. */
  private readonly maskBytes: 0 | 4;
  /** Bytes of all frames that have arrived whole, with their headers, and of the handshake. */
  private wholeBytes: number;
  /** Whether something that was sent has not been handed to the network. */
  private hasQueue = false;
  /** Why this side has cut it off, if it has. */
  private cause: { readonly reason: CloseReason; readonly message: string } | null = null;

  /**
   * @param webSocket open
   * @param socket below it; null where the runtime has a WebSocket of its own, as Bun has for clients
   */
  constructor(
    webSocket: WebSocket,
    socket: Pick<Socket, 'bytesRead' | 'cork' | 'uncork'> | null,
    side: 'coordinator' | 'worker',
    limits: ChannelLimits,
    clock: Clock,
  ) {
    this.webSocket = webSocket;
    this.socket = socket;
    this.limits = limits;
    this.clock = clock;
    this.framesPerSecond = limits.strangerFramesPerSecond;
    this.frames = new TokenBucket(this.framesPerSecond, this.framesPerSecond);
    this.bytes = new TokenBucket(limits.bytesPerSecond, limits.bytesPerSecond);
    this.maskBytes = side === 'coordinator' ? 4 : 0;
    this.wholeBytes = socket?.bytesRead ?? 0;
    webSocket.pause();
    if (!IS_BUN) webSocket.binaryType = 'fragments';
    webSocket.on('message', (data, isBinary) => {
      const frame = Array.isArray(data) ? data : [data as Buffer];
      if (!this.allows(frame)) return;
      if (isBinary) this.handler.received(frame);
      else this.close(CLOSE_CODES.malformed, 'text frames are not of the protocol');
    });
    for (const event of ['ping', 'pong'] as const) {
      webSocket.on(event, (data: Buffer) => void this.allows([data]));
    }
    // Whatever goes wrong, `close` follows and tells.
    webSocket.on('error', () => undefined);
    this.ended = new Promise((resolve) => {
      webSocket.once('close', (code, reason) => {
        if (this.cause) this.handler.closed(CLOSE_CODES[this.cause.reason], this.cause.message);
        else this.handler.closed(code, reason.toString());
        resolve();
      });
    });
  }

  get handler(): ChannelHandler {
    return this.handler_;
  }

  /** What arrives waits for the first one. */
  set handler(handler: ChannelHandler) {
    this.handler_ = handler;
    this.webSocket.resume();
  }

  get bufferedBytes(): number {
    return this.webSocket.bufferedAmount;
  }

  get isReceiving(): boolean {
    return this.socket !== null && this.socket.bytesRead > this.wholeBytes;
  }

  send(frame: Frame, left?: () => void): void {
    const { webSocket } = this;
    if (webSocket.readyState !== webSocket.OPEN) {
      left?.();
      return;
    }
    const pieces = IS_BUN ? [joinFrame(frame)] : frame;
    const sent = () => {
      left?.();
      if (!this.hasQueue || this.bufferedBytes > 0) return;
      this.hasQueue = false;
      this.handler.drained?.();
    };
    // All pieces in one call of the system.
    this.socket?.cork();
    for (const [i, piece] of pieces.entries()) {
      const isLast = i === pieces.length - 1;
      webSocket.send(piece, { binary: true, fin: isLast }, isLast ? sent : undefined);
    }
    this.socket?.uncork();
    this.hasQueue ||= this.bufferedBytes > 0;
    const { maxQueuedBytes } = this.limits;
    if (this.bufferedBytes > maxQueuedBytes) {
      this.cut('slow', `more than ${maxQueuedBytes} bytes are queued for it`);
    }
  }

  trust(): void {
    this.framesPerSecond = this.limits.framesPerSecond;
    this.frames = new TokenBucket(this.framesPerSecond, this.framesPerSecond);
  }

  close(code: number, reason: string): void {
    this.onClosing();
    this.webSocket.close(code, closeReason(reason));
  }

  terminate(): void {
    this.webSocket.terminate();
  }

  /** Counts a frame that has arrived. @returns false if it was one too many */
  private allows(pieces: Frame): boolean {
    const numBytes =
      frameBytes(pieces) +
      pieces.reduce((sum, { length }) => sum + headerBytes(length) + this.maskBytes, 0);
    this.wholeBytes += numBytes;
    if (this.cause) return false;
    const { bytesPerSecond } = this.limits;
    const now = this.clock.now();
    if (!this.frames.take(now)) {
      return this.cut('flooding', `more than ${this.framesPerSecond} frames a second`);
    }
    if (!this.bytes.take(now, numBytes)) {
      return this.cut('flooding', `more than ${bytesPerSecond} bytes a second`);
    }
    return true;
  }

  /** Ends it without waiting for a peer that has shown that it does not listen. */
  private cut(reason: CloseReason, message: string): false {
    this.cause ??= { reason, message };
    this.close(CLOSE_CODES[reason], message);
    this.terminate();
    return false;
  }
}

/** Bun has a WebSocket of its own, which knows neither pieces of a frame nor corks. */
const IS_BUN = process.versions.bun !== undefined;

/** Bytes before the payload of a frame, without the mask (RFC 6455, section 5.2). */
function headerBytes(payloadBytes: number): number {
  if (payloadBytes < 126) return 2;
  return payloadBytes < 65_536 ? 4 : 10;
}

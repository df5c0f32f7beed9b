/**
 * A worker's WebSocket to the coordinator on platforms that provide one: browsers, including their threads. It sends an
 * `Origin`, cannot pin a key, and learns nothing about an error except that one occurred.
 */
import { joinFrame, type Channel, type ChannelHandler, type Frame } from '../shared/channel.js';
import type { Clock } from '../shared/clock.js';
import { DEADLINES } from '../shared/deadlines.js';
import { closeReason } from '../shared/errors.js';

/** The part of the platform's WebSocket used here; TypeScript declares it only in its DOM library. */
interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  onopen: (() => void) | null;
  onerror: (() => void) | null;
  onclose: ((event: { readonly code: number; readonly reason: string }) => void) | null;
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  send(frame: Uint8Array): void;
  close(code?: number, reason?: string): void;
}
declare const WebSocket: new (url: string) => WebSocketLike;

/** Close code of a broken connection (RFC 6455, section 7.4.1). */
const BROKEN = 1006;
/** The lowest code that a script may close with, besides 1000. */
const FIRST_OF_SCRIPTS = 3000;

/**
 * Opens a connection.
 *
 * @param url `ws://host:port/` or `wss://host:port/`
 * @throws {Error} if it does not open in time, or the signal aborts
 */
export function dialFromBrowser(url: string, clock: Clock, signal: AbortSignal): Promise<Channel> {
  return new Promise((resolve, reject) => {
    const webSocket = new WebSocket(url);
    webSocket.binaryType = 'arraybuffer';
    const giveUp = (why: string) => {
      settle();
      webSocket.close();
      reject(new Error(why));
    };
    const abort = () => giveUp('the worker is leaving');
    const late = clock.schedule(DEADLINES.dialMs, () => giveUp('no answer'));
    const settle = () => {
      late.cancel();
      signal.removeEventListener('abort', abort);
    };
    signal.addEventListener('abort', abort, { once: true });
    webSocket.onopen = () => {
      settle();
      resolve(new WebChannel(webSocket));
    };
    // Carries no information; a close event follows.
    webSocket.onerror = () => undefined;
    webSocket.onclose = () => {
      settle();
      reject(new Error('no connection'));
    };
  });
}

class WebChannel implements Channel {
  /** The platform does not tell. */
  readonly isReceiving = false;
  private readonly webSocket: WebSocketLike;
  private handler_: ChannelHandler = { received: () => undefined, closed: () => undefined };
  /** Frames received before a handler was set; null from then on. */
  private early: Frame[] | null = [];
  private isOpen = true;

  /** @param webSocket open */
  constructor(webSocket: WebSocketLike) {
    this.webSocket = webSocket;
    webSocket.onmessage = ({ data }) => {
      // The protocol has no text frames: an empty frame fails when it is decoded.
      const frame = [data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(0)];
      if (this.early) this.early.push(frame);
      else this.handler.received(frame);
    };
    webSocket.onclose = ({ code, reason }) => this.closed(code, reason);
  }

  get handler(): ChannelHandler {
    return this.handler_;
  }

  set handler(handler: ChannelHandler) {
    this.handler_ = handler;
    const frames = this.early ?? [];
    this.early = null;
    for (const frame of frames) handler.received(frame);
  }

  get bufferedBytes(): number {
    return this.webSocket.bufferedAmount;
  }

  /** The platform copies the frame, so its memory may change at once. */
  send(frame: Frame, left?: () => void): void {
    if (this.isOpen) this.webSocket.send(joinFrame(frame));
    left?.();
  }

  close(code: number, reason: string): void {
    this.webSocket.close(code < FIRST_OF_SCRIPTS ? 1000 : code, closeReason(reason));
  }

  /** A script cannot cut a connection: closes it, and ignores whatever still arrives. */
  terminate(): void {
    this.webSocket.close();
    this.closed(BROKEN, '');
  }

  private closed(code: number, reason: string): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.webSocket.onmessage = null;
    this.handler.closed(code, reason);
  }
}

/**
 * A worker's WebSocket to the coordinator, as a `Channel`. One of the two files that know `ws`.
 */
import { WebSocket, type ClientOptions } from 'ws';
import type { Channel, ChannelHandler } from '../shared/channel.js';
import { CLOSE_CODES } from '../shared/errors.js';

const HANDSHAKE_TIMEOUT_MS = 5_000;
/** The longest frame that a worker takes: the parameters of the largest model that fits. */
const MAX_PAYLOAD_BYTES = 256 * 1024 * 1024;

/**
 * Opens a connection.
 *
 * @param url `ws://host:port`, or `wss://…` where something in front of the coordinator speaks TLS
 * @throws {Error} if there is none to be had, or the signal aborts
 */
export function dial(url: string, signal: AbortSignal): Promise<Channel> {
  const options: ClientOptions = {
    perMessageDeflate: false,
    maxPayload: MAX_PAYLOAD_BYTES,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    skipUTF8Validation: true,
    // A zero mask: masking protects proxies from scripts in browsers, and costs half of a round trip here.
    generateMask: () => undefined,
  };
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, options);
    const abort = () => socket.terminate();
    signal.addEventListener('abort', abort, { once: true });
    socket.once('error', reject);
    socket.once('close', () => signal.removeEventListener('abort', abort));
    socket.once('open', () => {
      signal.removeEventListener('abort', abort);
      resolve(new SocketChannel(socket));
    });
  });
}

class SocketChannel implements Channel {
  handler: ChannelHandler = { received: () => undefined, closed: () => undefined };
  readonly isReceiving = false;
  private readonly socket: WebSocket;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on('message', (data, isBinary) => {
      if (isBinary) this.handler.received(data as Buffer);
      else this.close(CLOSE_CODES.malformed, 'text frames are not of the protocol');
    });
    socket.on('close', (code, reason) => this.handler.closed(code, reason.toString()));
    // Whatever goes wrong, `close` follows and tells.
    socket.on('error', () => undefined);
  }

  get bufferedBytes(): number {
    return this.socket.bufferedAmount;
  }

  send(frame: Uint8Array): void {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(frame);
  }

  close(code: number, reason: string): void {
    this.socket.close(code, reason);
  }

  terminate(): void {
    this.socket.terminate();
  }
}

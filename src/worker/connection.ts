/**
 * A worker's WebSocket to the coordinator. One of the two files that know `ws`.
 */
import type { Socket } from 'node:net';
import { WebSocket, type ClientOptions } from 'ws';
import type { Channel } from '../shared/channel.js';
import { systemClock } from '../shared/clock.js';
import { DEADLINES } from '../shared/deadlines.js';
import { NO_LIMITS, SocketChannel } from '../shared/node/socket-channel.js';

/** The longest frame that a worker takes: the parameters of the largest model that fits. */
const MAX_PAYLOAD_BYTES = 256 * 1024 * 1024;

/**
 * Opens a connection.
 *
 * @param url `ws://host:port`, or `wss://…` where something in front of the coordinator speaks TLS
 * @throws {Error} if there is none to be had, or the signal aborts
 */
export function dial(url: string, signal: AbortSignal): Promise<Channel> {
  const options: ClientOptions & { closeTimeout: number } = {
    perMessageDeflate: false,
    maxPayload: MAX_PAYLOAD_BYTES,
    handshakeTimeout: DEADLINES.dialMs,
    closeTimeout: DEADLINES.closeMs,
    followRedirects: false,
    skipUTF8Validation: true,
    // A zero mask: masking protects proxies from scripts in browsers, and costs half of a round trip here.
    generateMask: () => undefined,
  };
  return new Promise((resolve, reject) => {
    const webSocket = new WebSocket(url, options);
    const abort = () => webSocket.terminate();
    signal.addEventListener('abort', abort, { once: true });
    // Bun's response has none.
    let socket: Socket | null = null;
    webSocket.once('upgrade', (response: { socket: Socket | null }) => (socket = response.socket));
    webSocket.once('error', reject);
    webSocket.once('close', () => signal.removeEventListener('abort', abort));
    webSocket.once('open', () => {
      signal.removeEventListener('abort', abort);
      resolve(new SocketChannel(webSocket, socket, 'worker', NO_LIMITS, systemClock));
    });
  });
}

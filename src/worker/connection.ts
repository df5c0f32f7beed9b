/**
 * A worker's WebSocket to the coordinator. One of the few files that import `ws`.
 */
import type { Socket } from 'node:net';
import { WebSocket, type ClientOptions } from 'ws';
import type { Channel } from '../shared/channel.js';
import { systemClock } from '../shared/clock.js';
import { DEADLINES } from '../shared/deadlines.js';
import { UserError } from '../shared/errors.js';
import { sendIfPinned } from '../shared/node/pin.js';
import { parseJoinLine, type JoinLine } from '../shared/join-line.js';
import { NO_LIMITS, SocketChannel } from '../shared/node/socket-channel.js';

/** The longest frame that a worker accepts: the parameters of the largest model. */
const MAX_PAYLOAD_BYTES = 128 * 1024 * 1024;

/**
 * Opens a connection.
 *
 * @param url `ws://host:port` or `wss://host:port`
 * @param pin SHA-256 of the coordinator's public key; null for a certificate that the system trusts
 * @throws {UserError} if the peer is not the coordinator: retrying would not help
 * @throws {Error} if no connection can be made, or the signal aborts
 */
export function dial(url: string, pin: string | null, signal: AbortSignal): Promise<Channel> {
  const options: ClientOptions & { closeTimeout: number } = {
    perMessageDeflate: false,
    maxPayload: MAX_PAYLOAD_BYTES,
    handshakeTimeout: DEADLINES.dialMs,
    closeTimeout: DEADLINES.closeMs,
    followRedirects: false,
    skipUTF8Validation: true,
    // A zero mask: masking protects proxies from scripts in browsers; here it would only cost half of a round trip.
    generateMask: () => undefined,
    // The pin replaces the checks of a certificate's authority, names and dates.
    ...(pin === null ? {} : { rejectUnauthorized: false, finishRequest: sendIfPinned(pin) }),
  };
  return new Promise((resolve, reject) => {
    const webSocket = new WebSocket(url, options);
    const abort = () => webSocket.terminate();
    signal.addEventListener('abort', abort, { once: true });
    // Null on Bun, whose response has no socket.
    let socket: Socket | null = null;
    webSocket.once('upgrade', (response: { socket: Socket | null }) => (socket = response.socket));
    webSocket.once('error', (error) => reject(explained(error)));
    webSocket.once('close', () => signal.removeEventListener('abort', abort));
    webSocket.once('open', () => {
      signal.removeEventListener('abort', abort);
      resolve(new SocketChannel(webSocket, socket, 'worker', NO_LIMITS, systemClock));
    });
  });
}

/**
 * Like `dial`, but to an alternate server of the run, named by the first one.
 *
 * @param given the join line that the worker was started with: if it uses TLS, the alternate must too
 */
export async function dialAlternate(
  alternate: string,
  given: JoinLine,
  signal: AbortSignal,
): Promise<Channel> {
  const { url, pin } = parseJoinLine(alternate);
  const isSecure = (of: string) => new URL(of).protocol === 'wss:';
  if (isSecure(given.url) && !isSecure(url)) throw new UserError(`${url} does not speak TLS`);
  return dial(url, pin, signal);
}

/** Error codes of OpenSSL and Node for an untrusted certificate. */
const UNTRUSTED = /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_CERT_)/;

function explained(error: Error): Error {
  const { code = '' } = error as NodeJS.ErrnoException;
  if (!UNTRUSTED.test(code)) return error;
  // From version 24 on, Node appends advice of its own.
  const [reason] = error.message.split(';');
  return new UserError(
    `The certificate of the coordinator is not trusted (${reason}); ` +
      'paste the whole join line, with its pin, or name its authority in NODE_EXTRA_CA_CERTS',
    { cause: error },
  );
}

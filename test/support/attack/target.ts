/** A coordinator under attack, and the ways to reach it: from any address of 127.0.0.0/8, with TLS where it speaks it. */
import { connect, type Socket } from 'node:net';
import { connect as connectSecurely } from 'node:tls';
import { WebSocket } from 'ws';
import { systemClock } from '../../../src/shared/clock.js';
import { DEADLINES } from '../../../src/shared/deadlines.js';
import { NO_LIMITS, SocketChannel } from '../../../src/shared/node/socket-channel.js';
import type { Random } from '../../../src/shared/random.js';
import type { Corpus } from './corpus.js';

export interface Door {
  readonly port: number;
  readonly isSecure: boolean;
  /** Of whoever may join; null where nothing is asked for. */
  readonly token: string | null;
}

export interface Target extends Door {
  /** What has passed between it and honest workers. */
  readonly corpus: Corpus;
}

/** The address of honest workers and newcomers: nobody else comes from it. */
export const HONEST_ADDRESS = '127.0.0.1';

export function anyAddress(random: Random): string {
  const byte = () => 1 + random.below(250);
  return `127.${byte()}.${byte()}.${byte()}`;
}

/** A connection with nothing said yet, not even of TLS. */
export function connectPlainly({ port }: Door, localAddress: string): Socket {
  const socket = connect({ port, host: '127.0.0.1', localAddress, allowHalfOpen: true });
  socket.on('error', () => undefined);
  return socket;
}

/** A connection over which HTTP and WebSockets are spoken. */
export function connectTo(target: Door, localAddress: string): Socket {
  const below = connectPlainly(target, localAddress);
  if (!target.isSecure) return below;
  const socket = connectSecurely({ socket: below, rejectUnauthorized: false });
  socket.on('error', () => undefined);
  below.once('close', () => socket.destroy());
  socket.once('close', () => below.destroy());
  return socket;
}

/** As a worker does, but from any address. */
export function dialFrom(target: Door, localAddress: string): Promise<[SocketChannel, WebSocket]> {
  const webSocket = new WebSocket(`${target.isSecure ? 'wss' : 'ws'}://127.0.0.1:${target.port}`, {
    localAddress,
    perMessageDeflate: false,
    rejectUnauthorized: false,
    handshakeTimeout: DEADLINES.dialMs,
  });
  return new Promise((resolve, reject) => {
    webSocket.once('error', reject);
    webSocket.once('open', () =>
      resolve([new SocketChannel(webSocket, null, 'worker', NO_LIMITS, systemClock), webSocket]),
    );
  });
}

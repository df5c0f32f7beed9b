/**
 * The coordinator's one port: workers over WebSockets, everything else over HTTP. One of the two files that know `ws`.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { WebSocketServer, type WebSocket } from 'ws';
import type { Channel, ChannelHandler } from '../shared/channel.js';
import { CLOSE_CODES, UserError } from '../shared/errors.js';
import { FRAME_OVERHEAD_BYTES } from '../shared/protocol.js';

/** Connections at a time; the system has a limit too, and a page takes one. */
const MAX_CONNECTIONS = 1024;
/** After the goodbye, a worker has this long to close its side, ms. */
const CLOSE_TIMEOUT_MS = 500;

export interface ServerOptions {
  readonly host: string;
  readonly port: number;
  /** P; a worker's longest frame is a gradient. */
  readonly numParams: number;
  /** Takes a new connection of a worker. */
  readonly accept: (channel: Channel, address: string) => void;
  /** Answers a request of HTTP. @returns false if it is none of its own */
  readonly handle: (request: IncomingMessage, response: ServerResponse) => boolean;
}

export interface CoordinatorServer {
  readonly host: string;
  readonly port: number;
  /** Resolves when every connection has ended and the port is free. */
  close(): Promise<void>;
}

/** @throws {UserError} if the port cannot be had */
export async function listen(options: ServerOptions): Promise<CoordinatorServer> {
  const server = createServer((request, response) => {
    if (options.handle(request, response)) return;
    response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('Not found\n');
  });
  server.maxConnections = MAX_CONNECTIONS;
  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    skipUTF8Validation: true,
    maxPayload: 4 * options.numParams + FRAME_OVERHEAD_BYTES,
  });
  const channels = new Set<SocketChannel>();
  server.on('upgrade', (request, socket, head) => {
    // The page of another site must not speak for the user; workers are no browsers and send no Origin.
    if (request.url !== '/' || request.headers.origin !== undefined) {
      socket.end('HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n');
      return;
    }
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      const channel = new SocketChannel(webSocket, request.socket);
      channels.add(channel);
      webSocket.once('close', () => channels.delete(channel));
      options.accept(channel, request.socket.remoteAddress ?? 'unknown');
    });
  });
  await startListening(server, options);
  const { port } = server.address() as AddressInfo;
  return {
    host: options.host,
    port,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      const deadline = setTimeout(
        () => channels.forEach((channel) => channel.terminate()),
        CLOSE_TIMEOUT_MS,
      );
      server.closeIdleConnections();
      await Promise.all([...channels].map((channel) => channel.ended));
      clearTimeout(deadline);
      server.closeAllConnections();
      await closed;
    },
  };
}

function startListening(server: Server, { host, port }: ServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new UserError(listenError(error, host, port), { cause: error }));
    });
    server.listen(port, host, resolve);
  });
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): string {
  switch (error.code ?? '') {
    case 'EADDRINUSE':
      return `Cannot listen on ${host}:${port}: the port is in use; take another with --port, or 0 for a free one`;
    case 'EACCES':
      return `Cannot listen on ${host}:${port}: ports below 1024 need rights; take another with --port`;
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return `Cannot listen on ${host}:${port}: this machine has no such address; see --host`;
    default:
      return `Cannot listen on ${host}:${port}: ${error.message}`;
  }
}

class SocketChannel implements Channel {
  handler: ChannelHandler = { received: () => undefined, closed: () => undefined };
  readonly ended: Promise<void>;
  private readonly webSocket: WebSocket;
  private readonly socket: Socket;
  /** Bytes of all frames that have arrived whole, with their headers, and of the handshake. */
  private wholeBytes: number;
  /** Whether something that was sent has not been handed to the network. */
  private hasQueue = false;

  constructor(webSocket: WebSocket, socket: Socket) {
    this.webSocket = webSocket;
    this.socket = socket;
    this.wholeBytes = socket.bytesRead;
    webSocket.on('message', (data, isBinary) => {
      const frame = data as Buffer;
      this.wholeBytes += frame.length + headerBytes(frame.length);
      if (isBinary) this.handler.received(frame);
      else this.close(CLOSE_CODES.malformed, 'text frames are not of the protocol');
    });
    // Whatever goes wrong, `close` follows and tells.
    webSocket.on('error', () => undefined);
    this.ended = new Promise((resolve) => {
      webSocket.once('close', (code, reason) => {
        this.handler.closed(code, reason.toString());
        resolve();
      });
    });
  }

  get bufferedBytes(): number {
    return this.webSocket.bufferedAmount;
  }

  get isReceiving(): boolean {
    return this.socket.bytesRead > this.wholeBytes;
  }

  send(frame: Uint8Array): void {
    if (this.webSocket.readyState !== this.webSocket.OPEN) return;
    this.webSocket.send(frame, () => {
      if (!this.hasQueue || this.bufferedBytes > 0) return;
      this.hasQueue = false;
      this.handler.drained?.();
    });
    this.hasQueue ||= this.bufferedBytes > 0;
  }

  close(code: number, reason: string): void {
    this.webSocket.close(code, reason);
  }

  terminate(): void {
    this.webSocket.terminate();
  }
}

/** Bytes before the payload of a client's frame, the mask among them (RFC 6455, section 5.2). */
function headerBytes(payloadBytes: number): number {
  if (payloadBytes < 126) return 6;
  return payloadBytes < 65_536 ? 8 : 14;
}

/**
 * The coordinator's only port: workers over WebSockets, everything else over HTTP. One of the few files that import `ws`.
 *
 * Every socket is in one pool at a time, each with its own limit: waiting for a request, being answered (pages and their event
 * streams), closing, or in the group of workers. So none can exhaust the capacity of the others.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { WebSocketServer, type ServerOptions as WebSocketServerOptions } from 'ws';
import type { Channel } from '../shared/channel.js';
import type { Clock } from '../shared/clock.js';
import { DEADLINES } from '../shared/deadlines.js';
import { UserError, stackOf } from '../shared/errors.js';
import { listenError } from '../shared/node/listen-error.js';
import { SocketChannel, type ChannelLimits } from '../shared/node/socket-channel.js';
import { TokenBucket } from '../shared/token-bucket.js';
import { networkOf } from './group/membership.js';
import { WaitingRoom } from './group/waiting-room.js';

/** What strangers may take; docs/security.md lists the limits. */
export interface ServerLimits {
  /** Connections without a request under way. */
  readonly maxWaiting: number;
  /** Connections with a request being answered, the open pages among them. */
  readonly maxAnswering: number;
  /** WebSockets that have been told to close and have not yet. */
  readonly maxClosing: number;
  /** WebSockets whose workers are known or about to be: the group keeps its own limits within. */
  readonly maxWebSockets: number;
  /** For a request to have arrived, an upgrade among them, ms; `responseStallMs` holds from then on. */
  readonly requestMs: number;
  /** Requests of HTTP of one address; those for `/healthz` and `/readyz` do not count. */
  readonly requestsPerSecond: number;
  /** Of a processor's time, how much answers may take, of all addresses together; a request counts as 0.5 ms at least. */
  readonly answeringShare: number;
  /** Of each WebSocket. */
  readonly channel: ChannelLimits;
}

/**
 * Connections that the system queues until we accept them. Node's default of 511 fills up under a flood while this process
 * waits for a processor; later clients then retry after 1, 3, 7, 15 s.
 */
const BACKLOG = 4_096;
/** Addresses whose requests are counted; beyond that, all counts are reset. */
const MAX_ADDRESSES = 1_000;
/** Requests of HTTP over one connection; then it is closed. */
const MAX_REQUESTS_PER_CONNECTION = 1_000;
/** The minimum charge for a request, since reading and writing it are not measured. */
const MIN_ANSWER_MS = 0.5;
/** Answers may take their share of as much time at once, ms: some pages and all that is on them. */
const ANSWERING_BURST_MS = 1_000;
/** Delay of the answer to a client that exceeds its rate, ms: an immediate one would be retried immediately. */
const SLOW_ANSWER_MS = 1_000;

/**
 * @param frameBytes of the longest frame
 * @param numSlices in which gradients are sent
 */
export function defaultServerLimits(
  frameBytes: number,
  maxWebSockets: number,
  numSlices = 1,
): ServerLimits {
  return {
    maxWaiting: 256,
    maxAnswering: 128,
    maxClosing: 128,
    maxWebSockets,
    requestMs: DEADLINES.requestMs,
    requestsPerSecond: 100,
    answeringShare: 0.1,
    channel: {
      framesPerSecond: Math.max(10_000, 1_000 * numSlices),
      strangerFramesPerSecond: 50,
      bytesPerSecond: Math.max(256 * 1024 * 1024, 500 * frameBytes),
      maxQueuedBytes: 64 * 1024 * 1024 + 4 * frameBytes,
    },
  };
}

/** What TLS is spoken with; PEM. */
export interface Tls {
  readonly key: string;
  readonly cert: string;
}

export interface ServerOptions {
  readonly host: string;
  readonly port: number;
  /** Null for none: anyone on the network path can then read and change everything. */
  readonly tls: Tls | null;
  /** A longer frame ends the connection (protocol.ts). */
  readonly longestFrameBytes: number;
  readonly limits: ServerLimits;
  readonly clock: Clock;
  /** Takes a new connection of a worker. */
  readonly accept: (channel: Channel, address: string) => void;
  /** Answers a request of HTTP. @returns false if it is not responsible for it */
  readonly handle: (request: IncomingMessage, response: ServerResponse) => boolean;
  /** Whether a WebSocket from a page, a request with an `Origin`, is taken; none is by default. */
  readonly takesPage?: (request: IncomingMessage) => boolean;
  /** Is told what goes wrong and is nobody's business in particular. */
  readonly warn: (message: string) => void;
}

export interface CoordinatorServer {
  readonly host: string;
  readonly port: number;
  /** Resolves when every connection has ended and the port is free. */
  close(): Promise<void>;
}

/** @throws {UserError} if the port cannot be had */
export async function listen(options: ServerOptions): Promise<CoordinatorServer> {
  const { limits, warn } = options;
  const { tls } = options;
  const httpOptions = {
    headersTimeout: limits.requestMs,
    requestTimeout: limits.requestMs,
    keepAliveTimeout: limits.requestMs,
    connectionsCheckingInterval: limits.requestMs / 5,
    noDelay: true,
  };
  const server = tls
    ? createSecureServer({
        ...httpOptions,
        ...tls,
        minVersion: 'TLSv1.3',
        handshakeTimeout: limits.requestMs,
      })
    : createServer(httpOptions);
  server.timeout = DEADLINES.responseStallMs;
  server.maxRequestsPerSocket = MAX_REQUESTS_PER_CONNECTION;
  const { maxWaiting, maxAnswering, maxClosing, maxWebSockets } = limits;
  server.maxConnections = maxWaiting + maxAnswering + maxClosing + maxWebSockets;

  awaitFirstBytes(server, options);
  const sockets = new Set<Socket>();
  const channels = new Set<SocketChannel>();
  const evict = (socket: Socket) => socket.destroy();
  const waiting = new WaitingRoom<Socket>(maxWaiting, evict);
  const answering = new WaitingRoom<Socket>(maxAnswering, evict);
  const closing = new WaitingRoom<Socket>(maxClosing, evict);
  const rooms = [waiting, answering, closing];
  const enter = (socket: Socket) => {
    const address = addressOf(socket);
    sockets.add(socket);
    waiting.enter(socket, address);
    // Node and `ws` listen too, but neither does all the time: between them an error would end the process.
    socket.on('error', () => undefined);
    socket.once('close', () => {
      sockets.delete(socket);
      for (const room of rooms) room.leave(socket);
    });
  };
  server.on('connection', enter);
  if (tls) enterSecured(server, waiting, enter);

  const requestRate = new RequestRate(limits, options.clock);
  /** Connections with a response under way. */
  const busy = new Set<Socket>();
  server.on('request', (request, response) => {
    const { socket } = request;
    const address = addressOf(socket);
    // Requests that do not wait for one another would be held in memory; and Node tells none but the first when its
    // connection is gone.
    if (busy.has(socket)) {
      socket.destroy();
      return;
    }
    busy.add(socket);
    waiting.leave(socket);
    answering.enter(socket, address);
    response.once('close', () => {
      busy.delete(socket);
      answering.leave(socket);
      if (!socket.destroyed) waiting.enter(socket, address);
    });
    if (!requestRate.allows(request)) {
      const timer = options.clock.schedule(SLOW_ANSWER_MS, () =>
        answerText(response, 429, 'Too many requests; come back in a second'),
      );
      response.once('close', () => timer.cancel());
      return;
    }
    requestRate.answer(() => {
      try {
        if (!options.handle(request, response)) answerText(response, 404, 'Not found');
      } catch (error) {
        warn(`A request that cannot be answered: ${stackOf(error)}`);
        socket.destroy();
      }
    });
  });

  // Node would answer 417 and go on, at no limit.
  server.on('checkExpectation', ({ socket }) => socket.destroy());

  const webSocketOptions: WebSocketServerOptions & Record<string, unknown> = {
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    skipUTF8Validation: true,
    maxPayload: options.longestFrameBytes,
    closeTimeout: DEADLINES.closeMs,
  };
  const webSocketServer = new WebSocketServer(webSocketOptions);
  server.on('upgrade', (request, stream, head) => {
    const { socket } = request;
    const address = addressOf(socket);
    waiting.leave(socket);
    closing.enter(socket, address);
    // The page of another site must not speak for the user.
    const isFromPage = request.headers.origin !== undefined;
    if (request.url !== '/' || (isFromPage && !options.takesPage?.(request))) {
      stream.end('HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n', () => socket.destroy());
      return;
    }
    webSocketServer.handleUpgrade(request, stream, head, (webSocket) => {
      const channel = new SocketChannel(
        webSocket,
        socket,
        'coordinator',
        limits.channel,
        options.clock,
      );
      closing.leave(socket);
      channels.add(channel);
      channel.onClosing = () => closing.enter(socket, address);
      webSocket.once('close', () => channels.delete(channel));
      options.accept(channel, address);
    });
  });

  await startListening(server, options);
  server.on('error', (error) => warn(`The port accepts no connections: ${error.message}`));
  const { port } = server.address() as AddressInfo;
  return {
    host: options.host,
    port,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      let deadline: ReturnType<typeof setTimeout> | undefined;
      await Promise.race([
        Promise.all([...channels].map((channel) => channel.ended)),
        new Promise((resolve) => (deadline = setTimeout(resolve, DEADLINES.serverCloseMs))),
      ]);
      clearTimeout(deadline);
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/**
 * A parser of HTTP costs as much as the connection below it, and a TLS socket several times that, so they are made once the client
 * has said something.
 */
function awaitFirstBytes(server: Server, { limits, clock }: ServerOptions): void {
  const listeners = server.listeners('connection');
  // Bun accepts connections by itself.
  if (listeners.length === 0) return;
  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    const deadline = clock.schedule(limits.requestMs, () => socket.destroy());
    socket.once('close', () => deadline.cancel());
    socket.once('readable', () => {
      deadline.cancel();
      if (socket.readableLength === 0) socket.destroy();
      else for (const listener of listeners) Reflect.apply(listener, server, [socket]);
    });
  });
}

const PLAIN_HTTP =
  'HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\n' +
  'This port speaks TLS: use https:// or wss://\n';

/**
 * Below every secured socket is the one that came: it waits as long as they shake hands, and from then on the secured
 * one stands for both.
 */
function enterSecured(
  server: Server,
  waiting: WaitingRoom<Socket>,
  enter: (socket: Socket) => void,
): void {
  const shaking = new Map<string, Socket>();
  const ends = ({ remoteAddress, remotePort, localAddress }: Socket) =>
    `${remoteAddress} ${remotePort} ${localAddress}`;
  server.on('connection', (socket: Socket) => {
    const key = ends(socket);
    shaking.set(key, socket);
    socket.once('close', () => {
      if (shaking.get(key) === socket) shaking.delete(key);
    });
  });
  server.on('tlsClientError', (error: NodeJS.ErrnoException, secured: Socket) => {
    const socket = shaking.get(ends(secured));
    if (error.code === 'ERR_SSL_HTTP_REQUEST') socket?.end(PLAIN_HTTP, () => socket.destroy());
    else secured.destroy();
  });
  server.on('secureConnection', (secured: Socket) => {
    const key = ends(secured);
    const socket = shaking.get(key);
    if (socket) waiting.leave(socket);
    shaking.delete(key);
    enter(secured);
  });
}

/** Of every address, how often it may ask; and of all together, how much of the time answers may take. */
class RequestRate {
  private readonly limits: ServerLimits;
  private readonly clock: Clock;
  private readonly byNetwork = new Map<string, TokenBucket>();
  /** When all answers so far would be done, had each taken no more than its share of the time. */
  private paidAt = -Infinity;

  constructor(limits: ServerLimits, clock: Clock) {
    this.limits = limits;
    this.clock = clock;
  }

  allows({ url, socket }: IncomingMessage): boolean {
    // A supervisor gets an answer however many pages are requested.
    if (url === '/healthz' || url === '/readyz') return true;
    const now = this.clock.now();
    if (this.paidAt - now > ANSWERING_BURST_MS) return false;
    const { requestsPerSecond } = this.limits;
    const network = networkOf(addressOf(socket));
    let bucket = this.byNetwork.get(network);
    if (!bucket) {
      if (this.byNetwork.size >= MAX_ADDRESSES) this.byNetwork.clear();
      bucket = new TokenBucket(requestsPerSecond, 2 * requestsPerSecond);
      this.byNetwork.set(network, bucket);
    }
    return bucket.take(now);
  }

  /** Answers, and counts the time, but not what this process waited for a processor: a busy machine makes no request dearer. */
  answer(handle: () => void): void {
    const from = this.clock.now();
    const before = process.cpuUsage();
    handle();
    const { user, system } = process.cpuUsage(before);
    const ms = Math.max(MIN_ANSWER_MS, Math.min(this.clock.now() - from, (user + system) / 1000));
    this.paidAt = Math.max(from, this.paidAt) + ms / this.limits.answeringShare;
  }
}

function addressOf(socket: Socket): string {
  return socket.remoteAddress ?? 'unknown';
}

function answerText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
}

function startListening(server: Server, { host, port }: ServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new UserError(listenError(error, host, port), { cause: error }));
    });
    server.listen(port, host, BACKLOG, resolve);
  });
}

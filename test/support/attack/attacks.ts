/**
 * What strangers, workers that turn, and crowds do to a coordinator; each for as long as it is let. All come from other
 * addresses of the loopback network than honest workers do, as they would elsewhere.
 */
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { connect as connectSecurely } from 'node:tls';
import type { WebSocket } from 'ws';
import type { Random } from '../../../src/shared/random.js';
import { UPGRADE, clientFrame, upgrade } from '../raw-client.js';
import { startInsider } from './insider.js';
import { mutate, mutateBytes } from './mutate.js';
import { anyAddress, connectPlainly, connectTo, type Target } from './target.js';

export interface Attack {
  readonly name: string;
  /** Over TLS, plain, or both. */
  readonly doors: readonly ('plain' | 'TLS')[];
  /** What it comes to is a number of these. */
  readonly unit: string;
  /**
   * Whether limits hold it, so that the steps keep their speed: it is not made of ever new connections, from ever new
   * addresses, as fast as they can be made.
   */
  readonly isBounded: boolean;
  /** Whether it goes before all others once, uncounted. */
  readonly isWarmUp?: boolean;
  /** Lasts until it is over. @returns how much it came to */
  readonly run: (target: Target, isOn: () => boolean, random: Random) => Promise<number>;
}

/** A stranger that the coordinator does not close goes by itself, ms. */
const STAYS_MS = 200;
/** Between two looks at a crowd, ms. */
const CROWD_EVERY_MS = 20;

const REQUESTS = [
  'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /api/history HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /?look=guess HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 784\r\n\r\n',
  'POST /api/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n',
  'POST /api/control/stop HTTP/1.1\r\nHost: evil.example\r\nX-Lockstep-Control: 1\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'GET /../../etc/passwd HTTP/1.0\r\n\r\n',
  `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
];
const UPGRADES = [
  UPGRADE,
  upgrade({ Origin: 'http://evil.example' }),
  upgrade({}, 'GET /other HTTP/1.1'),
  upgrade({ 'Sec-WebSocket-Version': '7' }),
  upgrade({ 'Sec-WebSocket-Key': null }),
  upgrade({ 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' }),
  upgrade({ Upgrade: 'h2c' }),
];
/** What RFC 6455 does not allow, or allows and nobody wants. */
const BROKEN_FRAMES = [
  Buffer.of(0x82, 0x01, 0x00), // not masked
  Buffer.of(0xf2, 0x81, 0, 0, 0, 0, 1), // reserved bits
  Buffer.of(0x83, 0x80, 0, 0, 0, 0), // an opcode that there is not
  Buffer.of(0x89, 0xfe, 0x00, 0x7e, 0, 0, 0, 0), // a ping of 126 bytes
  Buffer.of(0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), // 2⁶³ − 1 bytes
  Buffer.of(0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0), // 1 GB, of which nothing comes
  Buffer.concat([Buffer.of(0x02, 0x80, 0, 0, 0, 0), Buffer.of(0x82, 0x80, 0, 0, 0, 0)]),
  Buffer.concat(Array.from({ length: 5_000 }, () => Buffer.of(0x00, 0x81, 0, 0, 0, 0, 1))),
  Buffer.of(0x88, 0x81, 0, 0, 0, 0, 3), // half of a close code
  clientFrame(Buffer.of(0x03, 0xe7), 0x88), // a close code that is reserved
  clientFrame(Buffer.from([0xff, 0xfe]), 0x81), // text that is none
];

export const ATTACKS: readonly Attack[] = [
  {
    name: 'changed frames',
    doors: ['plain', 'TLS'],
    isBounded: false,
    unit: 'frames',
    isWarmUp: true,
    run: (target, isOn, random) =>
      inParallel(16, isOn, async () => {
        const numFrames = 1 + random.below(8);
        await visit(target, anyAddress(random), [
          UPGRADE,
          ...greeting(target, random),
          ...Array.from({ length: numFrames }, () => changedFrame(target, random)),
        ]);
        return numFrames;
      }),
  },
  {
    name: 'raw HTTP',
    doors: ['plain', 'TLS'],
    isBounded: false,
    unit: 'requests',
    run: (target, isOn, random) =>
      inParallel(16, isOn, async () => {
        const request = Buffer.from(REQUESTS[random.below(REQUESTS.length)], 'latin1');
        const bytes = random.below(3) === 0 ? request : mutateBytes(request, random);
        await visit(target, anyAddress(random), [bytes]);
        return 1;
      }),
  },
  {
    name: 'upgrades',
    doors: ['plain', 'TLS'],
    isBounded: false,
    unit: 'upgrades',
    run: (target, isOn, random) =>
      inParallel(16, isOn, async () => {
        const request = Buffer.from(UPGRADES[random.below(UPGRADES.length)], 'latin1');
        const broken = BROKEN_FRAMES[random.below(BROKEN_FRAMES.length)];
        const bytes = random.below(2) === 0 ? request : mutateBytes(request, random);
        await visit(target, anyAddress(random), [bytes, broken]);
        return 1;
      }),
  },
  {
    name: 'TLS records',
    doors: ['TLS'],
    isBounded: false,
    unit: 'connections',
    async run(target, isOn, random) {
      const hello = await recordClientHello();
      return inParallel(16, isOn, async () => {
        const socket = connectPlainly(target, anyAddress(random));
        const bytes = random.below(8) === 0 ? Buffer.from(REQUESTS[0]) : mutateBytes(hello, random);
        await stay(socket, [bytes]);
        return 1;
      });
    },
  },
  {
    name: 'idle and slow handshakes',
    doors: ['plain', 'TLS'],
    isBounded: true,
    unit: 'connections',
    isWarmUp: true,
    async run(target, isOn, random) {
      const half = target.isSecure
        ? (await recordClientHello()).subarray(0, 100)
        : 'GET / HTTP/1.1\r\n';
      const slow = new Set<Socket>();
      const dribble = setInterval(() => {
        for (const socket of slow) socket.write('X');
      }, 100);
      const count = await crowd({ size: 300, perSecond: 200, addresses: 8 }, isOn, (address) => {
        const socket = connectPlainly(target, address);
        if (random.below(2) === 0) {
          socket.write(half);
          slow.add(socket);
          socket.once('close', () => slow.delete(socket));
        }
        return socket;
      });
      clearInterval(dribble);
      return count;
    },
  },
  {
    name: 'a crowd of connections',
    doors: ['plain', 'TLS'],
    isBounded: true,
    unit: 'connections',
    run: (target, isOn) =>
      crowd({ size: 2_000, perSecond: 800, addresses: 8 }, isOn, (address) =>
        connectPlainly(target, address),
      ),
  },
  {
    name: 'WebSockets that say nothing',
    doors: ['plain'],
    isBounded: true,
    unit: 'connections',
    run: (target, isOn) =>
      crowd({ size: 300, perSecond: 200, addresses: 8 }, isOn, (address) => {
        const socket = connectTo(target, address);
        socket.write(UPGRADE);
        return socket;
      }),
  },
  {
    name: 'pings and pongs',
    doors: ['plain'],
    isBounded: true,
    unit: 'frames',
    async run(target, isOn, random) {
      const flood = [0x89, 0x8a].map((opcode) =>
        Buffer.concat(Array.from({ length: 1_000 }, () => clientFrame(Buffer.alloc(4), opcode))),
      );
      // One who has proved itself may send more, and sends nearly as much as it may.
      const over = new AbortController();
      let numSent = 0;
      const onFrame = (_: unknown, from: string, socket: WebSocket) => {
        if (from !== 'worker' || ++numSent !== 2) return;
        const timer = setInterval(() => {
          for (let i = 0; i < 180; i++) socket.pong();
        }, CROWD_EVERY_MS);
        socket.once('close', () => clearInterval(timer));
      };
      const options = { name: 'chatty', address: '127.0.8.1', onFrame };
      const working = startInsider(target, options, over.signal);
      const numFrames = await inParallel(8, isOn, async () => {
        const socket = connectTo(target, anyAddress(random));
        let count = 0;
        socket.resume();
        socket.write(UPGRADE);
        for (const frame of greeting(target, random)) socket.write(frame);
        while (isOn() && !socket.destroyed) {
          count += 1_000;
          if (!socket.write(flood[random.below(2)])) await eventOr(STAYS_MS, socket, 'drain');
          await pause(0);
        }
        socket.destroy();
        // Or it would be connections that it is about.
        await pause(1_000);
        return count;
      });
      over.abort();
      await working;
      return numFrames;
    },
  },
  {
    name: 'peers that never read',
    doors: ['plain', 'TLS'],
    isBounded: true,
    unit: 'peers',
    async run(target, isOn, random) {
      const over = new AbortController();
      // Workers that prove themselves first, and are sent parameters from then on.
      const workers = [1, 2, 3].map((host) => {
        const address = `127.0.6.${host}`;
        const onFrame = (_: unknown, from: string, socket: WebSocket) => {
          if (numOf.get(socket) === 1 && from === 'worker') socket.pause();
          if (from === 'worker') numOf.set(socket, (numOf.get(socket) ?? 0) + 1);
        };
        const numOf = new Map<WebSocket, number>();
        return startInsider(target, { name: `deaf-${host}`, address, onFrame }, over.signal);
      });
      const paths = ['/api/events', '/api/history', '/'];
      const numPages = await crowd({ size: 60, perSecond: 30, addresses: 4 }, isOn, (address) => {
        const socket = connectTo(target, address);
        const request = requestOf(target, paths[random.below(paths.length)]);
        for (let i = 0; i < 4; i++) socket.write(request);
        return socket.pause();
      });
      over.abort();
      await Promise.all(workers);
      return workers.length + numPages;
    },
  },
  {
    name: 'hellos by the thousand',
    doors: ['plain'],
    isBounded: true,
    unit: 'hellos',
    run(target, isOn, random) {
      // Spread, or it would be connections that it is about.
      const perSecond = 200;
      const hello = clientFrame(target.corpus.of('hello').frame);
      return inParallel(perSecond / 20, isOn, async () => {
        const socket = connectTo(target, `127.0.5.${1 + random.below(250)}`);
        socket.write(UPGRADE);
        socket.write(hello);
        socket.resume();
        await pause(50);
        socket.destroy();
        return 1;
      });
    },
  },
  {
    name: 'hellos without a proof',
    doors: ['plain'],
    isBounded: true,
    unit: 'hellos',
    run(target, isOn) {
      const hello = clientFrame(target.corpus.of('hello').frame);
      return crowd({ size: 400, perSecond: 200, addresses: 8 }, isOn, (address) => {
        const socket = connectTo(target, address);
        socket.write(UPGRADE);
        socket.write(hello);
        return socket.resume();
      });
    },
  },
  {
    name: 'pages and their streams',
    doors: ['plain'],
    isBounded: true,
    unit: 'requests',
    async run(target, isOn, random) {
      const streams = crowd({ size: 100, perSecond: 100, addresses: 16 }, isOn, (address) => {
        const socket = connectTo(target, address);
        socket.write(requestOf(target, '/api/events'));
        return socket.resume();
      });
      const paths = ['/', '/api/history', '/metrics', '/nowhere'];
      const asking = inParallel(16, isOn, async () => {
        const socket = connectTo(target, `127.0.7.${1 + random.below(16)}`);
        socket.resume();
        let count = 0;
        while (isOn() && !socket.destroyed) {
          socket.write(requestOf(target, paths[random.below(paths.length)]));
          count++;
          await eventOr(STAYS_MS, socket, 'data');
        }
        socket.destroy();
        return count;
      });
      return (await streams) + (await asking);
    },
  },
];

/** As many at once as that, one after the other. @returns the sum of what they return */
async function inParallel(
  count: number,
  isOn: () => boolean,
  act: () => Promise<number>,
): Promise<number> {
  const sums = Array.from({ length: count }, async () => {
    let sum = 0;
    while (isOn()) sum += await act();
    return sum;
  });
  return (await Promise.all(sums)).reduce((a, b) => a + b, 0);
}

/** Keeps as many connections open as it can; who is cut off is followed by another. @returns how many there were */
async function crowd(
  {
    size,
    perSecond,
    addresses,
  }: { readonly size: number; readonly perSecond: number; readonly addresses: number },
  isOn: () => boolean,
  open: (address: string) => Socket,
): Promise<number> {
  const sockets = new Set<Socket>();
  let count = 0;
  while (isOn()) {
    const numNew = Math.min(size - sockets.size, Math.ceil((perSecond * CROWD_EVERY_MS) / 1000));
    for (let i = 0; i < numNew; i++) {
      const socket = open(`127.0.2.${1 + (count % addresses)}`);
      sockets.add(socket);
      socket.once('end', () => socket.destroy());
      socket.once('close', () => sockets.delete(socket));
      count++;
    }
    await pause(CROWD_EVERY_MS);
  }
  for (const socket of sockets) socket.destroy();
  return count;
}

/** A hello that is honest, or nothing. */
function greeting({ corpus }: Target, random: Random): Buffer[] {
  return random.below(2) === 0 ? [] : [clientFrame(corpus.of('hello').frame)];
}

/** A recorded frame, changed; now and then under another opcode, as a piece of a message, as a control frame. */
function changedFrame({ corpus }: Target, random: Random): Buffer {
  const all = corpus.all();
  const frame = mutate(all[random.below(all.length)], all, random);
  return clientFrame(frame, random.below(6) > 0 ? 0x82 : random.below(256));
}

function requestOf({ token }: Target, path: string): string {
  const bearer = token === null ? '' : `Authorization: Bearer ${token}\r\n`;
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${bearer}\r\n`;
}

/** One stranger, from its connection to its end. */
function visit(target: Target, address: string, parts: readonly (string | Buffer)[]) {
  return stay(connectTo(target, address), parts);
}

async function stay(socket: Socket, parts: readonly (string | Buffer)[]): Promise<void> {
  socket.resume();
  socket.once('end', () => socket.end());
  for (const part of parts) socket.write(part);
  await eventOr(STAYS_MS, socket, 'close');
  socket.destroy();
}

/** Resolves at the event, when the socket closes, or after that time. */
async function eventOr(ms: number, socket: Socket, event: string): Promise<void> {
  if (socket.destroyed) return;
  await new Promise<void>((resolve) => {
    const events = [event, 'close'];
    const done = () => {
      clearTimeout(timer);
      for (const one of events) socket.off(one, done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    for (const one of events) socket.on(one, done);
  });
}

/** The first record of a handshake, as Node sends it. */
async function recordClientHello(): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = connectSecurely({ port, host: '127.0.0.1' });
  client.on('error', () => undefined);
  const [socket] = (await once(server, 'connection')) as [Socket];
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  client.destroy();
  server.close();
  return bytes;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

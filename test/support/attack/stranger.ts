/** Connections of nobody in particular: frames, floods, HTTP and TLS, from anywhere in 127.0.0.0/8. */
import { connect, type Socket } from 'node:net';
import type { Random } from '../../../src/shared/random.js';
import type { Corpus } from './corpus.js';
import { mutate } from './mutate.js';
import { UPGRADE, clientFrame, upgrade } from '../raw-client.js';

/** A stranger that the coordinator does not close goes by itself. */
const STAYS_MS = 200;

const REQUESTS = [
  'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /api/history HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 784\r\n\r\n',
  'POST /api/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'GET /../../etc/passwd HTTP/1.0\r\n\r\n',
  `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
  upgrade({ Origin: 'http://evil.example' }),
  upgrade({}, 'GET /other HTTP/1.1'),
  upgrade({ 'Sec-WebSocket-Version': '7' }),
  '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
];

/**
 * One stranger, from its connection to its end.
 *
 * @returns how many frames of WebSockets it sent
 */
export async function strangerCalls(port: number, corpus: Corpus, random: Random): Promise<number> {
  const byte = () => 1 + random.below(250);
  const socket = connect({
    ...{ port, host: '127.0.0.1', allowHalfOpen: true },
    localAddress: `127.${byte()}.${byte()}.${byte()}`,
  });
  socket.on('error', () => undefined);
  if (random.below(4) > 0) socket.resume();
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.once('end', () => void socket.end());
  const timeout = setTimeout(() => goodbye(socket, random), STAYS_MS);
  let numFrames = 0;
  switch (random.below(6)) {
    case 0:
      // Says nothing.
      break;
    case 1: {
      const request = Buffer.from(REQUESTS[random.below(REQUESTS.length)], 'latin1');
      socket.write(random.below(2) === 0 ? request : mutate(request, corpus.all(), random));
      break;
    }
    default:
      numFrames = 1 + random.below(random.below(20) === 0 ? 20_000 : 8);
      socket.write(Buffer.concat([Buffer.from(UPGRADE), ...frames(numFrames, corpus, random)]));
  }
  if (random.below(4) === 0) setImmediate(() => goodbye(socket, random));
  await closed;
  clearTimeout(timeout);
  return numFrames;
}

function goodbye(socket: Socket, random: Random): void {
  if (random.below(2) === 0) socket.resetAndDestroy();
  else socket.destroy();
}

function frames(count: number, corpus: Corpus, random: Random): Buffer[] {
  const all = corpus.all();
  const hello = corpus.of('hello')!;
  const isGreeting = random.below(2) === 0;
  const one = () => {
    const frame = mutate(all[random.below(all.length)], all, random);
    // Now and then another opcode, a piece of a message, a control frame.
    return clientFrame(frame, random.below(6) > 0 ? 0x82 : random.below(256));
  };
  // A flood is of one frame, or the attacker would be the slower one.
  const flood = count > 100 ? clientFrame(mutate(corpus.of('pong') ?? hello, all, random)) : null;
  return Array.from({ length: count }, (_, i) => {
    if (i === 0 && isGreeting) return clientFrame(hello);
    return flood ?? one();
  });
}

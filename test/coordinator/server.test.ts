/** The coordinator's port over real sockets: whatever strangers do to it, it keeps serving. */
import { get, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  defaultServerLimits,
  listen,
  type CoordinatorServer,
  type ServerLimits,
} from '../../src/coordinator/server.js';
import { joinFrame, type Channel } from '../../src/shared/channel.js';
import { systemClock } from '../../src/shared/clock.js';
import { UserError } from '../../src/shared/errors.js';
import { longestFrameBytes } from '../../src/shared/protocol.js';
import { dial } from '../../src/worker/connection.js';
import { RawClient, UPGRADE, clientFrame, upgrade } from '../support/raw-client.js';

/** The `maxPayload` that `listen` passes to `ws`. */
const MAX_PAYLOAD = longestFrameBytes(1_000, 100, 10);

const LIMITS: ServerLimits['channel'] = {
  framesPerSecond: 100,
  strangerFramesPerSecond: 20,
  bytesPerSecond: 1e6,
  maxQueuedBytes: 1e6,
};

interface Accepted {
  readonly channel: Channel;
  readonly received: Uint8Array[];
  readonly closed: Promise<{ code: number; reason: string }>;
  numClosed: number;
}

interface Running {
  readonly server: CoordinatorServer;
  readonly accepted: Accepted[];
  readonly warnings: string[];
  readonly client: () => RawClient;
  /** A client after its upgrade, and the server's end of the connection. */
  readonly pair: () => Promise<{ client: RawClient; end: Accepted }>;
  readonly health: () => Promise<number>;
}

type Handle = (request: IncomingMessage, response: ServerResponse) => boolean;

const answerHealth: Handle = ({ url }, response) => {
  if (url !== '/healthz' && url !== '/page') return false;
  response.end('ok');
  return true;
};

async function start(
  changes: Partial<ServerLimits> = {},
  handle: Handle = answerHealth,
): Promise<Running> {
  const accepted: Accepted[] = [];
  const warnings: string[] = [];
  const server = await listen({
    host: '127.0.0.1',
    port: 0,
    tls: null,
    longestFrameBytes: MAX_PAYLOAD,
    limits: { ...defaultServerLimits(MAX_PAYLOAD, 64), ...changes },
    clock: systemClock,
    accept: (channel) => {
      const received: Uint8Array[] = [];
      const closed = new Promise<{ code: number; reason: string }>((resolve) => {
        channel.handler = {
          received: (frame) => received.push(joinFrame(frame)),
          closed: (code, reason) => {
            end.numClosed++;
            resolve({ code, reason });
          },
        };
      });
      const end: Accepted = { channel, received, closed, numClosed: 0 };
      accepted.push(end);
    },
    handle,
    warn: (message) => warnings.push(message),
  });
  const clients: RawClient[] = [];
  onTestFinished(async () => {
    clients.forEach(({ socket }) => socket.destroy());
    await server.close();
  });
  const client = () => {
    const one = new RawClient(server.port);
    clients.push(one);
    return one;
  };
  return {
    server,
    accepted,
    warnings,
    client,
    async pair() {
      const one = client();
      await one.upgrade();
      return { client: one, end: accepted.at(-1)! };
    },
    health: () => statusOf(server.port, '/healthz'),
  };
}

/** The status of an answer, requested on a new connection. */
function statusOf(port: number, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    get({ port, host: '127.0.0.1', path, agent: false }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode!));
    }).once('error', reject);
  });
}

describe('listen() refuses an upgrade', () => {
  it.each([
    ['another path', upgrade({}, 'GET /other HTTP/1.1'), 403],
    ['a page of another site', upgrade({ Origin: 'http://evil.example' }), 403],
    ['another method', upgrade({}, 'POST / HTTP/1.1'), 405],
    ['another protocol', upgrade({ Upgrade: 'foo' }), 400],
    ['no key', upgrade({ 'Sec-WebSocket-Key': null }), 400],
    ['a wrong key', upgrade({ 'Sec-WebSocket-Key': 'P5l8BJcZwRc=' }), 400],
    ['no version', upgrade({ 'Sec-WebSocket-Version': null }), 400],
    ['another version', upgrade({ 'Sec-WebSocket-Version': '12' }), 400],
    ['something other than HTTP', 'nonsense\r\n\r\n', 400],
    ['headers that are too long', upgrade({ 'X-Long': 'x'.repeat(100_000) }), 431],
  ])('with %s, and ends the connection', async (_what, request, status) => {
    const { client, accepted, health } = await start();
    const one = client();
    one.send(request);
    await one.hears(new RegExp(`^HTTP/1\\.1 ${status} `));
    await one.ended;
    expect(accepted).toEqual([]);
    expect(await health()).toBe(200);
  });

  it.each(['/other', '/'])('of %s, and survives a reset of the connection', async (path) => {
    const { client, health } = await start();
    for (let i = 0; i < 20; i++) {
      const one = client();
      one.send(upgrade({ Origin: 'http://evil.example' }, `GET ${path} HTTP/1.1`));
      // With unread data, closing sends a reset.
      one.socket.pause();
      await setImmediate();
      one.reset();
      await one.closed;
    }
    expect(await health()).toBe(200);
  });

  it('and does not wait for a client that keeps the connection open', async () => {
    const { client, server } = await start();
    const one = client();
    one.send(upgrade({}, 'GET /other HTTP/1.1'));
    await one.hears(/403/);
    await server.close();
    await one.ended;
  });
});

describe('listen() survives a client that', () => {
  it.each([
    ['resets before sending anything', ''],
    ['resets within a request', 'GET /hea'],
    ['resets within an upgrade', UPGRADE.slice(0, -2)],
    ['resets during the upgrade', UPGRADE],
    [
      'resets in the middle of a frame',
      UPGRADE + clientFrame(Buffer.alloc(100)).toString('latin1', 0, 50),
    ],
    ['sends two requests and resets', `GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(2)],
  ])('%s', async (_what, text) => {
    const { client, health } = await start();
    for (let i = 0; i < 10; i++) {
      const one = client();
      await new Promise((resolve) => one.socket.once('connect', resolve));
      if (text !== '') one.send(Buffer.from(text, 'latin1'));
      await setImmediate();
      one.reset();
      await one.closed;
    }
    expect(await health()).toBe(200);
  });

  it('resets after the upgrade, and reports the close once', async () => {
    const { pair } = await start();
    const { client, end } = await pair();
    client.reset();
    expect(await end.closed).toEqual({ code: 1006, reason: '' });
    expect(end.numClosed).toBe(1);
  });
});

describe('listen() ends a WebSocket, with a code, that sends', () => {
  const data = Buffer.alloc(10);
  it.each([
    ['a frame with RSV1', clientFrame(data, 0xc2), 1002],
    ['a frame with RSV2', clientFrame(data, 0xa2), 1002],
    ['a frame with RSV3', clientFrame(data, 0x92), 1002],
    ['a continuation without a message', clientFrame(data, 0x80), 1002],
    ['a new message within one', Buffer.concat([clientFrame(data, 0x02), clientFrame(data)]), 1002],
    ['an unknown opcode', clientFrame(data, 0x83), 1002],
    ['a ping in pieces', clientFrame(data, 0x09), 1002],
    ['a ping that is too long', clientFrame(Buffer.alloc(126), 0x89), 1002],
    ['a frame without a mask', Buffer.from([0x82, 0x01, 0x00]), 1002],
    ['a close of one byte', clientFrame(Buffer.alloc(1), 0x88), 1002],
    ['a close with an invalid code', clientFrame(Buffer.from([0x03, 0xee]), 0x88), 1002],
    ['a frame beyond 2⁵³', Buffer.from([0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]), 1009],
    ['a frame that is too long', clientFrame(Buffer.alloc(MAX_PAYLOAD + 1)).subarray(0, 20), 1009],
    [
      'fragments that are too long together',
      Buffer.concat([clientFrame(Buffer.alloc(MAX_PAYLOAD), 0x02), clientFrame(data, 0x80)]),
      1009,
    ],
    [
      'too many fragments',
      Buffer.concat([
        clientFrame(data.subarray(0, 1), 0x02),
        ...Array.from({ length: 17_000 }, () => clientFrame(Buffer.alloc(0), 0x00)),
      ]),
      1008,
    ],
    ['text', clientFrame(Buffer.from('{"type":"hello"}'), 0x81), 4400],
  ])('%s', async (_what, bytes, code) => {
    const { pair, health } = await start();
    const { client, end } = await pair();
    client.send(bytes);
    expect((await client.closeFrame()).code).toBe(code);
    client.socket.end();
    await end.closed;
    expect(end.received).toEqual([]);
    expect(await health()).toBe(200);
  });

  it('truncates close reasons in any script to what fits a close frame', async () => {
    const { pair } = await start();
    const { client, end } = await pair();
    end.channel.close(4400, 'ы'.repeat(1_000));
    expect(await client.closeFrame()).toEqual({ code: 4400, reason: 'ы'.repeat(61) });
  });
});

describe('listen() bounds', () => {
  it('connections without a request: health checks and workers get past 2,000 idle ones', async () => {
    const { client, pair, health, accepted } = await start();
    for (let i = 0; i < 40; i++) {
      const crowd = Array.from({ length: 50 }, client);
      await Promise.all(
        crowd.map(({ socket }) => new Promise((resolve) => socket.once('connect', resolve))),
      );
      if (i % 10 === 9) {
        expect(await health()).toBe(200);
        const { end } = await pair();
        expect(accepted).toContain(end);
      }
    }
    expect(accepted.map(({ numClosed }) => numClosed)).toEqual([0, 0, 0, 0]);
  });

  it.each([
    ['says nothing', []],
    ['never ends its request', ['GET /healthz HTTP/1.1\r\n', 'X-Slow: 1']],
    ['never ends its upgrade', ['GET / HTTP/1.1\r\n', 'Connection: Upgrade\r\n']],
    [
      'never sends the body that it announced',
      ['POST /page HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n'],
    ],
  ])('the time of a connection that %s', async (_what, lines) => {
    const { client, health } = await start({ requestMs: 100 });
    const one = client();
    for (const line of lines) one.send(line);
    await one.ended;
    expect(await health()).toBe(200);
  });

  it('connections with an answer under way: the oldest is dropped, workers stay', async () => {
    const open: ServerResponse[] = [];
    const { client, pair, health } = await start({ maxAnswering: 3 }, (request, response) => {
      if (request.url !== '/stream') return answerHealth(request, response);
      open.push(response);
      response.write('on and on');
      return true;
    });
    const worker = await pair();
    const pages: RawClient[] = [];
    for (let i = 0; i < 5; i++) {
      const page = client();
      page.send('GET /stream HTTP/1.1\r\nHost: x\r\n\r\n');
      await page.hears(/on and on/);
      pages.push(page);
    }
    await Promise.all([pages[0].ended, pages[1].ended]);
    expect(await health()).toBe(200);
    await pages[2].ended;
    expect(pages.slice(3).map(({ socket }) => socket.readableEnded)).toEqual([false, false]);
    expect(worker.end.numClosed).toBe(0);
  });

  it('requests per address, but not health checks; excess requests are answered late', async () => {
    const { server, health } = await start({ requestsPerSecond: 5 });
    const from = performance.now();
    const asked = Array.from({ length: 30 }, () => statusOf(server.port, '/page'));
    expect(await health()).toBe(200);
    const statuses = await Promise.all(asked);
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(10);
    expect(statuses).toContain(429);
    expect(performance.now() - from).toBeGreaterThan(900);
  });

  it('requests of a connection to one at a time: it is dropped, and nothing is left open', async () => {
    let [numOpened, numOpen] = [0, 0];
    const { client, health } = await start({}, (request, response) => {
      if (request.url !== '/stream') return answerHealth(request, response);
      numOpened++;
      numOpen++;
      response.once('close', () => numOpen--);
      response.write('on and on');
      return true;
    });
    const one = client();
    one.send('GET /stream HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(10));
    await one.ended;
    expect(await health()).toBe(200);
    expect([numOpened, numOpen]).toEqual([1, 0]);
    // One after the other they are answered.
    const two = client();
    for (let i = 1; i <= 3; i++) {
      two.send('GET /page HTTP/1.1\r\nHost: x\r\n\r\n');
      await two.hears(new RegExp(`(200 OK[^]*?\\r\n\\r\nok[^]*?){${i}}`));
    }
  });

  it('what Node would answer by itself: a connection that expects something is dropped', async () => {
    const { client, health } = await start();
    const one = client();
    one.send('GET /page HTTP/1.1\r\nHost: x\r\nExpect: the-moon\r\n\r\n'.repeat(100));
    await one.ended;
    expect(one.text).toBe('');
    expect(await health()).toBe(200);
  });

  it('the time spent on answers, across all addresses', async () => {
    let numAnswered = 0;
    const { server, health } = await start({}, (request, response) => {
      if (request.url !== '/page') return answerHealth(request, response);
      numAnswered++;
      const before = process.cpuUsage();
      while (process.cpuUsage(before).user < 100_000) continue;
      return answerHealth(request, response);
    });
    const statuses = await Promise.all(
      Array.from({ length: 30 }, () => statusOf(server.port, '/page')),
    );
    // A tenth of three seconds, and the last one that began within it.
    expect(numAnswered).toBeLessThanOrEqual(5);
    expect(statuses.filter((status) => status === 429)).toHaveLength(30 - numAnswered);
    expect(await health()).toBe(200);
  });

  it('not the time that an answer waits for a processor', async () => {
    const sleep = new Int32Array(new SharedArrayBuffer(4));
    const { server } = await start({}, (request, response) => {
      Atomics.wait(sleep, 0, 0, 100);
      return answerHealth(request, response);
    });
    const statuses = await Promise.all(
      Array.from({ length: 10 }, () => statusOf(server.port, '/page')),
    );
    expect(statuses).toEqual(new Array(10).fill(200));
  });

  it.each([
    ['frames', clientFrame(Buffer.alloc(1)), 'more than 100 frames a second'],
    ['pings', clientFrame(Buffer.alloc(1), 0x89), 'more than 100 frames a second'],
    ['pongs', clientFrame(Buffer.alloc(1), 0x8a), 'more than 100 frames a second'],
    ['bytes', clientFrame(Buffer.alloc(50_000)), 'more than 1000000 bytes a second'],
  ])('%s per second on a connection', async (_what, frame, reason) => {
    const { pair, health } = await start({ channel: LIMITS });
    const { client, end } = await pair();
    end.channel.trust?.();
    for (let i = 0; i < 1_000; i++) client.send(frame);
    expect(await end.closed).toEqual({ code: 4413, reason });
    expect(end.received.length).toBeLessThanOrEqual(500);
    expect(await health()).toBe(200);
  });

  it('frames on a connection that has not passed its proof', async () => {
    const { pair } = await start({ channel: LIMITS });
    const { client, end } = await pair();
    for (let i = 0; i < 100; i++) client.send(clientFrame(Buffer.alloc(1), 0x8a));
    expect(await end.closed).toEqual({ code: 4413, reason: 'more than 20 frames a second' });
  });

  it('bytes queued for a connection that does not read', async () => {
    const { pair } = await start({ channel: LIMITS });
    const { client, end } = await pair();
    client.socket.pause();
    const frame = [new Uint8Array(100_000)];
    let mostQueued = 0;
    for (let i = 0; i < 1_000 && end.numClosed === 0; i++) {
      end.channel.send(frame);
      mostQueued = Math.max(mostQueued, end.channel.bufferedBytes);
      await setImmediate();
    }
    expect(await end.closed).toEqual({
      code: 4414,
      reason: 'more than 1000000 bytes are queued for it',
    });
    expect(mostQueued).toBeLessThan(1.3e6);
  });

  it('WebSockets that were closed but do not go', async () => {
    const { pair, health } = await start({ maxClosing: 4 });
    const ends: RawClient[] = [];
    for (let i = 0; i < 8; i++) {
      const { client, end } = await pair();
      client.socket.pause();
      end.channel.close(4400, 'no');
      ends.push(client);
    }
    // The excess ones were terminated at once, without waiting for their close frames.
    for (const { socket } of ends.slice(0, 4)) socket.resume();
    await Promise.all(ends.slice(0, 4).map(({ ended }) => ended));
    expect(await health()).toBe(200);
  });
});

describe('listen()', () => {
  it('contains an error in an answer to its connection, and logs the stack', async () => {
    const { server, warnings, health } = await start({}, (request, response) => {
      if (request.url === '/page') throw new TypeError('no such page');
      return answerHealth(request, response);
    });
    await expect(statusOf(server.port, '/page')).rejects.toThrow();
    expect(warnings[0]).toMatch(/TypeError: no such page at .*server\.test\.ts/);
    expect(await health()).toBe(200);
  });

  it('explains that a port is in use', async () => {
    const { server } = await start();
    const again = listen({
      host: '127.0.0.1',
      port: server.port,
      tls: null,
      longestFrameBytes: MAX_PAYLOAD,
      limits: defaultServerLimits(MAX_PAYLOAD, 1),
      clock: systemClock,
      accept: () => undefined,
      handle: () => false,
      warn: () => undefined,
    });
    await expect(again).rejects.toThrow(UserError);
    await expect(again).rejects.toThrow('the port is in use; choose another with --port');
  });

  it('carries frames both ways', async () => {
    const { server, accepted } = await start();
    const channel = await dial(`ws://127.0.0.1:${server.port}`, null, new AbortController().signal);
    const heard = new Promise<Uint8Array>((resolve) => {
      channel.handler = {
        received: (frame) => resolve(joinFrame(frame)),
        closed: () => undefined,
      };
    });
    const [{ channel: other, received, closed }] = accepted;
    other.send([Uint8Array.of(1, 2), Uint8Array.of(3)]);
    expect([...(await heard)]).toEqual([1, 2, 3]);
    channel.send([Uint8Array.of(4, 5)]);
    channel.close(4002, 'leave');
    expect(await closed).toEqual({ code: 4002, reason: 'leave' });
    expect(received.map((frame) => [...frame])).toEqual([[4, 5]]);
  });
});

it('defaultServerLimits() lets gradients through in as many slices as they have', () => {
  const framesOf = (numSlices: number) =>
    defaultServerLimits(MAX_PAYLOAD, 8, numSlices).channel.framesPerSecond;
  expect([1, 10, 242].map(framesOf)).toEqual([10_000, 10_000, 242_000]);
});

describe('CoordinatorServer.close()', () => {
  it('ends all connections, and frees the port', async () => {
    const { server, client, pair } = await start();
    const idle = client();
    await new Promise((resolve) => idle.socket.once('connect', resolve));
    const half = client();
    half.send('GET /hea');
    const { client: worker } = await pair();
    const again = client();
    again.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
    await again.hears(/ok/);
    await server.close();
    await Promise.all([idle, half, worker, again].map(({ ended }) => ended));
    const refused = new Promise((resolve) =>
      connect({ port: server.port, host: '127.0.0.1' }).once('error', resolve),
    );
    expect(await refused).toMatchObject({ code: 'ECONNREFUSED' });
  });
});

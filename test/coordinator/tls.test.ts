/** TLS between worker and coordinator, over real sockets. */
import { createHook } from 'node:async_hooks';
import { createPublicKey, generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { get as getPlain } from 'node:http';
import { get, type RequestOptions } from 'node:https';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { describe, expect, it, onTestFinished } from 'vitest';
import { isLoopback, selfSignedCertificate } from '../../src/coordinator/certificate.js';
import { defaultServerLimits, listen, type ServerLimits } from '../../src/coordinator/server.js';
import { joinFrame, type Channel } from '../../src/shared/channel.js';
import { systemClock } from '../../src/shared/clock.js';
import { UserError } from '../../src/shared/errors.js';
import { pinOf } from '../../src/shared/node/pin.js';
import { createRandom } from '../../src/shared/random.js';
import { dial } from '../../src/worker/connection.js';
import { Worker } from '../../src/worker/worker.js';
import { clientFrame, UPGRADE } from '../support/raw-client.js';

const NAMES = ['127.0.0.1', '::1', 'fe80::1:0:2', 'localhost', 'not a name'];
const YEAR_MS = 366 * 86_400_000;

function identity(nowMs = Date.now(), names: readonly string[] = NAMES) {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: selfSignedCertificate(privateKey, names, randomBytes(8), nowMs),
    pin: pinOf(createPublicKey(privateKey)),
  };
}

async function start(tls: { key: string; cert: string }, changes: Partial<ServerLimits> = {}) {
  const accepted: Channel[] = [];
  const server = await listen({
    host: '127.0.0.1',
    port: 0,
    tls,
    longestFrameBytes: 100_000,
    limits: { ...defaultServerLimits(100_000, 64), ...changes },
    clock: systemClock,
    accept: (channel) => {
      accepted.push(channel);
      channel.handler = {
        received: (frame) => channel.send(frame),
        closed: () => undefined,
      };
    },
    handle: (_request, response) => {
      response.end('ok');
      return true;
    },
    warn: () => undefined,
  });
  onTestFinished(() => server.close());
  return { server, accepted, url: `wss://127.0.0.1:${server.port}` };
}

const signal = () => new AbortController().signal;

/** The answer to a request over https. */
function ask(port: number, options: RequestOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path: '/', agent: false, ...options }, (response) => {
      response.setEncoding('utf8').once('data', resolve);
    }).once('error', reject);
  });
}

describe('a self-signed certificate', () => {
  it('has the names and addresses, and is valid for a year', () => {
    const { cert } = identity();
    const { subjectAltName, validTo, ca } = new X509Certificate(cert);
    expect(subjectAltName).toBe(
      'IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, ' +
        'IP Address:FE80:0:0:0:0:1:0:2, DNS:localhost',
    );
    expect(Date.parse(validTo)).toBeGreaterThan(Date.now() + YEAR_MS);
    expect(ca).toBe(true);
  });

  it('can have a hundred names', () => {
    const names = Array.from({ length: 100 }, (_, i) => `machine-${i}.example`);
    const certificate = new X509Certificate(identity(Date.now(), names).cert);
    expect(certificate.subjectAltName?.split(', ')).toHaveLength(100);
    expect(certificate.verify(certificate.publicKey)).toBe(true);
  });

  it('is trusted by clients that have it as an authority, for its own names only', async () => {
    const tls = identity();
    const { server } = await start(tls);
    expect(await ask(server.port, { ca: tls.cert })).toBe('ok');
    await expect(ask(server.port, {})).rejects.toThrow('self-signed certificate');
    const other = { ca: tls.cert, servername: 'elsewhere.example' };
    await expect(ask(server.port, other)).rejects.toThrow(/does not match/);
  });
});

describe('dial() with a pin', () => {
  it('carries frames both ways, and knows that no frame is half received', async () => {
    const tls = identity();
    const { url, accepted } = await start(tls);
    const channel = await dial(url, tls.pin, signal());
    const heard = new Promise<Uint8Array>((resolve) => {
      channel.handler = {
        received: (frame) => resolve(joinFrame(frame)),
        closed: () => undefined,
      };
    });
    channel.send([Uint8Array.of(1, 2), Uint8Array.of(3)]);
    expect([...(await heard)]).toEqual([1, 2, 3]);
    expect(accepted[0].isReceiving).toBe(false);
    expect(channel.isReceiving).toBe(false);
    channel.close(4000, 'done');
  });

  it('counts bytes below TLS, to tell that half a frame has been received', async () => {
    const { server, accepted } = await start(identity());
    const socket = connectTls({ host: '127.0.0.1', port: server.port, rejectUnauthorized: false });
    onTestFinished(() => void socket.destroy());
    socket.write(UPGRADE);
    await new Promise((resolve) => socket.once('data', resolve));
    const frame = clientFrame(Buffer.alloc(1000));
    socket.write(frame);
    await new Promise((resolve) => socket.once('data', resolve));
    expect(accepted[0].isReceiving).toBe(false);
    socket.write(frame.subarray(0, 500));
    await expect.poll(() => accepted[0].isReceiving).toBe(true);
  });

  it('accepts an expired certificate with the right key, and a name that is not in it', async () => {
    const tls = identity(Date.now() - 5 * YEAR_MS, ['elsewhere.example']);
    const { url } = await start(tls);
    const channel = await dial(url, tls.pin, signal());
    channel.terminate();
  });

  it('sends nothing to a server with another key, and does not retry', async () => {
    const heard: Buffer[] = [];
    const sockets = new Set<Socket>();
    const server = createTlsServer(identity(), (socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('data', (chunk: Buffer) => heard.push(chunk));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const url = `wss://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const worker = new Worker({
      dial: (stop) => dial(url, identity().pin, stop),
      session: {
        createComputation: () => Promise.reject(new Error('nothing is to be computed')),
        engineName: 'simd',
        name: 'w',
        host: 'h',
        token: 'a-token-that-nobody-hears',
        maxMemoryBytes: 1e9,
        clock: systemClock,
        collectGarbage: () => undefined,
        log: () => undefined,
      },
      random: createRandom(1, 'worker'),
      retryForMs: Infinity,
    });
    expect(await worker.work(signal())).toEqual({
      outcome: 'unable',
      reason: expect.stringMatching(/does not have the key named in the join line/) as string,
    });
    await Promise.all(
      [...sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve))),
    );
    expect(Buffer.concat(heard).toString()).toBe('');
  });

  it('rejects a server that does not speak TLS', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.end('220 smtp ready\r\n');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const url = `wss://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await expect(dial(url, identity().pin, signal())).rejects.toThrow();
  });
});

it('dial() without a pin leaves the check to the system, and does not retry', async () => {
  const { url } = await start(identity());
  const dialling = dial(url, null, signal());
  await expect(dialling).rejects.toThrow(UserError);
  await expect(dialling).rejects.toThrow(
    /not trusted \(self-signed certificate\); paste the whole/,
  );
});

describe('the port that speaks TLS', () => {
  it('tells clients that speak plain HTTP to use https', async () => {
    const { server } = await start(identity());
    const [status, text] = await new Promise<[number | undefined, string]>((resolve, reject) => {
      getPlain({ host: '127.0.0.1', port: server.port, agent: false }, (response) => {
        response.setEncoding('utf8').once('data', (chunk: string) => {
          resolve([response.statusCode, chunk]);
        });
      }).once('error', reject);
    });
    expect(status).toBe(400);
    expect(text).toMatch(/speaks TLS: use https/);
  });

  it('drops clients that do not start a handshake, and accepts those that do', async () => {
    const tls = identity();
    const { server } = await start(tls, { maxWaiting: 4 });
    const silent = Array.from({ length: 8 }, () => connect(server.port, '127.0.0.1'));
    onTestFinished(() => silent.forEach((socket) => socket.destroy()));
    const closed = silent.slice(0, 4).map(
      (socket) =>
        new Promise((resolve) => {
          socket.on('error', () => undefined).once('close', resolve);
        }),
    );
    await Promise.all(closed);
    expect(await ask(server.port, { ca: tls.cert })).toBe('ok');
  });

  it('makes no TLS socket for clients that have said nothing', async () => {
    const { server } = await start(identity());
    let numTlsSockets = 0;
    const init = (_id: number, type: string) => {
      if (type === 'TLSWRAP') numTlsSockets++;
    };
    const hook = createHook({ init }).enable();
    onTestFinished(() => void hook.disable());
    const silent = connect(server.port, '127.0.0.1');
    onTestFinished(() => void silent.destroy());
    await new Promise((resolve) => silent.once('connect', resolve));
    await setTimeout(50);
    expect(numTlsSockets).toBe(0);
    silent.write(Buffer.of(0x16));
    await expect.poll(() => numTlsSockets).toBe(1);
  });

  it.each([0, 1])(
    'does not wait forever for a handshake of which %i bytes came',
    async (numBytes) => {
      const { server } = await start(identity(), { requestMs: 100 });
      const socket = connect(server.port, '127.0.0.1');
      socket.write(Buffer.of(0x16).subarray(0, numBytes));
      await new Promise((resolve) => socket.on('error', () => undefined).once('close', resolve));
    },
  );

  it('survives nonsense', async () => {
    const tls = identity();
    const { server } = await start(tls);
    for (const bytes of [Buffer.alloc(100, 0xff), Buffer.from([0x16, 3, 1, 0xff, 0xff])]) {
      const socket = connect(server.port, '127.0.0.1');
      socket
        .on('error', () => undefined)
        .resume()
        .end(bytes);
      await new Promise((resolve) => socket.once('close', resolve));
    }
    expect(await ask(server.port, { ca: tls.cert })).toBe('ok');
  });
});

it.each([
  ['127.0.0.1', true],
  ['127.3.2.1', true],
  ['::1', true],
  ['localhost', true],
  ['0.0.0.0', false],
  ['::', false],
  ['10.0.0.1', false],
  ['::ffff:10.0.0.1', false],
  ['localhost.example', false],
])('isLoopback(%s) is %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected);
});

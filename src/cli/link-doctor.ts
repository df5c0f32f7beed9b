/**
 * `lockstep doctor URL`: checks whether this machine can join a run, before a job is queued, and how much it would add. Each
 * check builds on the one before.
 */
import { lookup } from 'node:dns/promises';
import { Agent, request as httpRequest } from 'node:http';
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { benchEngine } from '../model/engine/bench.js';
import { createEngine, selectEngine } from '../model/engine/engines.js';
import { initParams } from '../model/init.js';
import { buildModel } from '../model/lenet.js';
import { DEADLINES } from '../shared/deadlines.js';
import { messageOf } from '../shared/errors.js';
import type { JoinLine } from '../shared/join-line.js';
import {
  LINK_CHECK_PATH,
  RELAY_ANSWER,
  MAX_LINK_CHECK_BYTES,
  linkDescriptionSchema,
  prospectsOf,
  type LinkDescription,
} from '../shared/link-check.js';
import { pinOf } from '../shared/node/pin.js';
import { version } from '../shared/node/version.js';
import { PROTOCOL_VERSION } from '../shared/protocol.js';
import { dial } from '../worker/connection.js';

export interface LinkCheck {
  readonly check: string;
  readonly isOk: boolean;
  readonly detail: string;
  /** Figures, for programs. */
  readonly figures?: Readonly<Record<string, number | string>>;
}

const NUM_ROUND_TRIPS = 9;
/** A transfer is long enough to be timed when it takes this long, ms. */
const TIMED_MS = 200;
const SMALLEST_TRANSFER_BYTES = 64 * 1024;
/** A clock that differs by more is worth a word: traces of machines no longer line up. */
const CLOCK_TOLERANCE_MS = 1000;

/** A check that failed, with what to do. */
class Failed extends Error {}

/**
 * Checks a connection, reporting each check as it ends, until one fails.
 *
 * @param line with the token, if the run wants one
 * @returns whether all went well
 */
export async function checkLink(
  line: JoinLine,
  device: number | null,
  report: (check: LinkCheck) => void,
): Promise<boolean> {
  const url = new URL(line.url);
  const isTls = url.protocol === 'wss:';
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const port = Number(url.port || (isTls ? 443 : 80));
  const step = async <T>(
    check: string,
    work: () => Promise<readonly [string, T, LinkCheck['figures']?]>,
  ): Promise<T> => {
    try {
      const [detail, result, figures] = await work();
      report({ check, isOk: true, detail, ...(figures && { figures }) });
      return result;
    } catch (error) {
      if (error instanceof Failed && error.cause === REPORTED) throw error;
      report({ check, isOk: false, detail: messageOf(error) });
      throw new Failed(messageOf(error), { cause: REPORTED });
    }
  };
  const agents: Agent[] = [];
  try {
    await step('DNS', async () => {
      if (isIP(host) !== 0) return [`${host} is an address`, null];
      const [addresses, ms] = await timed(() =>
        lookup(host, { all: true }).catch((error: unknown) => {
          throw new Failed(`${host} has no address (${messageOf(error)}); is the name right?`);
        }),
      );
      const text = addresses.map(({ address }) => address).join(', ');
      return [`${host} is ${text} (${formatMs(ms)})`, null, { ms }];
    });
    await step('TCP', async () => {
      const [socket, ms] = await timed(() => openTcp(host, port));
      socket.destroy();
      return [`port ${port} answers in ${formatMs(ms)}`, null, { ms }];
    });
    const open = () => (isTls ? openTls(host, port, line.pin) : openTcp(host, port));
    if (isTls) {
      await step('TLS', async () => {
        const [socket, ms] = await timed(() => openTls(host, port, line.pin));
        const protocol = socket.getProtocol() ?? 'TLS';
        socket.destroy();
        const trust =
          line.pin === null
            ? 'with a certificate that this system trusts'
            : 'with the key that the join line names';
        return [`${protocol}, ${trust}, in ${formatMs(ms)}`, null, { ms }];
      });
    }
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    agents.push(agent);
    // The token goes out on a socket whose other side has shown its key.
    agent.createConnection = (_options, callback) => {
      open().then(
        (socket) => callback?.(null, socket),
        (error: unknown) => callback?.(error as Error, null as never),
      );
      return undefined;
    };
    const ask = (method: string, query = '', body?: Buffer) =>
      exchange({ agent, host: url.host, method, path: LINK_CHECK_PATH + query, body, line });
    const there = await step('token', async () => {
      const description = await describe(() => ask('GET'));
      return [line.token === null ? 'none is wanted' : 'right', description];
    });
    await step('version', () => {
      const isSame = there.protocolVersion === PROTOCOL_VERSION;
      if (isSame) return Promise.resolve([`${there.version} there, ${version} here`, null]);
      throw new Failed(
        `Lockstep ${there.version} there speaks protocol ${there.protocolVersion}, ${version} here ` +
          `protocol ${PROTOCOL_VERSION}; install the same version on both`,
      );
    });
    await step('WebSocket', async () => {
      const [channel, ms] = await timed(() =>
        dial(line.url, line.pin, AbortSignal.timeout(DEADLINES.dialMs)),
      );
      channel.close(1000, 'only checked');
      return [`opens in ${formatMs(ms)}`, null, { ms }];
    });
    const { roundTripMs, offsetMs } = await step('round trip', async () => {
      const trips = [];
      for (let i = 0; i < NUM_ROUND_TRIPS; i++) {
        const sentAt = Date.now();
        const [{ time }, ms] = await timed(() => describe(() => ask('GET')));
        trips.push({ ms, offsetMs: time - (sentAt + ms / 2) });
      }
      // The fastest says most: nothing came in its way.
      const [best] = trips.toSorted((a, b) => a.ms - b.ms);
      const result = { roundTripMs: best.ms, offsetMs: best.offsetMs };
      return [formatMs(best.ms), result, { ms: best.ms }];
    });
    await step('clock', () => {
      const [amount, direction] = [Math.abs(offsetMs), offsetMs > 0 ? 'behind' : 'ahead of'];
      const note = amount > CLOCK_TOLERANCE_MS ? '; traces will not line up: set it by NTP' : '';
      const margin = formatMs(roundTripMs / 2);
      const text = `${formatMs(amount)} ${direction} the coordinator's, give or take ${margin}${note}`;
      return Promise.resolve([text, null, { offsetMs }]);
    });
    const [downBytesPerSecond, upBytesPerSecond] = await step('bandwidth', async () => {
      const down = await bandwidth((bytes) => ask('GET', `?bytes=${bytes}`), roundTripMs);
      const up = await bandwidth((bytes) => ask('POST', '', Buffer.alloc(bytes)), roundTripMs);
      const text = `${formatRate(down)} down, ${formatRate(up)} up`;
      return [text, [down, up], { downBytesPerSecond: down, upBytesPerSecond: up }];
    });
    await step('speed', async () => {
      const link = { roundTripMs, downBytesPerSecond, upBytesPerSecond };
      return speedOf(there, link, device);
    });
    return true;
  } catch (error) {
    if (error instanceof Failed) return false;
    throw error;
  } finally {
    agents.forEach((agent) => agent.destroy());
  }
}

/** Marks a failure that the user has been told of. */
const REPORTED = Symbol('reported');

async function speedOf(
  there: LinkDescription,
  link: { roundTripMs: number; downBytesPerSecond: number; upBytesPerSecond: number },
  device: number | null,
): Promise<readonly [string, null, LinkCheck['figures']]> {
  const model = buildModel(there.hyperparameters, there);
  const choice = await selectEngine('auto', { device });
  const engine = await createEngine(choice.name, model, { device });
  const { batchSize, microBatch, numWorkers } = there;
  try {
    const bench = await benchEngine(engine, initParams(model, 1), { sizes: [microBatch] });
    const alone = bench.sizes[0].gradient.median;
    const { imagesPerSecond, wireShare } = prospectsOf({
      ...{ numParams: model.numParams, batchSize, microBatch, numWorkers },
      ...{ imagesPerSecond: alone, ...link },
    });
    const others = numWorkers === 0 ? 'alone' : `beside ${numWorkers} workers`;
    return [
      `${choice.name} computes ${formatCount(alone)} images/s of this run's model on one thread; ${others}, with batches of ` +
        `${batchSize}, one thread would add about ${formatCount(imagesPerSecond)} (the wire takes ${Math.round(100 * wireShare)} % of a step)`,
      null,
      { engine: choice.name, engineImagesPerSecond: alone, imagesPerSecond, wireShare },
    ];
  } finally {
    await engine.dispose();
  }
}

interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

function exchange(of: {
  agent: Agent;
  host: string;
  method: string;
  path: string;
  body: Buffer | undefined;
  line: JoinLine;
}): Promise<Answer> {
  const { agent, host, method, path, body, line } = of;
  return new Promise((resolve, reject) => {
    const headers = {
      Host: host,
      ...(line.token !== null && { Authorization: `Bearer ${line.token}` }),
      ...(body && { 'Content-Length': body.length }),
    };
    const signal = AbortSignal.timeout(DEADLINES.dialMs + DEADLINES.requestMs);
    const request = httpRequest({ agent, method, path, headers, signal }, (response) => {
      const chunks: Buffer[] = [];
      let length = 0;
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        length += chunk.length;
        if (length > MAX_LINK_CHECK_BYTES) response.destroy(new Error('The answer is too long'));
      });
      response.once('error', reject);
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }),
      );
    });
    request.once('error', reject);
    request.end(body);
  });
}

/** @throws {Failed} saying why there is none */
async function describe(ask: () => Promise<Answer>): Promise<LinkDescription> {
  const { status, body } = await ask();
  const text = body.toString('utf8', 0, 200);
  if (status === 401) {
    throw new Failed(
      'missing or wrong; paste the whole join line, or give --token-file or LOCKSTEP_TOKEN',
    );
  }
  if (status === 421) {
    throw new Failed(`The coordinator is ${text.charAt(0).toLowerCase()}${text.slice(1)}`);
  }
  if (status === 429) throw new Failed(text);
  if (status === 404 && text === RELAY_ANSWER) throw new Failed(text.trim());
  const answer = linkDescriptionSchema.safeParse(parse(body));
  if (status === 200 && answer.success) return answer.data;
  throw new Failed(
    `The server (HTTP ${status}) is not a coordinator of this version; is the port right?`,
  );
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    return null;
  }
}

/** bytes/s, of a transfer that is made longer until it can be timed. */
async function bandwidth(
  transfer: (numBytes: number) => Promise<Answer>,
  roundTripMs: number,
): Promise<number> {
  for (let numBytes = SMALLEST_TRANSFER_BYTES; ; numBytes *= 4) {
    const [{ status }, ms] = await timed(() => transfer(numBytes));
    if (status !== 200) throw new Failed(`The transfer was refused (HTTP ${status})`);
    if (ms >= TIMED_MS || 4 * numBytes > MAX_LINK_CHECK_BYTES) {
      return (1000 * numBytes) / Math.max(ms - roundTripMs, ms / 10);
    }
  }
}

function openTcp(host: string, port: number): Promise<Socket> {
  return opened(connect({ host, port, noDelay: true }), 'connect', (error) => {
    const at = `${host}:${port}`;
    const why = error.code === 'ECONNREFUSED' ? 'nothing listens there' : messageOf(error);
    return `No connection to ${at} (${why}); is the coordinator running, and is a firewall in between?`;
  });
}

async function openTls(host: string, port: number, pin: string | null) {
  const socket = connectTls({
    ...{ host, port, rejectUnauthorized: pin === null },
    ...(isIP(host) === 0 && { servername: host }),
  });
  await opened(socket, 'secureConnect', (error) =>
    pin === null
      ? `The certificate is not accepted (${messageOf(error)}); paste the whole join line, with its pin, or name its authority in NODE_EXTRA_CA_CERTS`
      : `No TLS there (${messageOf(error)}); is it the coordinator's port, or should it be ws://?`,
  );
  const certificate = socket.getPeerX509Certificate();
  if (pin !== null && (!certificate || pinOf(certificate.publicKey) !== pin)) {
    socket.destroy();
    throw new Failed(
      'The key is not the one named in the join line: it is another run, or the connection is intercepted',
    );
  }
  socket.setNoDelay(true);
  return socket;
}

function opened<T extends Socket>(
  socket: T,
  event: string,
  explain: (error: NodeJS.ErrnoException) => string,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => {
      socket.destroy();
      reject(new Failed(explain(error)));
    };
    const timer = setTimeout(
      () => fail(new Error(`silent for ${DEADLINES.dialMs / 1000} s`)),
      DEADLINES.dialMs,
    );
    socket.once('close', () => {
      clearTimeout(timer);
      fail(new Error('closed at once'));
    });
    socket.on('error', fail);
    socket.once(event, () => {
      clearTimeout(timer);
      resolve(socket);
    });
  });
}

async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const startedAt = performance.now();
  const result = await work();
  return [result, performance.now() - startedAt];
}

const formatMs = (ms: number) => (ms < 100 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`);
const formatRate = (bytesPerSecond: number) => `${(bytesPerSecond / 1e6).toPrecision(3)} MB/s`;
const formatCount = (count: number) => Math.round(count).toLocaleString('en-US');

/** A line of the table that is printed while the checks go on. */
export function formatCheck({ check, isOk, detail }: LinkCheck): string {
  return `${isOk ? '✓' : '✗'} ${check.padEnd(10)}  ${detail}`;
}

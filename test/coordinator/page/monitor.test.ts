import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest, createServer, type IncomingMessage, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  createMonitor,
  type Monitor,
  type MonitorOptions,
} from '../../../src/coordinator/page/monitor.js';
import { Gate, type GateOptions } from '../../../src/coordinator/page/gate.js';
import type { Update } from '../../../src/coordinator/page/update.js';
import { systemClock } from '../../../src/shared/clock.js';
import * as run from '../../support/run-events.js';

let pageDirectory: string;
beforeAll(() => {
  pageDirectory = mkdtempSync(join(tmpdir(), 'lockstep-page-'));
  for (const file of ['index.html', 'page.js', 'page.css', 'favicon.svg']) {
    writeFileSync(join(pageDirectory, file), `contents of ${file}`);
  }
});
afterAll(() => rmSync(pageDirectory, { recursive: true }));

interface Served {
  readonly monitor: Monitor;
  readonly server: Server;
  readonly port: number;
}

async function serve(
  options: Partial<MonitorOptions> = {},
  access: Partial<GateOptions> = {},
): Promise<Served> {
  const gate = new Gate({
    joiningToken: null,
    lookingToken: null,
    key: new Uint8Array(32),
    allowedHosts: [],
    clock: systemClock,
    ...access,
  });
  const monitor = createMonitor({
    predict: () => Float32Array.of(0, 0, 0, 0, 0, 0, 0, 1, 0, 0),
    pageDirectory: pathToFileURL(`${pageDirectory}/`),
    ...options,
  });
  const server = createServer((request, response) => {
    if (gate.turnsAway(request, response) || monitor.handle(request, response)) return;
    response.writeHead(404).end('not the monitor');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    monitor.close();
    server.closeAllConnections();
    server.close();
  });
  return { monitor, server, port: (server.address() as AddressInfo).port };
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

interface Ask {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

function ask(port: number, path: string, { method = 'GET', headers, body }: Ask = {}) {
  return new Promise<Answer>((resolve, reject) => {
    const request = httpRequest({ port, path, method, headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text });
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

interface Page {
  readonly updates: { readonly event: string; readonly data: Update }[];
  readonly isClosed: () => boolean;
  close(): void;
}

/** An open page, and the events that it receives. */
function open(port: number): Promise<Page> {
  return new Promise((resolve, reject) => {
    const updates: Page['updates'][number][] = [];
    let isClosed = false;
    const request = httpRequest({ port, path: '/api/events', agent: false }, (response) => {
      if (response.statusCode !== 200) {
        reject(new Error(`Status ${response.statusCode}`));
        request.destroy();
        return;
      }
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        const frames = text.split('\n\n');
        text = frames.pop() ?? '';
        for (const frame of frames) {
          const match = /^event: (.*)\ndata: (.*)$/.exec(frame);
          if (match) updates.push({ event: match[1], data: JSON.parse(match[2]) as Update });
        }
      });
      response.on('close', () => (isClosed = true));
      resolve({ updates, isClosed: () => isClosed, close: () => request.destroy() });
    });
    request.on('error', reject);
    request.end();
  });
}

describe('Monitor', () => {
  it('serves the page and its files with a strict content security policy', async () => {
    const { port } = await serve();
    for (const path of ['/', '/page.js', '/page.css', '/favicon.svg', '/api/history']) {
      const { status, headers } = await ask(port, path);
      expect(status).toBe(200);
      const policy = headers['content-security-policy'];
      expect(policy).toContain("default-src 'none'");
      expect(policy).toContain("script-src 'self'");
      expect(policy).not.toMatch(/unsafe|https?:|\*/);
      expect(headers['x-content-type-options']).toBe('nosniff');
    }
  });

  it('answers a conditional request without sending the file again', async () => {
    const { port } = await serve();
    const { headers } = await ask(port, '/page.js');
    const again = await ask(port, '/page.js', { headers: { 'if-none-match': headers.etag! } });
    expect([again.status, again.body]).toEqual([304, '']);
  });

  it('does not handle other paths', async () => {
    const { port } = await serve();
    for (const path of ['/metrics', '/healthz', '/page', '/../page.js', '/__proto__', '/api']) {
      expect(await ask(port, path)).toMatchObject({ status: 404, body: 'not the monitor' });
    }
  });

  it('refuses other methods, and says which are allowed', async () => {
    const { port } = await serve();
    expect(await ask(port, '/', { method: 'POST' })).toMatchObject({
      status: 405,
      headers: { allow: 'GET, HEAD' },
    });
    expect(await ask(port, '/api/predict')).toMatchObject({ status: 405 });
    expect(await ask(port, '/api/events', { method: 'DELETE' })).toMatchObject({ status: 405 });
  });

  it('refuses pages of other sites', async () => {
    const { port } = await serve();
    const status = async (headers: Record<string, string>) =>
      (await ask(port, '/api/history', { headers })).status;
    expect(await status({ origin: 'http://evil.example' })).toBe(403);
    expect(await status({ origin: 'null' })).toBe(403);
    expect(await status({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' })).toBe(403);
    expect(await status({ origin: `http://localhost:${port}`, host: `localhost:${port}` })).toBe(
      200,
    );
    expect(await status({ 'sec-fetch-site': 'same-origin' })).toBe(200);
    // A click on a link.
    expect(await status({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' })).toBe(
      200,
    );
  });

  it('refuses a foreign name that points at this machine', async () => {
    const { port } = await serve({}, { allowedHosts: ['train.example.com'] });
    const status = async (host: string) =>
      (await ask(port, '/api/history', { headers: { host } })).status;
    expect(await status('rebound.evil.example')).toBe(421);
    expect(await status('bad host')).toBe(400);
    expect(await status('train.example.com:7700')).toBe(200);
    for (const host of ['localhost:1', '127.0.0.1', '[::1]:7700', 'gpu-box']) {
      expect(await status(host)).toBe(200);
    }
  });

  it('sends a page the history, then the changes', async () => {
    const { monitor, port } = await serve();
    monitor.observe(run.started());
    monitor.observe(run.step(0));
    const page = await open(port);
    await vi.waitFor(() => expect(page.updates).toHaveLength(1));
    monitor.observe(run.step(1));
    monitor.observe(run.joined('anna'));
    await vi.waitFor(() => expect(page.updates).toHaveLength(2));
    const [first, second] = page.updates;
    expect(first).toMatchObject({ event: 'history', data: { globalStep: 1, state: 'training' } });
    expect(second).toMatchObject({ event: 'delta', data: { points: { numPoints: 1 } } });
    expect(second.data.events).toMatchObject([{ kind: 'joined' }]);
  });

  it('batches a burst of events', async () => {
    const { monitor, port } = await serve();
    monitor.observe(run.started());
    const page = await open(port);
    await vi.waitFor(() => expect(page.updates).toHaveLength(1));
    for (let step = 0; step < 500; step += 1) monitor.observe(run.step(step));
    await vi.waitFor(() => expect(page.updates.at(-1)?.data.globalStep).toBe(500));
    expect(page.updates).toHaveLength(2);
  });

  it('sends a page that joins others all it missed, and nothing twice', async () => {
    const { monitor, port } = await serve();
    monitor.observe(run.started());
    const early = await open(port);
    await vi.waitFor(() => expect(early.updates).toHaveLength(1));
    monitor.observe(run.notice('first'));
    const late = await open(port);
    monitor.observe(run.notice('second'));
    await vi.waitFor(() => {
      for (const page of [early, late]) {
        const messages = page.updates.flatMap(({ data }) => data.events ?? []);
        const notices = messages.filter(({ kind }) => kind === 'notice');
        expect(notices.map(({ message }) => message)).toEqual(['first', 'second']);
      }
    });
  });

  it('limits the number of open pages, and has room again when one leaves', async () => {
    const { port } = await serve();
    const pages = await Promise.all(Array.from({ length: 64 }, () => open(port)));
    await expect(open(port)).rejects.toThrow('Status 503');
    pages[0].close();
    await vi.waitFor(() => open(port));
  });

  it('close() ends the streams after sending the last events', async () => {
    const { monitor, port } = await serve();
    monitor.observe(run.started());
    const page = await open(port);
    await vi.waitFor(() => expect(page.updates).toHaveLength(1));
    monitor.observe(run.finished());
    monitor.close();
    await vi.waitFor(() => expect(page.isClosed()).toBe(true));
    expect(page.updates.at(-1)?.data.state).toBe('finished');
  });

  it('classifies an image', async () => {
    const seen: Uint8Array[] = [];
    const { monitor, port } = await serve({
      predict: (image) => {
        seen.push(image);
        return new Float32Array(10).fill(0.1);
      },
    });
    const body = new Uint8Array(784).fill(7);
    expect((await ask(port, '/api/predict', { method: 'POST', body })).status).toBe(503);
    monitor.observe(run.started());
    const answer = await ask(port, '/api/predict', { method: 'POST', body });
    expect(answer.status).toBe(200);
    expect((JSON.parse(answer.body) as { probabilities: number[] }).probabilities).toHaveLength(10);
    expect(seen).toEqual([body]);
  });

  it('classifies only complete images', async () => {
    const predict = vi.fn(() => new Float32Array(10));
    const { monitor, port } = await serve({ predict });
    monitor.observe(run.started());
    const status = async (numBytes: number, headers: Record<string, string> = {}) =>
      (await ask(port, '/api/predict', { method: 'POST', body: new Uint8Array(numBytes), headers }))
        .status;
    expect(await status(783)).toBe(413);
    expect(await status(100_000)).toBe(413);
    expect(await status(0)).toBe(413);
    expect(await status(783, { 'transfer-encoding': 'chunked' })).toBe(400);
    expect(await status(785, { 'transfer-encoding': 'chunked' })).toBe(400);
    expect(predict).not.toHaveBeenCalled();
  });

  it('limits how often it classifies', async () => {
    const { monitor, port } = await serve();
    monitor.observe(run.started());
    const body = new Uint8Array(784);
    const answers = await Promise.all(
      Array.from({ length: 120 }, () => ask(port, '/api/predict', { method: 'POST', body })),
    );
    expect(answers.some(({ status }) => status === 429)).toBe(true);
    expect(answers.some(({ status }) => status === 200)).toBe(true);
  });

  it('answers when the engine fails, or if there is none', async () => {
    const failing = await serve({
      predict: () => {
        throw new Error('engine gone');
      },
    });
    failing.monitor.observe(run.started());
    const image = { method: 'POST', body: new Uint8Array(784) };
    expect(await ask(failing.port, '/api/predict', image)).toMatchObject({ status: 503 });
    const without = await serve({ predict: null });
    expect(await ask(without.port, '/api/predict', image)).toMatchObject({ status: 404 });
  });

  it('survives bytes that are not a request', async () => {
    const { monitor, port } = await serve();
    const socket = connect(port, '127.0.0.1');
    await new Promise<void>((resolve) => {
      socket.on('close', () => resolve());
      socket.on('error', () => undefined);
      socket.resume();
      socket.write('GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\0\r\n\r\n');
    });
    monitor.observe(run.started());
    expect((await ask(port, '/api/history')).status).toBe(200);
  });

  it('ranks the mistakes once a page is open, most confident first', async () => {
    // The model predicts 3 for every image, more confidently the brighter the first pixel.
    const { monitor, port } = await serve({
      predict: (image) => {
        const probabilities = new Float32Array(10).fill((1 - image[0] / 255) / 9);
        probabilities[3] = image[0] / 255;
        return probabilities;
      },
    });
    const images = new Uint8Array(4 * 784);
    [100, 200, 250, 150].forEach((pixel, index) => (images[784 * index] = pixel));
    const labels = Uint16Array.of(1, 2, 3, 4);
    monitor.observe(run.started());
    monitor.observe(run.evaluation({ images, labels, predictions: Uint16Array.of(3, 3, 3, 3) }));
    const page = await open(port);
    const mistakes = await vi.waitFor(() => {
      const found = page.updates.map(({ data }) => data.mistakes).find(Boolean);
      expect(found).toBeDefined();
      return found!;
    });
    expect(mistakes.numMistakes).toBe(3);
    expect(mistakes.worst.map(({ index, label }) => [index, label])).toEqual([
      [1, 2],
      [3, 4],
      [0, 1],
    ]);
  });

  it('keeps the weights for classification up to date', async () => {
    const setParams = vi.fn();
    const { monitor } = await serve({ setParams });
    // Those that a resumed run begins with, or ends with if it was over.
    const params = Float32Array.of(1, 2);
    monitor.observe(run.started({ params }));
    expect(setParams.mock.calls).toEqual([[params]]);
    monitor.observe(run.started({ totalSteps: 1000 }));
    for (let step = 0; step < 1000; step += 1) monitor.observe(run.step(step));
    // Four times per second during 4 s of steps, and the last.
    expect(setParams.mock.calls.length).toBeGreaterThanOrEqual(16);
    expect(setParams.mock.calls.length).toBeLessThanOrEqual(19);
  });
});

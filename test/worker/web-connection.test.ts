/** A worker's connection over the platform's WebSocket, as in browsers; `ws` stands in for it here. */
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { joinFrame, type Channel } from '../../src/shared/channel.js';
import { systemClock } from '../../src/shared/clock.js';
import { dialFromBrowser } from '../../src/worker/web-connection.js';

beforeAll(() => void vi.stubGlobal('WebSocket', WebSocket));
afterAll(() => void vi.unstubAllGlobals());

async function pair(greeting: Uint8Array | string | null = null) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  await new Promise((resolve) => server.once('listening', resolve));
  onTestFinished(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });
  const accepted = new Promise<WebSocket>((resolve) =>
    server.once('connection', (end) => {
      if (greeting !== null) end.send(greeting);
      resolve(end);
    }),
  );
  const { port } = server.address() as AddressInfo;
  const url = `ws://127.0.0.1:${port}/`;
  const channel = await dialFromBrowser(url, systemClock, new AbortController().signal);
  return { channel, end: await accepted };
}

function listenTo(channel: Channel) {
  const received: Uint8Array[] = [];
  let hear: () => void = () => undefined;
  const first = new Promise<void>((resolve) => (hear = resolve));
  const closed = new Promise<number>((resolve) => {
    channel.handler = {
      received: (frame) => {
        received.push(joinFrame(frame));
        hear();
      },
      closed: resolve,
    };
  });
  return { received, first, closed };
}

describe('dialFromBrowser()', () => {
  it('keeps frames that arrive before a handler is set', async () => {
    const { channel } = await pair(Uint8Array.of(1, 2, 3));
    await new Promise((resolve) => setImmediate(resolve));
    const { received, first } = listenTo(channel);
    await first;
    expect(received).toEqual([Uint8Array.of(1, 2, 3)]);
  });

  it('treats a text frame as an invalid one', async () => {
    const { channel } = await pair('text');
    const { received, first } = listenTo(channel);
    await first;
    expect(received).toEqual([new Uint8Array(0)]);
  });

  it.each([
    [4002, 4002],
    // A script may not send this code.
    [1011, 1000],
  ])('closes with %d as %d', async (code, heard) => {
    const { channel, end } = await pair();
    const closed = new Promise((resolve) => end.once('close', resolve));
    channel.close(code, 'x'.repeat(300));
    expect(await closed).toBe(heard);
  });

  it('reports termination at once and only once, and sends nothing after it', async () => {
    const { channel, end } = await pair();
    const codes: number[] = [];
    channel.handler = { received: () => undefined, closed: (code) => codes.push(code) };
    const closed = new Promise((resolve) => end.once('close', resolve));
    channel.terminate();
    expect(codes).toEqual([1006]);
    channel.send([Uint8Array.of(1)]);
    await closed;
    expect(codes).toEqual([1006]);
  });

  it('rejects if there is no server, and when the signal aborts', async () => {
    const stop = new AbortController();
    await expect(dialFromBrowser('ws://127.0.0.1:1/', systemClock, stop.signal)).rejects.toThrow();
    const dialling = dialFromBrowser('ws://127.0.0.1:1/', systemClock, stop.signal);
    stop.abort();
    await expect(dialling).rejects.toThrow();
  });
});

/** A worker's side of the socket, with a coordinator that misbehaves. */
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { createHash } from 'node:crypto';
import { describe, expect, it, onTestFinished } from 'vitest';
import { dial } from '../../src/worker/connection.js';

/** A server that answers the first bytes of each connection as the test says. */
async function serve(answer: (socket: Socket, request: string) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('data', (chunk) => answer(socket, chunk.toString('latin1')));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    sockets.forEach((socket) => socket.destroy());
    server.close();
  });
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Upgrades and sends the bytes in the same packet. */
function upgradeAnd(bytes: Uint8Array): (socket: Socket, request: string) => void {
  return (socket, request) => {
    const key = /sec-websocket-key: (.*)\r\n/i.exec(request)![1];
    const accept = createHash('sha1')
      .update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64');
    const head =
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Accept: ${accept}\r\n\r\n`;
    socket.write(Buffer.concat([Buffer.from(head), bytes]));
  };
}

const signal = () => new AbortController().signal;

describe('dial()', () => {
  it.each([
    ['nobody', () => Promise.resolve('ws://127.0.0.1:1'), 'ECONNREFUSED'],
    [
      'a server that resets',
      () => serve((socket) => socket.resetAndDestroy()),
      /socket hang up|ECONNRESET/,
    ],
    ['a server that hangs up', () => serve((socket) => socket.end()), 'socket hang up'],
    [
      'a server without WebSockets',
      () => serve((socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n')),
      'Unexpected server response: 200',
    ],
    [
      'a server that refuses',
      () => serve((socket) => socket.end('HTTP/1.1 403 Forbidden\r\n\r\n')),
      'Unexpected server response: 403',
    ],
    [
      'a server that redirects',
      () =>
        serve((socket) =>
          socket.end('HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n'),
        ),
      'Unexpected server response: 302',
    ],
    [
      'a server of another protocol',
      () => serve((socket) => socket.end('220 smtp ready\r\n')),
      'Parse Error',
    ],
  ])('rejects %s', async (_who, url, message) => {
    await expect(dial(await url(), null, signal())).rejects.toThrow(message);
  });

  it('rejects when the signal aborts', async () => {
    const stop = new AbortController();
    const dialling = dial(await serve(() => stop.abort()), null, stop.signal);
    await expect(dialling).rejects.toThrow();
  });

  it.each([
    ['a masked frame', Buffer.from([0x82, 0x81, 0, 0, 0, 0, 1]), 1006],
    ['a frame of 300 MB', Buffer.from([0x82, 127, 0, 0, 0, 0, 0x12, 0, 0, 0]), 1006],
    ['an unknown opcode', Buffer.from([0x83, 0x00]), 1006],
    ['a close', Buffer.from([0x88, 0x02, 0x0f, 0xa0]), 4000],
  ])('closes, once, on %s', async (_what, bytes, code) => {
    const channel = await dial(await serve(upgradeAnd(bytes)), null, signal());
    const codes: number[] = [];
    await new Promise<void>((resolve) => {
      channel.handler = {
        received: () => undefined,
        closed: (closeCode) => {
          codes.push(closeCode);
          resolve();
        },
      };
    });
    expect(codes).toEqual([code]);
  });
});

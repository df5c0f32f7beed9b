/**
 * A TCP connection to the coordinator's port that sends the bytes a test gives it, and behaves no better than that.
 */
import { connect, type Socket } from 'node:net';

/** An upgrade to a WebSocket as RFC 6455 wants it. */
export const UPGRADE = upgrade({});

/** An upgrade with some of its headers changed; null leaves one out. */
export function upgrade(
  changes: Readonly<Record<string, string | null>>,
  requestLine = 'GET / HTTP/1.1',
): string {
  const headers: Readonly<Record<string, string | null>> = {
    Host: 'localhost',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Version': '13',
    ...changes,
  };
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    value === null ? [] : [`${name}: ${value}`],
  );
  return [requestLine, ...lines, '', ''].join('\r\n');
}

/** A frame of a client: masked, with zeros. */
export function clientFrame(payload: Uint8Array, firstByte = 0x82): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 6 : length < 65_536 ? 8 : 14);
  head[0] = firstByte;
  head[1] = 0x80 | (length < 126 ? length : length < 65_536 ? 126 : 127);
  if (length >= 65_536) head.writeBigUInt64BE(BigInt(length), 2);
  else if (length >= 126) head.writeUInt16BE(length, 2);
  return Buffer.concat([head, payload]);
}

export class RawClient {
  readonly socket: Socket;
  /** Resolves when the connection is closed, however that came. */
  readonly closed: Promise<void>;
  /** Resolves when the other side will say no more. */
  readonly ended: Promise<void>;
  private bytes = Buffer.alloc(0);
  private wake: () => void = () => undefined;

  constructor(port: number) {
    // Half open: what it does when the other side ends is the test's business.
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    this.socket.on('error', () => undefined);
    this.socket.on('data', (chunk) => {
      this.bytes = Buffer.concat([this.bytes, chunk]);
      this.wake();
    });
    this.ended = new Promise((resolve) => {
      this.socket.once('end', resolve);
      this.socket.once('close', () => resolve());
    });
    this.closed = new Promise((resolve) => this.socket.once('close', () => resolve()));
    void this.ended.then(() => this.wake());
  }

  get text(): string {
    return this.bytes.toString('latin1');
  }

  send(bytes: Uint8Array | string): void {
    this.socket.write(bytes);
  }

  /** Resolves as soon as what has arrived has the pattern. @throws {Error} if the connection ends without */
  async hears(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.text);
      if (match) return match;
      if (this.socket.readableEnded || this.socket.destroyed) {
        throw new Error(`Ended without ${pattern.source}: ${JSON.stringify(this.text)}`);
      }
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }

  /** Upgrades to a WebSocket. */
  async upgrade(): Promise<void> {
    this.send(UPGRADE);
    await this.hears(/^HTTP\/1\.1 101 [^]*?\r\n\r\n/);
    this.bytes = Buffer.from(this.text.replace(/^[^]*?\r\n\r\n/, ''), 'latin1');
  }

  /** Code and reason of the close frame that came, after upgrading. */
  async closeFrame(): Promise<{ code: number; reason: string }> {
    const [frame] = await this.hears(/\x88[\x02-\x7d][^]{2,}/);
    const bytes = Buffer.from(frame, 'latin1');
    return { code: bytes.readUInt16BE(2), reason: bytes.subarray(4, 2 + bytes[1]).toString() };
  }

  /** Breaks the connection, as a process that is killed with something unread does. */
  reset(): void {
    this.socket.resetAndDestroy();
  }
}

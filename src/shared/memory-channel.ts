/** A connection between a coordinator and a worker of the same process. */
import type { Channel, ChannelHandler, Frame } from './channel.js';

/** Both ends of a new connection. Frames arrive in order, after what is running now. */
export function memoryChannels(): [Channel, Channel] {
  const [a, b] = [new MemoryChannel(), new MemoryChannel()];
  a.peer = b;
  b.peer = a;
  return [a, b];
}

class MemoryChannel implements Channel {
  handler: ChannelHandler = { received: () => undefined, closed: () => undefined };
  readonly bufferedBytes = 0;
  readonly isReceiving = false;
  peer: MemoryChannel | null = null;

  send(frame: Frame, left?: () => void): void {
    const { peer } = this;
    // Its memory is the sender's; a Buffer's own slice() would share it.
    const copy = frame.map((piece) => Uint8Array.prototype.slice.call(piece));
    if (peer) queueMicrotask(() => peer.handler.received(copy));
    left?.();
  }

  close(code: number, reason: string): void {
    const { peer } = this;
    if (!peer) return;
    this.peer = peer.peer = null;
    for (const { handler } of [peer, this]) queueMicrotask(() => handler.closed(code, reason));
  }

  terminate(): void {
    this.close(1006, '');
  }
}

/** A connection between a coordinator and a worker of the same process. */
import type { Channel, ChannelHandler } from './channel.js';

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

  send(frame: Uint8Array): void {
    const { peer } = this;
    if (!peer) return;
    // The frame may go to others too, and its memory is to be the receiver's; a Buffer's own slice() would share it.
    const copy = Uint8Array.prototype.slice.call(frame);
    queueMicrotask(() => peer.handler.received(copy));
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

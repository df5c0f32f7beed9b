/**
 * A worker's connection as the coordinator sees it, with a test at the other end.
 */
import type { Channel, ChannelHandler, Frame } from '../../src/shared/channel.js';
import { decodeCoordinatorMessage, encode } from '../../src/shared/codec.js';
import { closeReason } from '../../src/shared/errors.js';
import type { CoordinatorMessage, Message, WorkerMessage } from '../../src/shared/protocol.js';

export class FakeChannel implements Channel {
  handler: ChannelHandler = { received: () => undefined, closed: () => undefined };
  bufferedBytes = 0;
  isReceiving = false;
  /** What the coordinator has sent. */
  readonly sent: CoordinatorMessage[] = [];
  /** How the coordinator ended it; code 1006 if without a word. */
  ended: { readonly code: number; readonly reason: string } | null = null;

  /** θ is read as it is now: what is sent of it later is the network's business. */
  send(frame: Frame, left?: () => void): void {
    if (!this.ended) {
      this.sent.push(decodeCoordinatorMessage(frame.map((piece) => Uint8Array.from(piece))));
    }
    left?.();
  }

  close(code: number, reason: string): void {
    this.ended ??= { code, reason: closeReason(reason) };
  }

  terminate(): void {
    this.ended ??= { code: 1006, reason: '' };
  }

  /** The worker says something. */
  say(message: WorkerMessage): void {
    this.handler.received(encode(message));
  }

  /** What was queued has left. */
  drain(): void {
    this.bufferedBytes = 0;
    this.handler.drained?.();
  }

  /** The connection breaks. */
  break(): void {
    this.ended ??= { code: 1006, reason: '' };
    this.handler.closed(1006, '');
  }

  sentOf<Type extends CoordinatorMessage['type']>(type: Type): Message<Type>[] {
    return this.sent.filter((message): message is Message<Type> => message.type === type);
  }
}

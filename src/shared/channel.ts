/**
 * One connection between a worker and the coordinator, as both see it: whole frames, in order, until it closes.
 * `ws` is behind it in programs, virtual time and a seeded network in the simulator.
 */
export interface Channel {
  /** Queues a frame; after the channel has closed it is dropped. The bytes must not change until they are sent. */
  send(frame: Uint8Array): void;
  /**
   * Says goodbye: sends what is queued, then the code and as much of the reason as `closeReason` leaves. `closed`
   * follows.
   */
  close(code: number, reason: string): void;
  /** Cuts the connection without a word. `closed` follows. */
  terminate(): void;
  /** Bytes queued and not yet handed to the network. */
  readonly bufferedBytes: number;
  /** Whether a frame has begun to arrive and is not complete. */
  readonly isReceiving: boolean;
  /** Set by the owner as soon as it has the channel. */
  handler: ChannelHandler;
}

export interface ChannelHandler {
  /** The frame's memory is the handler's. */
  received(frame: Uint8Array): void;
  /** Frames had to wait, and the last of them has been handed to the network. */
  drained?(): void;
  /** Called once; nothing is received afterwards. `code` is 1006 when the connection broke without a goodbye. */
  closed(code: number, reason: string): void;
}

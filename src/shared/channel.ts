/**
 * One connection between a worker and the coordinator, as both see it: whole frames, in order, until it closes.
 * Programs implement it with `ws`, the simulator with virtual time and a seeded network.
 */
export interface Channel {
  /**
   * Queues a frame; after the channel has closed it is dropped. Its memory is read until it has left.
   *
   * @param left called once, soon, when nobody reads the memory any more: it has been sent, or never will be
   */
  send(frame: Frame, left?: () => void): void;
  /**
   * Says goodbye: sends what is queued, then the code and as much of the reason as `closeReason` leaves. `closed`
   * follows.
   */
  close(code: number, reason: string): void;
  /** Cuts the connection without a word. `closed` follows. */
  terminate(): void;
  /** The peer has proved itself: from now on it may send as much as work takes. */
  trust?(): void;
  /** Bytes queued and not yet handed to the network. */
  readonly bufferedBytes: number;
  /** Whether a frame has begun to arrive and is not complete. */
  readonly isReceiving: boolean;
  /** Set by the owner as soon as it has the channel. */
  handler: ChannelHandler;
}

/** The bytes of one message, in pieces; where they are cut means nothing. */
export type Frame = readonly Uint8Array[];

export function frameBytes(frame: Frame): number {
  return frame.reduce((sum, { length }) => sum + length, 0);
}

/** The frame in one piece; its own where it has only one, else a copy. */
export function joinFrame(frame: Frame): Uint8Array {
  if (frame.length === 1) return frame[0];
  const whole = new Uint8Array(frameBytes(frame));
  let at = 0;
  for (const piece of frame) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

export interface ChannelHandler {
  /** The frame's memory is the handler's. */
  received(frame: Frame): void;
  /** Frames had to wait, and the last of them has been handed to the network. */
  drained?(): void;
  /** Called once; nothing is received afterwards. `code` is 1006 when the connection broke without a goodbye. */
  closed(code: number, reason: string): void;
}

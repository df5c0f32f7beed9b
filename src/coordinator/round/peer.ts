/**
 * One worker as the dispatcher sees it: what it has, how fast it is, and what is waiting to be sent to it.
 *
 * A connection gets no more than it can send: anything beyond `MAX_QUEUED_BYTES` waits here, where it costs no memory, and is
 * dropped if the round ends first.
 */
import type { Frame } from '../../shared/channel.js';
import { bytesOf, encode } from '../../shared/codec.js';
import { imageBytes } from '../../model/lenet.js';
import type { Member } from '../group/group.js';
import { PaceMeter } from '../group/meters.js';
import type { SampleSource } from '../samples.js';
import type { Pace } from './planner.js';

/** While so much waits to leave, nothing is added to it; one frame may exceed it. */
export const MAX_QUEUED_BYTES = 256 * 1024;
/** Of one message of samples, at most: pings and pongs wait behind it. */
const SAMPLES_BYTES = 64 * 1024;

export type Kind = 'step' | 'evaluation';

export class Peer {
  readonly member: Member;
  readonly meters: Readonly<Record<Kind, PaceMeter>> = {
    step: new PaceMeter(),
    evaluation: new PaceMeter(),
  };
  /** Rounds since it last had a share, of each kind of work. */
  readonly roundsIdle: Record<Kind, number> = { step: 0, evaluation: 0 };
  /** Since when it has been asked for something and has answered nothing; null if it owes no answer. */
  owesSince: number | null = null;
  private readonly samples: SampleSource;
  /** Bit i is set if the worker has sample i. */
  private cached: Uint8Array = new Uint8Array(0);
  /** To be sent in this order: samples by their indices, and whole frames. */
  private waiting: (Uint32Array | { readonly frame: Frame })[] = [];
  /** How many slices it has been sent of the θ after so many updates, ahead of the round. */
  private slicesAhead: { readonly globalStep: number; readonly numSlices: number } | null = null;
  /** Samples to be sent when there is nothing else to send. */
  private ahead: Uint32Array[] = [];

  constructor(member: Member, samples: SampleSource) {
    this.member = member;
    this.samples = samples;
  }

  /** A connection is there. @param cached the samples that the worker has kept, one bit each */
  joined(cached: Uint8Array): void {
    this.lost();
    this.cached = cached;
  }

  /** The connection is gone, and with it what was to be sent. */
  lost(): void {
    this.owesSince = null;
    this.forget();
    this.ahead = [];
    this.slicesAhead = null;
  }

  /** Whether all that was sent to it has left. */
  get isFree(): boolean {
    const { connection } = this.member;
    return (
      connection !== null && this.waiting.length === 0 && connection.channel.bufferedBytes === 0
    );
  }

  paceOf(kind: Kind): Pace {
    return this.meters[kind].paceOf(this.member.workerId);
  }

  /** Sends work, after the samples that it needs. */
  give(samples: readonly Uint32Array[], frames: readonly Frame[]): void {
    this.ahead = [];
    this.slicesAhead = null;
    this.waiting.push(...samples, ...frames.map((frame) => ({ frame })));
    this.pump();
  }

  /** Sends the slice with that number of a θ, if it has those before it and the connection takes it. */
  sendSlice(globalStep: number, frame: Frame, index: number): void {
    const { connection } = this.member;
    const hasRoom =
      index === 0
        ? this.isFree
        : (connection?.channel.bufferedBytes ?? Infinity) < MAX_QUEUED_BYTES;
    if (!hasRoom || this.numSlicesOf(globalStep) !== index) return;
    this.slicesAhead = { globalStep, numSlices: index + 1 };
    connection!.channel.send(frame);
  }

  /** Slices that it has of that θ, ahead of its round. */
  numSlicesOf(globalStep: number): number {
    return this.slicesAhead?.globalStep === globalStep ? this.slicesAhead.numSlices : 0;
  }

  /** Sends samples as soon as nothing else is to be sent. */
  prefetch(samples: readonly Uint32Array[]): void {
    this.ahead = [...samples];
    this.pump();
  }

  /** Drops the work that has not been sent: its round is over. */
  forget(): void {
    this.waiting = [];
  }

  /** Sends what the connection takes. */
  pump(): void {
    const { connection } = this.member;
    if (!connection) return;
    const { channel } = connection;
    while (this.waiting.length > 0 && channel.bufferedBytes < MAX_QUEUED_BYTES) {
      const next = this.waiting[0];
      if (next instanceof Uint32Array) {
        if (this.sendSamples(next)) continue;
      } else {
        channel.send(next.frame);
      }
      this.waiting.shift();
    }
    while (this.ahead.length > 0 && this.isFree) {
      if (!this.sendSamples(this.ahead[0])) this.ahead.shift();
    }
  }

  /** Sends one message of the samples that the worker lacks. @returns whether there was one to send */
  private sendSamples(indices: Uint32Array): boolean {
    const { cached, samples } = this;
    const numBytes = imageBytes(samples.input);
    const missing = indices
      .filter((index) => !(cached[index >> 3] & (1 << (index & 7))))
      .subarray(0, Math.ceil(SAMPLES_BYTES / numBytes));
    if (missing.length === 0) return false;
    const labels = new Uint16Array(missing.length);
    const pixels = new Uint8Array(missing.length * numBytes);
    missing.forEach((index, i) => {
      labels[i] = samples.label(index);
      pixels.set(samples.image(index), i * numBytes);
      cached[index >> 3] |= 1 << (index & 7);
    });
    const frame = encode({
      type: 'samples',
      indices: bytesOf(missing),
      labels: bytesOf(labels),
      pixels,
    });
    this.member.connection!.channel.send(frame);
    return true;
  }
}

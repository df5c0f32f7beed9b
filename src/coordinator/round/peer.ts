/**
 * One worker as the dispatcher sees it: which samples it has, how fast it is, and what is waiting to be sent to it.
 *
 * Backpressure: once a connection has `MAX_QUEUED_BYTES` in its send queue, everything else waits here, where it costs no
 * memory, and is dropped if the round ends first.
 */
import type { Frame } from '../../shared/channel.js';
import { bytesOf, encode } from '../../shared/codec.js';
import { imageBytes } from '../../model/lenet.js';
import type { Member } from '../group/group.js';
import { PaceMeter } from '../group/meters.js';
import type { SampleSource } from '../samples.js';
import type { Pace } from './planner.js';

/** With this much in the send queue nothing is added; a single frame may exceed it. */
export const MAX_QUEUED_BYTES = 256 * 1024;
/** Largest message of samples; kept small because pings and pongs wait behind it. */
const SAMPLES_BYTES = 64 * 1024;

export type Kind = 'step' | 'evaluation';

const NOTHING = new Uint8Array(0);

export class Peer {
  readonly member: Member;
  readonly meters: Readonly<Record<Kind, PaceMeter>> = {
    step: new PaceMeter(),
    evaluation: new PaceMeter(),
  };
  /** Rounds since it last had a share, by kind of work. */
  readonly roundsIdle: Record<Kind, number> = { step: 0, evaluation: 0 };
  /** Since when it has owed an answer without giving any; null if it owes none. */
  owesSince: number | null = null;
  private readonly samples: SampleSource;
  /** Bit i is set if the worker has sample i. */
  private cached: Uint8Array = NOTHING;
  /** To be sent in this order: samples, by index, and complete frames. */
  private waiting: (Uint32Array | { readonly frame: Frame; readonly isRequest: boolean })[] = [];
  /** Whether a request for an answer that it owes has left for it. */
  private isAsked = false;
  /** How many slices of θ after `globalStep` updates it was sent before the round began. */
  private slicesAhead: { readonly globalStep: number; readonly numSlices: number } | null = null;
  /** Samples to prefetch when there is nothing else to send. */
  private ahead: Uint32Array[] = [];

  constructor(member: Member, samples: SampleSource) {
    this.member = member;
    this.samples = samples;
  }

  /** The worker is connected. @param cached the samples that it has, bit i for sample i */
  joined(cached: Uint8Array): void {
    this.lost();
    this.cached = cached;
  }

  /** The connection is gone; so is everything that was waiting for it. What it has cached it says when it comes back. */
  lost(): void {
    this.owesSince = null;
    this.cached = NOTHING;
    this.forget();
    this.ahead = [];
    this.slicesAhead = null;
  }

  /** Whether it is connected with an empty send queue. */
  get isFree(): boolean {
    const { connection } = this.member;
    return (
      connection !== null && this.waiting.length === 0 && connection.channel.bufferedBytes === 0
    );
  }

  paceOf(kind: Kind): Pace {
    return this.meters[kind].paceOf(this.member.workerId);
  }

  /** Sends work, preceded by the samples and slices of θ that it needs; it owes an answer from `now` on. */
  give(
    now: number,
    samples: readonly Uint32Array[],
    slices: readonly Frame[],
    request: Frame,
  ): void {
    this.ahead = [];
    this.slicesAhead = null;
    if (this.owesSince === null) {
      this.owesSince = now;
      this.isAsked = false;
    }
    this.waiting.push(...samples, ...slices.map((frame) => ({ frame, isRequest: false })), {
      frame: request,
      isRequest: true,
    });
    this.pump();
  }

  /** Sends slice `index` of θ, if the worker has the slices before it and its send queue has room. */
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

  /** How many slices of that θ it was sent before the round began. */
  numSlicesOf(globalStep: number): number {
    return this.slicesAhead?.globalStep === globalStep ? this.slicesAhead.numSlices : 0;
  }

  /** Sends these samples once nothing else is waiting. */
  prefetch(samples: readonly Uint32Array[]): void {
    this.ahead = [...samples];
    this.pump();
  }

  /** Drops unsent work: its round is over. A worker that was not asked owes nothing. */
  forget(): void {
    this.waiting = [];
    if (!this.isAsked) this.owesSince = null;
  }

  /** Sends as much as the send queue has room for. */
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
        this.isAsked ||= next.isRequest;
      }
      this.waiting.shift();
    }
    while (this.ahead.length > 0 && this.isFree) {
      if (!this.sendSamples(this.ahead[0])) this.ahead.shift();
    }
  }

  /** Sends one message of samples that the worker lacks. @returns false if it lacks none */
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

/**
 * Drives one round of work to completion: dispatches its units to the group, and dispatches them again when a worker is lost
 * or late, until every unit has a result. It does not know what the work is, or what the results are for.
 *
 * Each decision reads the clock once, so that all its parts agree on who is late. Every event that may free a worker for
 * more work (an answer, a join, a loss, a drained queue, the timer) calls `advance`.
 */
import type { Frame } from '../../shared/channel.js';
import type { Clock, Timer } from '../../shared/clock.js';
import { DEADLINES } from '../../shared/deadlines.js';
import type { Range } from '../../shared/protocol.js';
import type { SampleSource } from '../samples.js';
import type { Member, WorkerGroup } from '../group/group.js';
import { Peer, type Kind } from './peer.js';
import { planShares, type Pace } from './planner.js';
import { Round, type Shares, type Units } from './round.js';

/** After this many rounds without a share, a worker is given one unit, to measure its pace. */
const ROUNDS_BETWEEN_PROBES = 25;

/** The work of one round. */
export interface Work extends Units {
  readonly kind: Kind;
  /** The work uses θ after this many updates. */
  readonly globalStep: number;
  /** Indices of the samples of a range of units. */
  samplesOf(range: Range): Uint32Array;
  /** The slices of θ that precede the frame below, without the first `numSent`. */
  earlySlices(numSent: number): readonly Frame[];
  /** The frame that asks a worker for the ranges, with θ (its last slice) or, if the worker has it, without. */
  encode(ranges: readonly Range[], withParams: boolean): Frame;
}

/** How one worker did in a round. */
export interface Answered {
  readonly member: Member;
  numUnits: number;
  computeMs: number;
  readonly sentAt: number;
  receivedAt: number;
  /** Since when it has owed an answer; null while it owes none. */
  busySince: number | null;
  /** How long it owed answers before `busySince`. */
  busyMs: number;
}

export interface RoundTimes {
  readonly planMs: number;
  readonly broadcastMs: number;
  /** Compute time of the worker that answered last. */
  readonly computeMs: number;
  readonly wireMs: number;
  readonly answers: readonly Answered[];
}

interface Current {
  readonly work: Work;
  readonly round: Round;
  readonly hasParams: Set<string>;
  readonly answers: Map<string, Answered>;
  last: Answered | null;
  planMs: number;
  broadcastMs: number;
  sentAt: number;
  finish: () => void;
}

export interface DispatcherOptions {
  readonly clock: Clock;
  readonly samples: SampleSource;
  readonly group: WorkerGroup;
}

export class Dispatcher {
  private readonly clock: Clock;
  private readonly samples: SampleSource;
  private readonly group: WorkerGroup;
  private readonly peers = new WeakMap<Member, Peer>();
  private current: Current | null = null;
  /** Calls `advance` when the next worker becomes late, or has been mute for too long. */
  private timer: Timer | null = null;
  private timerAt = Infinity;

  constructor({ clock, samples, group }: DispatcherOptions) {
    this.clock = clock;
    this.samples = samples;
    this.group = group;
  }

  /** Resolves when every unit is done, or early if the signal aborts. Without any workers it waits for one. */
  async run(work: Work, signal: AbortSignal): Promise<RoundTimes> {
    let finish: () => void = () => undefined;
    const finished = new Promise<void>((resolve) => (finish = resolve));
    const now = this.clock.now();
    const current: Current = {
      work,
      round: new Round(work),
      hasParams: new Set(),
      answers: new Map(),
      last: null,
      planMs: 0,
      broadcastMs: 0,
      sentAt: now,
      finish,
    };
    this.current = current;
    signal.addEventListener('abort', finish, { once: true });
    if (signal.aborted) finish();
    else this.advance(current, now);
    this.probeIdle(current, now);
    await finished;
    signal.removeEventListener('abort', finish);
    this.stopTimer();
    this.current = null;
    return this.summarize(current);
  }

  /** Ends the current round, complete or not. */
  breakOff(): void {
    this.current?.finish();
  }

  /** Sends the samples that the next step's shares will probably need. */
  prefetch(work: Work): void {
    const units = Array.from({ length: work.numUnits }, (_, unit) => unit);
    const peers = this.activePeers();
    const shares = planShares(
      units,
      peers.map((peer) => peer.paceOf(work.kind)),
      work.isTree ? work.numUnits : null,
    );
    for (const peer of peers) {
      const ranges = shares.get(peer.member.workerId);
      if (ranges) peer.prefetch(ranges.map((range) => work.samplesOf(range)));
    }
  }

  /** Sends a slice of the next round's θ to the workers that have the slices before it and room in their send queue. */
  sendSlice(globalStep: number, frame: Frame, index: number): void {
    for (const peer of this.activePeers()) peer.sendSlice(globalStep, frame, index);
  }

  /** Whether the worker can be sent more at once. */
  isFree(member: Member): boolean {
    return this.peerOf(member).isFree;
  }

  /** @param cached the samples that the worker has, bit i for sample i */
  joined(member: Member, cached: Uint8Array): void {
    this.peerOf(member).joined(cached);
    if (this.current) this.advance(this.current, this.clock.now());
  }

  /** The worker's send queue is empty. */
  drained(member: Member): void {
    const peer = this.peerOf(member);
    peer.pump();
    if (this.current && peer.isFree) this.advance(this.current, this.clock.now());
  }

  /** Dispatches a lost worker's units again. */
  lost(member: Member): { readonly hadWork: boolean; readonly action: string } {
    const { current } = this;
    this.peerOf(member).lost();
    const hadWork = current !== null && !current.round.isIdle(member.workerId);
    const numOpen = current?.round.release(member.workerId) ?? 0;
    // If it reconnects, it has none of this round's state.
    current?.hasParams.delete(member.workerId);
    const answer = current?.answers.get(member.workerId);
    const now = this.clock.now();
    if (answer) pause(answer, now);
    if (!current || numOpen === 0) return { hadWork, action: 'none of its work was open' };
    const what = `${numOpen} open ${current.work.kind === 'step' ? 'micro-batch' : 'block'}${
      numOpen === 1 ? '' : current.work.kind === 'step' ? 'es' : 's'
    }`;
    const shares = current.round.handOut(now, this.paces(current.work));
    this.send(current, now, shares);
    this.advance(current, now);
    const others = [...shares.keys()].map((workerId) => this.group.get(workerId)!.name);
    if (others.length > 0) return { hadWork, action: `${what} given to ${others.join(', ')}` };
    return {
      hadWork,
      action: current.round.hasOrphans
        ? `${what} wait for a worker`
        : `${what} already with other workers`,
    };
  }

  /**
   * Records a worker's answer.
   *
   * @returns false if the worker was not asked for this range
   */
  answered(member: Member, range: Range, computeMs: number): boolean {
    const { current } = this;
    if (!current?.round.answer(member.workerId, range)) return false;
    const answer = current.answers.get(member.workerId);
    if (!answer) return false;
    const peer = this.peerOf(member);
    const numUnits = range[1] - range[0];
    answer.numUnits += numUnits;
    answer.computeMs += computeMs;
    answer.receivedAt = this.clock.now();
    const isIdle = current.round.isIdle(member.workerId);
    if (isIdle) pause(answer, answer.receivedAt);
    peer.owesSince = isIdle ? null : answer.receivedAt;
    current.last = answer;
    peer.meters[current.work.kind].addCompute(numUnits, computeMs);
    return true;
  }

  /** Whether the worker owes an answer for the range in the current round. */
  owes({ workerId }: Member, range: Range): boolean {
    return this.current?.round.holds(workerId, range) === true;
  }

  /** An answer to an earlier round: only used to update the worker's pace. */
  answeredLate(member: Member, kind: Kind, range: Range, computeMs: number): void {
    const peer = this.peerOf(member);
    if (this.current?.round.isIdle(member.workerId) !== false) peer.owesSince = null;
    peer.meters[kind].addCompute(range[1] - range[0], computeMs);
  }

  /** To be called after `answered`, once the result is stored or dropped. */
  progressed(): void {
    const { current } = this;
    if (!current) return;
    if (current.round.isComplete) current.finish();
    else this.advance(current, this.clock.now());
  }

  /** Dispatches orphaned units, then hedges: gives idle workers the units of stragglers. */
  private advance(current: Current, now: number): void {
    const { round, work } = current;
    if (round.hasOrphans) this.send(current, now, round.handOut(now, this.paces(work)));
    if (round.mayBeLate(now)) this.send(current, now, round.hedge(now, this.paces(work)));
    this.schedule(current, now);
  }

  /** Sets the timer to the next moment at which time alone makes a worker late or mute. */
  private schedule(current: Current, now: number): void {
    const { nextLateAt } = current.round;
    const at = nextLateAt === Infinity ? this.muteFrom(current) : nextLateAt;
    if (at === this.timerAt) return;
    this.stopTimer();
    if (at === Infinity) return;
    this.timerAt = at;
    this.timer = this.clock.schedule(at - now, () => {
      this.stopTimer();
      const firedAt = this.clock.now();
      this.evictMute(firedAt);
      this.advance(current, firedAt);
    });
  }

  private stopTimer(): void {
    this.timer?.cancel();
    this.timer = null;
    this.timerAt = Infinity;
  }

  /** When the first worker that owes an answer in this round will be overdue. */
  private muteFrom({ round }: Current): number {
    let from = Infinity;
    for (const { member, owesSince } of this.activePeers()) {
      if (owesSince === null || round.isIdle(member.workerId)) continue;
      from = Math.min(from, owesSince + DEADLINES.answerMs);
    }
    return from;
  }

  /** Evicts workers that answer pings but nothing else. */
  private evictMute(now: number): void {
    for (const { member, owesSince } of this.activePeers()) {
      if (owesSince === null || now < owesSince + DEADLINES.answerMs) continue;
      const seconds = ((now - owesSince) / 1000).toFixed(0);
      this.group.evict(member, 'mute', `it answered pings, but no work for ${seconds} s`);
    }
  }

  /**
   * Probes workers that have had no share for a while, and in a step at once a new one, of unknown pace: next to a fast worker
   * and a slow one it would look too slow for a share. A single new one a round, as each costs a θ.
   */
  private probeIdle(current: Current, now: number): void {
    const { kind } = current.work;
    let hasMeasuredNew = false;
    for (const peer of this.activePeers()) {
      if (!current.round.isIdle(peer.member.workerId)) {
        peer.roundsIdle[kind] = 0;
        continue;
      }
      const pace = peer.paceOf(kind);
      const isNew: boolean = kind === 'step' && pace.msPerUnit === null && !hasMeasuredNew;
      if (++peer.roundsIdle[kind] < ROUNDS_BETWEEN_PROBES && !isNew) continue;
      // A worker still computing the last probe would drop it for a new one.
      if (!peer.isFree || peer.owesSince !== null) continue;
      hasMeasuredNew ||= isNew;
      peer.roundsIdle[kind] = 0;
      this.send(current, now, current.round.probe(now, pace));
    }
    this.schedule(current, now);
  }

  /** @param now when the decision to send was made */
  private send(current: Current, now: number, shares: Shares): void {
    if (shares.size === 0) return;
    const { work, hasParams } = current;
    const requests = [...shares].map(([workerId, ranges]) => ({
      member: this.group.get(workerId)!,
      ranges,
      frame: work.encode(ranges, !hasParams.has(workerId)),
    }));
    const planned = this.clock.now();
    current.planMs += planned - now;
    for (const { member, ranges, frame } of requests) {
      const { workerId } = member;
      const peer = this.peerOf(member);
      const samples = ranges.map((range) => work.samplesOf(range));
      const slices = hasParams.has(workerId)
        ? []
        : work.earlySlices(peer.numSlicesOf(work.globalStep));
      peer.give(planned, samples, slices, frame);
      hasParams.add(workerId);
      const sentAt = this.clock.now();
      const answer = current.answers.get(workerId);
      if (answer) answer.busySince ??= sentAt;
      else current.answers.set(workerId, firstSent(member, sentAt));
    }
    current.sentAt = this.clock.now();
    current.broadcastMs += current.sentAt - planned;
  }

  /** Updates each worker's pace from the round, and breaks down where the time went. */
  private summarize(current: Current): RoundTimes {
    const { kind } = current.work;
    const now = this.clock.now();
    const unanswered = current.round.unanswered(now);
    const late = new Set(unanswered.map(({ workerId }) => workerId));
    for (const { workerId, numUnits, waitedMs } of unanswered) {
      const member = this.group.get(workerId);
      if (member) this.peerOf(member).meters[kind].addUnanswered(numUnits, waitedMs);
    }
    for (const peer of this.activePeers()) {
      peer.forget();
      if (!current.answers.get(peer.member.workerId)?.numUnits) peer.meters[kind].addSilence();
    }
    const answers = [...current.answers.values()].filter(({ numUnits }) => numUnits > 0);
    for (const { member, busySince, busyMs, receivedAt, computeMs } of answers) {
      const lastBusyMs = busySince === null ? 0 : Math.max(0, receivedAt - busySince);
      const meter = this.peerOf(member).meters[kind];
      meter.addOverhead(busyMs + lastBusyMs - computeMs);
      if (!late.has(member.workerId)) meter.addInTime();
    }
    this.evictMute(now);
    const waitedMs = Math.max(0, (current.last?.receivedAt ?? now) - current.sentAt);
    const computeMs = Math.min(waitedMs, current.last?.computeMs ?? 0);
    return {
      planMs: current.planMs,
      broadcastMs: current.broadcastMs,
      computeMs,
      wireMs: waitedMs - computeMs,
      answers,
    };
  }

  /** The paces of the workers that can be given work now. */
  private paces(work: Work): Pace[] {
    return this.activePeers()
      .filter((peer) => peer.isFree || peer.numSlicesOf(work.globalStep) > 0)
      .map((peer) => peer.paceOf(work.kind));
  }

  private activePeers(): Peer[] {
    return this.group.active().map((member) => this.peerOf(member));
  }

  private peerOf(member: Member): Peer {
    let peer = this.peers.get(member);
    if (!peer) {
      peer = new Peer(member, this.samples);
      this.peers.set(member, peer);
    }
    return peer;
  }
}

/** The worker owes nothing now: closes its busy interval. */
function pause(answer: Answered, now: number): void {
  if (answer.busySince !== null) answer.busyMs += now - answer.busySince;
  answer.busySince = null;
}

function firstSent(member: Member, now: number): Answered {
  return {
    member,
    numUnits: 0,
    computeMs: 0,
    sentAt: now,
    receivedAt: now,
    busySince: now,
    busyMs: 0,
  };
}

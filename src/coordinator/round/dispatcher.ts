/**
 * Gets one round of work done by the group: hands its units out, hands them out again when a worker is lost or late,
 * until each unit's result is there. What the work is, and what becomes of results, is its owner's business.
 */
import type { Clock, Timer } from '../../shared/clock.js';
import { encode, bytesOf } from '../../shared/codec.js';
import type { Range } from '../../shared/protocol.js';
import { IMAGE_BYTES } from '../../model/lenet.js';
import type { Samples } from '../samples.js';
import type { PaceMeter } from '../group/meters.js';
import type { Member, WorkerGroup } from '../group/group.js';
import { planShares, type Pace } from './planner.js';
import { Round, type Shares } from './round.js';

/** Samples in one message at most: 3.2 MB of pixels. */
const SAMPLES_PER_MESSAGE = 4096;
/** A worker without a share gets a unit to be measured by after as many rounds. */
const ROUNDS_BETWEEN_SHADOWS = 25;

/** A round of work, as its owner describes it. */
export interface Work {
  readonly kind: 'step' | 'evaluation';
  readonly numUnits: number;
  isDone(unit: number): boolean;
  /** False for a unit that is done, or whose answer is being confirmed. */
  isOpen(unit: number): boolean;
  /** Indices of the samples of a range of units. */
  samplesOf(range: Range): Uint32Array;
  /** The frame that hands the shares out, with θ or, for workers that have it, without. */
  encode(shares: Shares, withParams: boolean): Uint8Array;
}

/** What happened to one worker's part of a round. */
export interface Answered {
  readonly member: Member;
  numUnits: number;
  computeMs: number;
  readonly sentAt: number;
  receivedAt: number;
  /** Since when it has had something to answer; null while it has not. */
  busySince: number | null;
  /** How long it had something to answer, before that. */
  busyMs: number;
}

export interface RoundTimes {
  readonly planMs: number;
  readonly broadcastMs: number;
  /** Of the worker that answered last. */
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

export class Dispatcher {
  private readonly clock: Clock;
  private readonly samples: Samples;
  private group!: WorkerGroup;
  private current: Current | null = null;
  private hedgeTimer: Timer | null = null;
  /** Rounds since it last had a share, of each kind of work. */
  private readonly roundsIdle = {
    step: new Map<string, number>(),
    evaluation: new Map<string, number>(),
  };

  constructor(clock: Clock, samples: Samples) {
    this.clock = clock;
    this.samples = samples;
  }

  attach(group: WorkerGroup): void {
    this.group = group;
  }

  /** Resolves when every unit is done, or early when the signal aborts. With no worker there it waits for one. */
  async run(work: Work, signal: AbortSignal): Promise<RoundTimes> {
    let finish: () => void = () => undefined;
    const finished = new Promise<void>((resolve) => (finish = resolve));
    const current: Current = {
      work,
      round: new Round(work.numUnits, (unit) => !work.isOpen(unit)),
      hasParams: new Set(),
      answers: new Map(),
      last: null,
      planMs: 0,
      broadcastMs: 0,
      sentAt: this.clock.now(),
      finish,
    };
    this.current = current;
    signal.addEventListener('abort', finish, { once: true });
    if (signal.aborted) finish();
    else this.handOut(current);
    this.shadowIdle(current);
    await finished;
    signal.removeEventListener('abort', finish);
    this.hedgeTimer?.cancel();
    this.current = null;
    return this.close(current);
  }

  /** Sends ahead the samples that the next step's shares will probably need. */
  prefetch(work: Work): void {
    const units = Array.from({ length: work.numUnits }, (_, unit) => unit);
    for (const [workerId, ranges] of planShares(units, this.paces(work))) {
      const member = this.group.get(workerId);
      if (member) for (const range of ranges) this.sendSamples(member, work.samplesOf(range));
    }
  }

  joined(): void {
    if (this.current) this.advance(this.current);
  }

  /** Hands out again what a lost worker held. */
  lost(member: Member): { readonly hadWork: boolean; readonly action: string } {
    const { current } = this;
    const hadWork = current !== null && !current.round.isIdle(member.workerId);
    const numOpen = current?.round.release(member.workerId) ?? 0;
    // When it comes back it remembers nothing of this round.
    current?.hasParams.delete(member.workerId);
    const answer = current?.answers.get(member.workerId);
    if (answer) pause(answer, this.clock.now());
    if (!current || numOpen === 0) return { hadWork, action: 'nothing of its work was open' };
    const what = `${numOpen} open ${current.work.kind === 'step' ? 'micro-batch' : 'block'}${
      numOpen === 1 ? '' : current.work.kind === 'step' ? 'es' : 's'
    }`;
    const shares = this.handOut(current);
    const others = [...shares.keys()].map((workerId) => this.group.get(workerId)!.name);
    if (others.length > 0) return { hadWork, action: `${what} given to ${others.join(', ')}` };
    return {
      hadWork,
      action:
        this.group.active().length > 0
          ? `${what} were with others already`
          : `${what} wait for a worker`,
    };
  }

  /**
   * Notes a worker's answer.
   *
   * @returns false if it answers nothing that this worker was asked
   */
  answered(member: Member, range: Range, computeMs: number): boolean {
    const { current } = this;
    if (!current?.round.answer(member.workerId, range)) return false;
    const answer = current.answers.get(member.workerId);
    if (!answer) return false;
    const numUnits = range[1] - range[0];
    answer.numUnits += numUnits;
    answer.computeMs += computeMs;
    answer.receivedAt = this.clock.now();
    if (current.round.isIdle(member.workerId)) pause(answer, answer.receivedAt);
    current.last = answer;
    this.meter(current.work, member).addCompute(numUnits, computeMs);
    return true;
  }

  /** To be called after `answered`, once the result is stored or dropped. */
  progressed(): void {
    const { current } = this;
    if (!current) return;
    for (let unit = 0; unit < current.work.numUnits; unit++) {
      if (!current.work.isDone(unit)) {
        this.advance(current);
        return;
      }
    }
    current.finish();
  }

  /** Gives out what nobody holds, then to whoever is idle what others are late with. */
  private advance(current: Current): void {
    this.handOut(current);
    this.hedge(current);
  }

  private handOut(current: Current): Shares {
    const before = this.clock.now();
    const shares = current.round.handOut(before, this.paces(current.work));
    this.send(current, shares, before);
    return shares;
  }

  private hedge(current: Current): void {
    const before = this.clock.now();
    this.send(current, current.round.hedge(before, this.paces(current.work)), before);
  }

  /** Gives a worker that had no share for a while something to be measured by. */
  private shadowIdle(current: Current): void {
    const roundsIdle = this.roundsIdle[current.work.kind];
    for (const member of this.group.active()) {
      const isIdle = current.round.isIdle(member.workerId);
      const rounds = isIdle ? (roundsIdle.get(member.workerId) ?? 0) + 1 : 0;
      roundsIdle.set(member.workerId, rounds % ROUNDS_BETWEEN_SHADOWS);
      if (rounds !== ROUNDS_BETWEEN_SHADOWS) continue;
      const before = this.clock.now();
      const pace = this.meter(current.work, member).paceOf(member.workerId);
      this.send(current, current.round.shadow(before, pace), before);
    }
  }

  private send(current: Current, shares: Shares, plannedFrom: number): void {
    if (shares.size > 0) {
      const frames = new Map<boolean, Uint8Array>();
      const members = [...shares.keys()].map((workerId) => this.group.get(workerId)!);
      for (const withParams of [true, false]) {
        const some = members.filter(
          ({ workerId }) => current.hasParams.has(workerId) !== withParams,
        );
        if (some.length === 0) continue;
        const mine = new Map(some.map(({ workerId }) => [workerId, shares.get(workerId)!]));
        frames.set(withParams, current.work.encode(mine, withParams));
      }
      const planned = this.clock.now();
      current.planMs += planned - plannedFrom;
      for (const member of members) {
        for (const range of shares.get(member.workerId)!) {
          this.sendSamples(member, current.work.samplesOf(range));
        }
        const withParams = !current.hasParams.has(member.workerId);
        member.connection?.channel.send(frames.get(withParams)!);
        current.hasParams.add(member.workerId);
        const now = this.clock.now();
        const answer = current.answers.get(member.workerId);
        if (answer) answer.busySince ??= now;
        else current.answers.set(member.workerId, firstSent(member, now));
      }
      current.sentAt = this.clock.now();
      current.broadcastMs += current.sentAt - planned;
    }
    this.hedgeTimer?.cancel();
    const now = this.clock.now();
    const lateAt = current.round.nextLateAt(now);
    this.hedgeTimer =
      lateAt === null ? null : this.clock.schedule(lateAt - now, () => this.hedge(current));
  }

  private sendSamples(member: Member, indices: Uint32Array): void {
    const missing = indices.filter((index) => !(member.cached[index >> 3] & (1 << (index & 7))));
    for (let begin = 0; begin < missing.length; begin += SAMPLES_PER_MESSAGE) {
      const chunk = missing.subarray(begin, begin + SAMPLES_PER_MESSAGE);
      const labels = new Uint8Array(chunk.length);
      const pixels = new Uint8Array(chunk.length * IMAGE_BYTES);
      chunk.forEach((index, i) => {
        labels[i] = this.samples.label(index);
        pixels.set(this.samples.image(index), i * IMAGE_BYTES);
        member.cached[index >> 3] |= 1 << (index & 7);
      });
      member.connection?.channel.send(
        encode({ type: 'samples', indices: bytesOf(chunk), labels, pixels }),
      );
    }
  }

  private close(current: Current): RoundTimes {
    const now = this.clock.now();
    const unanswered = current.round.unanswered(now);
    const late = new Set(unanswered.map(({ workerId }) => workerId));
    for (const { workerId, numUnits, waitedMs } of unanswered) {
      const member = this.group.get(workerId);
      if (member) this.meter(current.work, member).addUnanswered(numUnits, waitedMs);
    }
    for (const member of this.group.active()) {
      if (!current.answers.get(member.workerId)?.numUnits)
        this.meter(current.work, member).addSilence();
    }
    const answers = [...current.answers.values()].filter(({ numUnits }) => numUnits > 0);
    for (const { member, busySince, busyMs, receivedAt, computeMs } of answers) {
      const lastBusyMs = busySince === null ? 0 : Math.max(0, receivedAt - busySince);
      const meter = this.meter(current.work, member);
      meter.addOverhead(busyMs + lastBusyMs - computeMs);
      if (!late.has(member.workerId)) meter.addInTime();
    }
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

  private paces(work: Work): Pace[] {
    return this.group.active().map((member) => this.meter(work, member).paceOf(member.workerId));
  }

  private meter(work: Work, member: Member): PaceMeter {
    return work.kind === 'step' ? member.stepPace : member.evaluationPace;
  }
}

/** Notes that it has nothing to answer any more. */
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

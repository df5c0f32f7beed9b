/**
 * Hostile frames by the million, in one process: to a real coordinator that trains with an honest worker meanwhile, and
 * to a real worker from a coordinator that is hostile. No sockets, so what is tried is decoding and everything behind it,
 * some ten thousand times a second; `attack.ts` tries sockets and processes.
 *
 * A frame counts if it was changed and the connection that it came on was open.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { RunEvent } from '../../../src/coordinator/events.js';
import { createReferenceEngine } from '../../../src/model/engine/reference.js';
import {
  joinFrame,
  type Channel,
  type ChannelHandler,
  type Frame,
} from '../../../src/shared/channel.js';
import { systemClock } from '../../../src/shared/clock.js';
import { decodeCoordinatorMessage, encode } from '../../../src/shared/codec.js';
import { CLOSE_CODES } from '../../../src/shared/errors.js';
import type { CoordinatorMessage, Message, Range } from '../../../src/shared/protocol.js';
import type { Random } from '../../../src/shared/random.js';
import { EngineComputation } from '../../../src/worker/engine-computation.js';
import { Memory } from '../../../src/worker/memory.js';
import { Session, type SessionOptions } from '../../../src/worker/session.js';
import { createHarness } from '../coordinator-harness.js';
import { allTrainings } from '../simulator/training.js';
import { Corpus, type Recorded } from './corpus.js';
import { mutate } from './mutate.js';

/** Hostile connections between two frames of the honest worker. */
const VISITS_A_TURN = 64;
/** Changed frames on one connection, at most. */
const MAX_FRAMES_A_VISIT = 8;
/** Attackers that are given work, and answer it. */
const NUM_SEATED = 4;
/** What the worker may take of the memory: what a changed welcome asks for beyond is refused. */
const MAX_WORKER_BYTES = 16e6;
/** Every answer is confirmed: changed ones may be valid. */
const AUDIT = 1;

const training = allTrainings()[0];

export interface FuzzReport {
  readonly numFrames: number;
  readonly numConnections: number;
  /** Frames by the state in which they arrived. */
  readonly byState: Readonly<Record<string, number>>;
  /** Trainings, or computed proofs, that went on beside and came out as if nobody had disturbed them. */
  readonly numUndisturbed: number;
  /** Errors that nobody expected, and results that are not the honest ones. */
  readonly violations: readonly string[];
  /** What the worst frame took, ms of processor time, and which it was. */
  readonly longestMs: number;
  readonly longest: string;
  /** What is alive once garbage has been collected, after the first fifth, when all code has run, and at the end. */
  readonly aliveMb: readonly [before: number, after: number];
  readonly seconds: number;
}

/** As much of a frame as finds it again. */
function textOf(frame: Buffer): string {
  return `${frame.length} bytes, ${frame.toString('hex').slice(0, 400)}`;
}

/** The other end of a hostile connection. */
class HostileChannel implements Channel {
  handler: ChannelHandler = { received: () => undefined, closed: () => undefined };
  readonly bufferedBytes = 0;
  readonly isReceiving = false;
  closeCode: number | null = null;
  closeReason = '';
  /** What it was sent and has not looked at. */
  readonly inbox: Uint8Array[] = [];

  send(frame: Frame, left?: () => void): void {
    this.inbox.push(Uint8Array.from(joinFrame(frame)));
    left?.();
  }

  close(code: number, reason: string): void {
    if (!this.isOpen) return;
    this.closeCode = code;
    this.closeReason = reason;
  }

  terminate(): void {
    this.closeCode ??= 1006;
  }

  get isOpen(): boolean {
    return this.closeCode === null;
  }
}

/** Delivers frames, and counts what they do. */
class Tally {
  numFrames = 0;
  numConnections = 0;
  numUndisturbed = 0;
  readonly byState: Record<string, number> = {};
  readonly violations: string[] = [];
  private longestMs = 0;
  private longest = '';
  private before = 0;
  private readonly startedAt = performance.now();
  private readonly options: FuzzOptions;

  constructor(options: FuzzOptions) {
    this.options = options;
  }

  get isOver(): boolean {
    const { numFrames, signal } = this.options;
    return this.numFrames >= numFrames || signal?.aborted === true || this.violations.length > 10;
  }

  /** A changed frame arrives. */
  deliver(channel: HostileChannel, frame: Buffer, state: string): void {
    this.numFrames++;
    this.byState[state] = (this.byState[state] ?? 0) + 1;
    const from = performance.now();
    const before = process.cpuUsage();
    try {
      channel.handler.received([frame]);
    } catch (error) {
      this.violations.push(`${state}: ${String(error)} on ${textOf(frame)}`);
    }
    const { user, system } = process.cpuUsage(before);
    // The system may have been busy with others meanwhile, or this process on other threads.
    const ms = Math.min(performance.now() - from, (user + system) / 1000);
    if (ms > this.longestMs) {
      this.longestMs = ms;
      this.longest = `${state}: ${textOf(frame)}`;
    }
    const { numFrames: total, onProgress } = this.options;
    if (this.numFrames % Math.ceil(total / 10) === 0) onProgress?.(this.numFrames);
    if (this.before === 0 && this.numFrames >= total / 5) this.before = aliveMb();
  }

  report(): FuzzReport {
    const { numFrames, numConnections, byState, numUndisturbed, violations } = this;
    const { longestMs, longest } = this;
    const seconds = (performance.now() - this.startedAt) / 1000;
    const after = aliveMb();
    return {
      ...{ numFrames, numConnections, byState, numUndisturbed, violations },
      ...{ longestMs, longest, seconds },
      aliveMb: [this.before === 0 ? after : this.before, after],
    };
  }
}

export interface FuzzOptions {
  readonly numFrames: number;
  readonly random: Random;
  readonly onProgress?: (numFrames: number) => void;
  /** Ends it before, with the report of what was done. */
  readonly signal?: AbortSignal;
}

/** To a coordinator: trainings one after the other, each to its end. */
export async function fuzzCoordinator(options: FuzzOptions): Promise<FuzzReport> {
  const { random } = options;
  const tally = new Tally(options);
  const corpus = new Corpus();
  // The first one is left alone, and recorded.
  await trainAmong(corpus, null, random);
  while (!tally.isOver) await trainAmong(corpus, tally, random);
  return tally.report();
}

/** One training with an honest worker. @param tally null where nobody disturbs it */
async function trainAmong(corpus: Corpus, tally: Tally | null, random: Random): Promise<void> {
  const violations = tally?.violations ?? [];
  const { coordinator, run, stop } = createHarness({
    clock: systemClock,
    heartbeatTimeoutMs: 60_000,
    audit: AUDIT,
    report(event: RunEvent) {
      if (event.type === 'notice' && event.level === 'error') violations.push(event.message);
    },
  });
  const outcome: { weights?: string } = {};
  const ended = run().then(({ weightsSha256 }) => (outcome.weights = weightsSha256));
  const honest = new HonestWorker(corpus, tally === null);
  coordinator.accept(honest.far, '192.0.2.1');
  const working = honest.session.work(stop.signal);
  const crowd = tally && new Crowd(coordinator, corpus, tally, random);
  do {
    crowd?.takeTurn();
    honest.deliver();
    await systemClock.yield();
  } while (outcome.weights === undefined);
  // Whoever comes now is told that the run is over.
  crowd?.takeTurn();
  crowd?.leave();
  honest.deliver();
  await Promise.all([ended, working]);
  const { weights } = outcome;
  if (weights !== training.weightsSha256) violations.push(`The weights are ${weights}`);
  else if (tally) tally.numUndisturbed++;
}

/** A real session, whose frames go to the coordinator one at a time. */
class HonestWorker {
  readonly session: Session;
  /** The coordinator's end. */
  readonly far: Channel;
  private readonly queue: Uint8Array[] = [];

  constructor(corpus: Corpus, isRecorded: boolean) {
    const near = new HostileChannel();
    const far = new HostileChannel();
    near.send = (frame, left) => {
      if (isRecorded) corpus.add(frame, 'worker');
      this.queue.push(Uint8Array.from(joinFrame(frame)));
      left?.();
    };
    far.send = (frame, left) => {
      if (isRecorded) corpus.add(frame, 'coordinator');
      const copy = Uint8Array.from(joinFrame(frame));
      queueMicrotask(() => near.handler.received([copy]));
      left?.();
    };
    far.close = (code) => queueMicrotask(() => near.handler.closed(code, ''));
    near.close = () => undefined;
    this.far = far;
    this.session = new Session(sessionOptions(Infinity), near, new Memory());
  }

  /** The next of its frames arrives. */
  deliver(): void {
    const frame = this.queue.shift();
    if (frame) this.far.handler.received([frame]);
  }
}

interface Greeting {
  readonly state: string;
  /** What is said of it. */
  readonly types: readonly string[];
  /** What would be right to say next. */
  readonly due: string;
}

/** What a hostile worker says before it is found out. The later states cost ten times as much, so fewer see them. */
const GREETINGS_OF_WORKERS: readonly Greeting[] = [
  ...Array.from({ length: 6 }, () => ({ state: 'before hello', types: [], due: 'hello' })),
  ...Array.from({ length: 2 }, () => ({ state: 'welcomed', types: ['hello'], due: 'ready' })),
  { state: 'ready', types: ['hello', 'ready'], due: 'pong' },
];

/** All who attack a coordinator. */
class Crowd {
  private readonly coordinator: ReturnType<typeof createHarness>['coordinator'];
  private readonly corpus: Corpus;
  private readonly tally: Tally;
  private readonly random: Random;
  private readonly seats: (HostileChannel | null)[] = Array.from(
    { length: NUM_SEATED },
    () => null,
  );

  constructor(
    coordinator: ReturnType<typeof createHarness>['coordinator'],
    corpus: Corpus,
    tally: Tally,
    random: Random,
  ) {
    this.coordinator = coordinator;
    this.corpus = corpus;
    this.tally = tally;
    this.random = random;
  }

  takeTurn(): void {
    const { tally, random } = this;
    this.seats.forEach((seat, i) => (this.seats[i] = this.answer(seat)));
    for (let i = 0; i < VISITS_A_TURN && !tally.isOver; i++) {
      this.visit(GREETINGS_OF_WORKERS[random.below(GREETINGS_OF_WORKERS.length)]);
    }
  }

  leave(): void {
    for (const seat of this.seats) seat?.handler.closed(1006, '');
  }

  /** Comes, says as much as is honest, and then what is not. */
  private visit({ state, types, due }: Greeting): void {
    const { random, corpus } = this;
    const channel = this.arrive(types);
    for (let i = 1 + random.below(MAX_FRAMES_A_VISIT); i > 0 && channel.isOpen; i--) {
      const all = corpus.all();
      const isDue = random.below(2) === 0 && corpus.has(due);
      const recorded = isDue ? corpus.of(due) : all[random.below(all.length)];
      this.tally.deliver(channel, mutate(recorded, all, random), state);
    }
    channel.handler.closed(1006, '');
  }

  /** Answers what it was asked: nearly rightly. @returns whoever has the seat then */
  private answer(seat: HostileChannel | null): HostileChannel | null {
    if (!seat || hasEnded(seat)) return this.newSeat();
    const { corpus, random, tally } = this;
    for (const frame of seat.inbox.splice(0)) {
      const message = decodeCoordinatorMessage([frame]);
      for (const answer of answersTo(message, corpus)) {
        if (hasEnded(seat)) break;
        const state = `in ${message.type}`;
        tally.deliver(seat, mutate(answer, corpus.all(), random), state);
      }
    }
    return hasEnded(seat) ? this.newSeat() : seat;
  }

  private newSeat(): HostileChannel | null {
    const channel = this.arrive(['hello', 'ready']);
    return channel.isOpen ? channel : null;
  }

  private arrive(types: readonly string[]): HostileChannel {
    const { random, corpus } = this;
    const channel = new HostileChannel();
    this.tally.numConnections++;
    // From anywhere as a rule: an address that did wrong is not let in again so soon.
    const host = random.below(16) === 0 ? '10.0.0.1' : `10.${random.below(65_536)}`;
    this.coordinator.accept(channel, host);
    for (const type of types) channel.handler.received([corpus.of(type).frame]);
    return channel;
  }
}

/** A call, as what is delivered may have ended it. */
function hasEnded(channel: HostileChannel): boolean {
  return !channel.isOpen;
}

/** Recorded answers, made to fit the question. */
function answersTo(message: CoordinatorMessage, corpus: Corpus): Recorded[] {
  if (message.type === 'ping') {
    const { sentAt } = message;
    return [recordedOf({ type: 'pong', sentAt, workerTime: sentAt })];
  }
  const type = message.type === 'step' ? 'partial' : 'evaluation';
  if ((message.type !== 'step' && message.type !== 'evaluate') || !corpus.has(type)) return [];
  const { globalStep } = message;
  const { microBatch } = training.config;
  return message.ranges.map(([lo, hi]: Range) => {
    const answer = corpus.of(type).message as Message<'partial'> | Message<'evaluation'>;
    if (answer.type === 'evaluation') return recordedOf({ ...answer, globalStep, range: [lo, hi] });
    const range: [number, number] = [lo, lo + 1];
    return recordedOf({ ...answer, globalStep, range, numImages: microBatch });
  });
}

function recordedOf(message: Recorded['message']): Recorded {
  return { message, frame: joinFrame(encode(message)) };
}

/** To a worker, from a coordinator that changes what it says. */
export async function fuzzWorker(options: FuzzOptions): Promise<FuzzReport> {
  const { random } = options;
  const tally = new Tally(options);
  const corpus = new Corpus();
  await trainAmong(corpus, null, random);
  const memory = new Memory();
  for (let visit = 0; !tally.isOver; visit++) {
    await meetHostile(memory, corpus, tally, random);
    if (visit % 1_000 > 0) continue;
    if (await provesItself(memory, corpus)) tally.numUndisturbed++;
    else tally.violations.push('The worker does not prove itself any more');
  }
  return tally.report();
}

/** As above: to prove itself costs a worker most. */
const GREETINGS_OF_COORDINATORS: readonly Omit<Greeting, 'due'>[] = [
  ...Array.from({ length: 8 }, () => ({ state: 'before the welcome', types: [] })),
  { state: 'welcomed', types: ['welcome'] },
  { state: 'computing', types: ['welcome', 'samples', 'step'] },
];

async function meetHostile(
  memory: Memory,
  corpus: Corpus,
  tally: Tally,
  random: Random,
): Promise<void> {
  const channel = new HostileChannel();
  const session = new Session(sessionOptions(MAX_WORKER_BYTES), channel, memory);
  const working = session.work(new AbortController().signal);
  tally.numConnections++;
  const { state, types } =
    GREETINGS_OF_COORDINATORS[random.below(GREETINGS_OF_COORDINATORS.length)];
  for (const type of types) {
    channel.handler.received([corpus.of(type).frame]);
    // Or the next one comes before the worker has proved itself.
    if (random.below(8) > 0) await memory.idle;
  }
  for (let i = 1 + random.below(MAX_FRAMES_A_VISIT); i > 0 && channel.isOpen; i--) {
    const all = corpus.all();
    tally.deliver(channel, mutate(all[random.below(all.length)], all, random), state);
    if (random.below(2) === 0) await memory.idle;
  }
  await memory.idle;
  channel.handler.closed(1006, '');
  const { outcome } = await working;
  // What it would not take for its memory's sake is an answer; any other failure is an error of ours.
  if (channel.closeCode === CLOSE_CODES.failed && outcome !== 'unable') {
    tally.violations.push(`${state}: ${channel.closeReason}`);
  }
}

/** Whether the worker, met by an honest coordinator, says what it said when nobody had disturbed it. */
async function provesItself(memory: Memory, corpus: Corpus): Promise<boolean> {
  const channel = new HostileChannel();
  const session = new Session(sessionOptions(Infinity), channel, memory);
  const working = session.work(new AbortController().signal);
  channel.handler.received([corpus.of('welcome').frame]);
  await memory.idle;
  const said = channel.inbox.at(-1);
  channel.handler.closed(1006, '');
  await working;
  return said !== undefined && Buffer.from(said).equals(corpus.of('ready').frame);
}

function sessionOptions(maxMemoryBytes: number): SessionOptions {
  return {
    createComputation: (model, regularizer) => {
      const engine = createReferenceEngine(model);
      return Promise.resolve(new EngineComputation(engine, { clock: systemClock, regularizer }));
    },
    engineName: 'reference',
    name: 'worker',
    host: 'here',
    token: 'secret',
    maxMemoryBytes,
    clock: systemClock,
    collectGarbage: () => undefined,
    log: () => undefined,
  };
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function aliveMb(): number {
  // Twice: what the first one finalizes is free after the second.
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return Math.round((heapUsed + arrayBuffers) / 1e5) / 10;
}

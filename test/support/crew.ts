/**
 * A run with workers of all kinds, to its end: honest ones, and those that change what they say before they say it.
 */
import type { CoordinatorOptions } from '../../src/coordinator/coordinator.js';
import type { RunResult } from '../../src/coordinator/events.js';
import type { Message, WorkerMessage } from '../../src/shared/protocol.js';
import { createRandom, type Random } from '../../src/shared/random.js';
import { createHarness, type FakeWorker, type Harness } from './coordinator-harness.js';

export type Answer = Message<'partial'> | Message<'evaluation'>;

/** What a worker says in place of the truth. */
export type Lie = (truth: Answer, random: Random) => WorkerMessage | readonly WorkerMessage[];

export interface Hand {
  readonly name: string;
  readonly isExact: boolean;
  readonly address: string;
  readonly lie: Lie;
  /** What it says of itself on coming. */
  readonly hello?: Partial<Message<'hello'>>;
  /** Comes only after somebody was sent away. */
  readonly isLate?: boolean;
}

/** What makes the judge of these runs call a worker exact. */
const EXACT = 'exact/1';

export const HONEST: Hand = { name: 'honest', isExact: true, address: '10.0.0.1', lie: (t) => t };

/** Rounds of messages after which a run that is not over never will be. */
const MAX_ROUNDS = 3_000;

export interface CrewRun {
  readonly result: RunResult;
  readonly harness: Harness;
  /** How the connections of each name were closed, in order. */
  readonly closeCodes: (name: string) => readonly number[];
}

/**
 * Each hand works until it is sent away, and then comes again under a new id.
 *
 * @throws {Error} if the run does not end
 */
export async function runCrew(
  hands: readonly Hand[],
  overrides: Partial<CoordinatorOptions> = {},
): Promise<CrewRun> {
  const harness = createHarness({
    judge: ({ fingerprint }) => ({ isAccepted: true, isExact: fingerprint === EXACT }),
    ...overrides,
  });
  const random = createRandom(1, 'crew');
  const ended: { result?: RunResult; error?: Error } = {};
  harness.run().then(
    (result) => (ended.result = result),
    (error: unknown) => (ended.error = error as Error),
  );
  await harness.settle();
  const closeCodes = new Map<string, number[]>();
  const seats = hands.map((hand) => ({ hand, worker: null as FakeWorker | null, cursor: 0 }));
  for (let round = 0; round < MAX_ROUNDS; round++) {
    for (const seat of seats) {
      const { hand } = seat;
      if (seat.worker && seat.worker.closeCode !== null) {
        closeCodes.set(hand.name, [...(closeCodes.get(hand.name) ?? []), seat.worker.closeCode]);
        seat.worker = null;
      }
      if (!seat.worker) {
        if (hand.isLate && closeCodes.size === 0) continue;
        seat.worker = harness.connect(hand.address);
        seat.cursor = 0;
        seat.worker.hello({ name: hand.name, ...hand.hello });
        if (seat.worker.closeCode === null)
          seat.worker.ready({ fingerprint: hand.isExact ? EXACT : 'approximate/1' });
      }
      const { worker } = seat;
      const messages = worker.channel.sent.slice(seat.cursor);
      seat.cursor += messages.length;
      for (const message of messages) {
        for (const truth of answersOf(worker, message)) {
          for (const lie of [hand.lie(truth, random)].flat()) {
            if (worker.closeCode === null) worker.say(lie);
          }
        }
      }
    }
    await harness.time.advance(20);
    if (ended.error) throw ended.error;
    if (ended.result) {
      return { result: ended.result, harness, closeCodes: (name) => closeCodes.get(name) ?? [] };
    }
  }
  harness.stop.abort();
  await harness.time.advance(5_000);
  throw new Error(`The run is not over after ${MAX_ROUNDS} rounds`);
}

/** The true answers to a message, one for each unit. */
function* answersOf(worker: FakeWorker, message: { readonly type: string }): Generator<Answer> {
  const last = worker.channel.sent.findLast(({ type }) => type === 'step' || type === 'evaluate');
  if (message.type === 'ping') {
    const { sentAt } = message as Message<'ping'>;
    worker.say({ type: 'pong', sentAt, workerTime: sentAt });
  }
  if (message.type !== 'step' && message.type !== 'evaluate') return;
  const { ranges, globalStep } = message as Message<'step'> | Message<'evaluate'>;
  // Of work that is over, the truth is not wanted any more.
  if (last?.type !== message.type || (last as Message<'step'>).globalStep !== globalStep) return;
  for (const [lo, hi] of ranges) {
    for (let unit = lo; unit < hi; unit++) {
      yield message.type === 'step'
        ? worker.partialOf([unit, unit + 1])
        : worker.evaluationOf([unit, unit + 1]);
    }
  }
}

/**
 * Broken variants of the protocol, to show that the simulator would notice: each replaces a method or two of the
 * coordinator's, the relay's or the worker's own classes until it is undone.
 */
import { Checkpointer } from '../../../src/coordinator/checkpointer.js';
import { Coordinator } from '../../../src/coordinator/coordinator.js';
import { Dispatcher } from '../../../src/coordinator/round/dispatcher.js';
import { Auditor } from '../../../src/coordinator/round/auditor.js';
import { Gatherer } from '../../../src/coordinator/round/gatherer.js';
import { WorkerGroup } from '../../../src/coordinator/group/group.js';
import { Peer } from '../../../src/coordinator/round/peer.js';
import { Reducer } from '../../../src/coordinator/round/reducer.js';
import { Round } from '../../../src/coordinator/round/round.js';
import { StepWork } from '../../../src/coordinator/round/work.js';
import { Crew } from '../../../src/relay/crew.js';
import { StepPart } from '../../../src/relay/part.js';
import { Session } from '../../../src/worker/session.js';
import { SampleCache } from '../../../src/worker/sample-cache.js';

/* eslint-disable @typescript-eslint/no-explicit-any, @typescript-eslint/no-unsafe-assignment,
   @typescript-eslint/no-unsafe-member-access, @typescript-eslint/no-unsafe-call, @typescript-eslint/no-unsafe-return,
   @typescript-eslint/no-unsafe-argument, @typescript-eslint/restrict-plus-operands --
   mutants reach into what is private on purpose */

type Method = (this: any, ...args: any[]) => any;

export interface Mutant {
  readonly what: string;
  /** Breaks it. @returns what mends it */
  readonly apply: () => () => void;
}

/** Replaces a method. */
function replace(
  target: { readonly prototype: object },
  name: string,
  make: (original: Method) => Method,
): () => void {
  const prototype = target.prototype as Record<string, Method>;
  const original = prototype[name];
  if (typeof original !== 'function') throw new TypeError(`No method ${name} to break`);
  prototype[name] = make(original);
  return () => (prototype[name] = original);
}

const mutant = (
  what: string,
  target: { readonly prototype: object },
  name: string,
  make: (original: Method) => Method,
): Mutant => ({ what, apply: () => replace(target, name, make) });

export const MUTANTS: Readonly<Record<string, Mutant>> = {
  'no-duplicate-check': {
    what: 'a partial that is there already is added once more',
    apply() {
      const mends = [
        replace(StepWork, 'hasOpen', () => () => true),
        replace(
          Reducer,
          'add',
          (original) =>
            function (range, value) {
              const [lo, hi] = range;
              const before = this.nodes.get(this.key(lo, hi));
              if (before === undefined) return original.call(this, range, value);
              for (let i = 0; i < value.gradient.length; i++)
                before.gradient[i] += value.gradient[i];
              return [];
            },
        ),
      ];
      return () => mends.forEach((mend) => mend());
    },
  },
  'order-of-arrival': mutant(
    'partials are added in the order in which they came',
    Reducer,
    'reduce',
    () =>
      function (add) {
        return [...this.nodes.values()].reduce((sum, term) => add(sum, term));
      },
  ),
  'no-replan': mutant(
    'the work of a lost worker is not given to others',
    Dispatcher,
    'lost',
    () => () => ({ hadWork: true, action: 'nothing was done' }),
  ),
  'no-release': mutant('a lost worker keeps its units', Round, 'release', () => () => 0),
  'no-hedge': mutant('late work stays with the late worker', Round, 'hedge', () => () => new Map()),
  'clock-read-twice': mutant(
    'what is late is decided at one time, and when to look again at a later one',
    Dispatcher,
    'schedule',
    (original) =>
      function (current) {
        const now = this.clock.now();
        if (current.round.nextLateAt > now) original.call(this, current, now);
        else this.stopTimer();
      },
  ),
  'no-backpressure': {
    what: 'a worker whose last frame has not left is given more',
    apply() {
      const honest = Object.getOwnPropertyDescriptor(Peer.prototype, 'isFree')!;
      Object.defineProperty(Peer.prototype, 'isFree', { ...honest, get: () => true });
      return () => Object.defineProperty(Peer.prototype, 'isFree', honest);
    },
  },
  'params-once': mutant(
    'a worker that comes back within a step is not sent the parameters again',
    Dispatcher,
    'lost',
    (original) =>
      function (member) {
        const hasParams: Set<string> | undefined = this.current?.hasParams;
        const had = hasParams?.has(member.workerId) === true;
        const result = original.call(this, member);
        if (had) hasParams.add(member.workerId);
        return result;
      },
  ),
  'stale-partial': mutant(
    'a partial of an earlier step counts for this one',
    Gatherer,
    'answered',
    (original) =>
      function (member, message) {
        const isStale = message.type === 'partial' && this.current?.kind === 'step';
        const globalStep = isStale ? this.current.globalStep : message.globalStep;
        return original.call(this, member, { ...message, globalStep });
      },
  ),
  'no-finite-check': mutant('NaN is taken for a number', Gatherer, 'isFinite', () => () => true),
  'reused-buffer': mutant(
    'the buffer of a partial is used again within the step',
    Gatherer,
    'takePartial',
    (original) =>
      function (member, message, step) {
        original.call(this, member, message, step);
        this.gradients.reuse([step.gradients.at(-1)]);
      },
  ),
  'no-audit': mutant(
    'an answer that is audited counts before it is confirmed',
    Auditor,
    'partials',
    (original) =>
      async function (step, range, isWanted) {
        const own = await original.call(this, step, range, isWanted);
        const partial = { ...own[0].partial, gradient: step.gradients.at(-1) };
        return [{ node: range, partial }];
      },
  ),
  'resume-step-late': mutant(
    'a resumed run leaves a step out',
    Coordinator,
    'train',
    (original) =>
      function (signal) {
        if (this.options.resumeFrom && this.globalStep + 1 < this.totalSteps) this.globalStep++;
        return original.call(this, signal);
      },
  ),
  'resume-without-optimizer': mutant(
    'a resumed run forgets the state of the optimizer',
    Coordinator,
    'train',
    (original) =>
      function (signal) {
        if (this.options.resumeFrom) {
          for (const tensor of Object.values<Float32Array>(this.optimizerState.tensors)) {
            tensor.fill(0);
          }
        }
        return original.call(this, signal);
      },
  ),
  'shared-snapshot': mutant(
    'a checkpoint shares its memory with the training',
    Coordinator,
    'snapshot',
    (original) =>
      function () {
        return { ...original.call(this), params: this.params };
      },
  ),
  'no-evaluation-at-resume': mutant(
    'a resumed run does not make up for an evaluation that was broken off',
    Coordinator,
    'train',
    (original) =>
      function (signal) {
        const { globalStep } = this;
        const { tally } = this;
        if (this.options.resumeFrom)
          tally.progress = { ...tally.progress, evaluatedStep: globalStep };
        return original.call(this, signal);
      },
  ),
  'no-heartbeat': mutant(
    'a silent worker is waited for',
    WorkerGroup,
    'tick',
    (original) =>
      function () {
        const now = this.options.clock.now();
        for (const connection of this.connections) connection.lastHeardAt = now;
        original.call(this);
      },
  ),
  'unsent-samples': mutant(
    'a worker is believed to have all that was ever sent to it',
    Peer,
    'lost',
    (original) =>
      function () {
        const before = this.cached;
        original.call(this);
        // Whatever it says when it comes back.
        const kept = { get: () => before, set: () => undefined, configurable: true };
        if (before.length > 0) Object.defineProperty(this, 'cached', kept);
      },
  ),
  'lost-checkpoint': mutant(
    'the last state is not saved',
    Checkpointer,
    'saveLast',
    () => () => Promise.resolve(),
  ),
  'silent-loss': mutant(
    'a run whose last state cannot be saved is said to be over',
    Checkpointer,
    'saveLast',
    (original) =>
      function (...args) {
        return (original.apply(this, args) as Promise<void>).catch(() => undefined);
      },
  ),
  'mixed-up-samples': mutant(
    'a sample is stored in the place of its neighbour too',
    SampleCache,
    'store',
    (original) =>
      function (message) {
        original.call(this, message);
        const { images, imageBytes } = this.memory;
        images.copyWithin(0, imageBytes, 2 * imageBytes);
      },
  ),
  'old-params': mutant(
    'a worker computes with the parameters of an earlier step',
    Session,
    'completeParams',
    (original) =>
      function (message, bytes) {
        const before = this.task?.params;
        const params = original.call(this, message, bytes);
        return message.globalStep % 3 === 2 ? (before ?? params) : params;
      },
  ),
  'timer-left': mutant(
    'a timer outlives its connection',
    Session,
    'work',
    (original) =>
      async function (signal) {
        const ending = await original.call(this, signal);
        this.watchdog.watch();
        return ending;
      },
  ),
  'relay-order-of-arrival': mutant(
    'a relay adds the partials of a range in the order in which they came',
    Reducer,
    'sumOf',
    () =>
      function (range, add) {
        const [lo, hi] = range;
        const nodes = [...this.nodes.entries()].filter(([key]: [number, unknown]) => {
          const from = Math.floor(key / (this.numUnits + 1));
          return from >= lo && from < hi;
        });
        return nodes.map(([, value]) => value).reduce((sum, term) => add(sum, term));
      },
  ),
  'relay-says-twice': mutant(
    'a relay sends each of its partials up twice',
    StepPart,
    'credit',
    (original) =>
      function (member, units) {
        const { answer } = this;
        this.answer = (...args: unknown[]) => [answer(...args), answer(...args)];
        original.call(this, member, units);
        this.answer = answer;
      },
  ),
  'relay-takes-all': mutant(
    'a relay has all of a step computed, not what it was asked for',
    StepPart,
    'isDone',
    () =>
      function (unit) {
        return this.reducer.isCovered(unit);
      },
  ),
  'relay-keeps-work': mutant(
    'a relay without workers keeps its work',
    Crew,
    'callRoll',
    () => () => undefined,
  ),
  'relay-names-nobody': mutant(
    'the workers of a relay are not told whom it works for',
    Session,
    'prepare',
    (original) =>
      function (welcome) {
        return original.call(this, { ...welcome, alternates: [] });
      },
  ),
  'relay-says-nothing': mutant(
    'a relay that goes leaves its workers waiting',
    Crew,
    'close',
    () =>
      function () {
        this.closed.abort();
        this.absence?.cancel();
        this.gatherer.stop();
      },
  ),
};

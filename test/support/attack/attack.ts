/**
 * Runs under attack, of real processes over real sockets, one without TLS and one with it, compared with one that was left
 * alone: no process ends or hangs, memory and descriptors stay, new workers come in, steps go on, and the weights do not
 * show it.
 */
import { join } from 'node:path';
import { weightsSha256 } from '../../../src/model/checkpoint.js';
import { train, type TrainOptions } from '../../../src/library/train.js';
import { createRandom, type Random } from '../../../src/shared/random.js';
import { ATTACKS, type Attack } from './attacks.js';
import { HEADINGS, judge, rowOf, type Figures } from './figures.js';
import { startHostileCoordinator, startMeddler, type Meddler } from './meddler.js';
import type { LockstepProcess } from './process.js';
import { Stage, until, type Moment } from './stage.js';

/** Of an attack's time, what goes by without it before and after, each. */
const QUIET_SHARE = 0.25;
/** Attacks that last less are not judged by how fast something was, ms. */
const TIMED_FROM_MS = 1_500;
/** Between two new workers, ms. */
const NEWCOMER_EVERY_MS = 300;
/** For what an attack has left open to be closed, ms. */
const SETTLE_MS = 8_000;
/** Far more than a run under attack has time for. */
const EPOCHS = '100000';

export interface AttackOptions {
  readonly seed: number;
  /** Of all attacks together. */
  readonly durationMs: number;
  readonly dataset: string;
  /** An empty folder of its own. */
  readonly folder: string;
  /** Only attacks whose name has this in it. */
  readonly only?: string;
  readonly log: (line: string) => void;
}

export interface AttackReport {
  /** What went wrong, one sentence each; empty if every promise was kept. */
  readonly violations: readonly string[];
  readonly figures: readonly Figures[];
  /** Messages that were recorded and changed. */
  readonly types: readonly string[];
  /** Of each run, after how many steps it was stopped, and the weights then. */
  readonly runs: readonly {
    readonly globalStep: number;
    readonly weights: readonly [string, string];
  }[];
}

/** A network that changes what passes between workers and the coordinator. */
const MEDDLING: Attack = {
  name: 'changed on the way',
  // With --audit 1, as what is changed may be valid.
  doors: ['TLS'],
  unit: 'frames',
  isBounded: false,
  run: () => Promise.reject(new Error('It needs workers')),
};

export async function runAttack(options: AttackOptions): Promise<AttackReport> {
  const { seed, durationMs, folder, dataset, only = '', log } = options;
  const all = (['plain', 'TLS'] as const).flatMap((door) =>
    [...ATTACKS, MEDDLING]
      .filter(({ name, doors }) => doors.includes(door) && name.includes(only))
      .map((attack) => ({ door, attack })),
  );
  const windowMs = durationMs / (1 + 2 * QUIET_SHARE) / (all.length + 1);
  const violations: string[] = [];
  const figures: Figures[] = [];
  const ended: { globalStep: number; weights: string }[] = [];
  let types: readonly string[] = [];
  const note = (one: Figures, isBounded: boolean) => {
    figures.push(one);
    violations.push(...judge(one, windowMs >= TIMED_FROM_MS, isBounded));
    log(rowOf(one));
  };
  log(HEADINGS);
  for (const door of ['plain', 'TLS'] as const) {
    const path = join(folder, door);
    const flags = ['--dataset', dataset, '--epochs', EPOCHS, '--audit', door === 'TLS' ? '1' : '0'];
    const stage = await Stage.open(path, door === 'TLS', flags);
    try {
      await stage.record();
      ({ types } = stage.target.corpus);
      await warmUp(stage, windowMs, createRandom(seed, door, 'warm-up'));
      for (const { attack } of all.filter((one) => one.door === door)) {
        const random = createRandom(seed, door, attack.name);
        note(
          await underAttack(stage, attack, door, windowMs, random, violations),
          attack.isBounded,
        );
      }
      if (door === 'plain' && 'a hostile coordinator'.includes(only)) {
        note(
          await workerUnderAttack(stage, windowMs, createRandom(seed, 'hostile'), violations),
          false,
        );
      }
    } finally {
      const { result, violations: found } = await stage.close();
      violations.push(...found);
      if (result) ended.push({ globalStep: result.globalStep, weights: result.weightsSha256 });
      else violations.push(`The run over ${door} has no result`);
    }
  }
  log('The undisturbed run');
  const expected = await weightsAfter(
    dataset,
    ended.map(({ globalStep }) => globalStep),
  );
  const runs = ended.map(({ globalStep, weights }, i) => {
    if (weights !== expected[i]) {
      violations.push(`After ${globalStep} steps the weights are not those of the undisturbed run`);
    }
    return { globalStep, weights: [expected[i], weights] as const };
  });
  return { violations, figures, types, runs };
}

/** What code and pools need, which limits bound, they have from then on. */
async function warmUp(stage: Stage, windowMs: number, random: Random): Promise<void> {
  for (const attack of ATTACKS.filter(({ isWarmUp }) => isWarmUp)) {
    const by = performance.now() + windowMs;
    await attack.run(stage.target, () => performance.now() < by, random);
  }
  await stage.calibrate();
}

/** One attack, and quiet before and after. */
async function underAttack(
  stage: Stage,
  attack: Attack,
  door: string,
  windowMs: number,
  random: Random,
  violations: string[],
): Promise<Figures> {
  const admissionMs: number[] = [];
  await quiet(stage, QUIET_SHARE * windowMs);
  const before = await stage.vitals();
  let isOn = true;
  const attacking =
    attack === MEDDLING
      ? meddle(stage, () => isOn, random, violations)
      : attack.run(stage.target, () => isOn, random);
  const from = await stage.moment();
  const by = performance.now() + windowMs;
  do {
    await pause(NEWCOMER_EVERY_MS);
    admissionMs.push(await stage.admit());
    const { status } = await stage.ask('/healthz');
    if (status !== 200) violations.push(`${attack.name}: /healthz was answered ${status}`);
  } while (performance.now() < by);
  const to = await stage.moment();
  isOn = false;
  const count = await attacking;
  const after = await settled(stage, before.numDescriptors);
  await quiet(stage, QUIET_SHARE * windowMs);
  return {
    attack: attack.name,
    door,
    amount: [count, attack.unit],
    blockedMs: after.blockedMs,
    residentMb: [before.residentMb, after.residentMb],
    numDescriptors: [before.numDescriptors, after.numDescriptors],
    admissionMs: [stage.newcomer.slowestMs, Math.max(...admissionMs)],
    speed: speedOf(stage, from, to, admissionMs.length),
  };
}

async function quiet(stage: Stage, ms: number): Promise<void> {
  const from = await stage.moment();
  await pause(ms);
  stage.quietTimes.push([from, await stage.moment()]);
}

/** Compared with all quiet times of the run so far, of which one alone is too short. */
function speedOf(stage: Stage, from: Moment, to: Moment, numNewcomers: number): Figures['speed'] {
  const sumOf = (key: keyof Moment) =>
    stage.quietTimes.reduce((sum, [begin, end]) => sum + end[key] - begin[key], 0);
  const numQuietSteps = sumOf('numSteps');
  if (numQuietSteps === 0) return null;
  const numSteps = to.numSteps - from.numSteps;
  const ranMs = to.ranMs - from.ranMs;
  const stepsMs = (sumOf('ranMs') / numQuietSteps) * numSteps;
  // There are none in quiet times.
  const attackMs = ranMs - stepsMs - numNewcomers * stage.newcomer.costMs;
  const wholeMs = Math.max(ranMs, to.at - from.at - (to.waitedMs - from.waitedMs));
  return {
    left: 1 - Math.max(0, attackMs) / wholeMs,
    wall: numSteps / (to.at - from.at) / (numQuietSteps / sumOf('at')),
  };
}

/** Once the connections of the attack are closed, or should be. */
async function settled(stage: Stage, numDescriptors: number) {
  const { blockedMs } = await stage.vitals();
  const by = performance.now() + SETTLE_MS;
  for (;;) {
    const vitals = await stage.vitals();
    const worst = Math.max(blockedMs, vitals.blockedMs);
    if (vitals.numDescriptors <= numDescriptors + 2 || performance.now() > by) {
      return { ...vitals, blockedMs: worst };
    }
    await pause(200);
  }
}

const NUM_MEDDLED = 2;
/** However short the attack: a process takes its time to start, and each change costs it its connection. */
const MIN_CHANGED = 10;

/** Workers whose frames, and the coordinator's to them, are changed on the way. @returns how many were */
async function meddle(
  stage: Stage,
  isOn: () => boolean,
  random: Random,
  violations: string[],
): Promise<number> {
  const meddlers = await Promise.all(
    Array.from({ length: NUM_MEDDLED }, (_, i) =>
      startMeddler(stage.target, `127.0.1.${i + 1}`, random),
    ),
  );
  const numChanged = () => meddlers.reduce((sum, meddler) => sum + meddler.numChanged(), 0);
  await Promise.all(
    meddlers.map(async ({ port }, i) => {
      while (isOn() || numChanged() < MIN_CHANGED)
        await workFor(
          stage.startWorker(`meddled-${i}`, port),
          () => isOn() || numChanged() < MIN_CHANGED,
          violations,
        );
    }),
  );
  return finish(meddlers);
}

/** A real worker whose coordinator is hostile. */
async function workerUnderAttack(
  stage: Stage,
  windowMs: number,
  random: Random,
  violations: string[],
): Promise<Figures> {
  const hostile = await startHostileCoordinator(stage.target, random);
  const worker = stage.startWorker('attacked', hostile.port);
  // What it makes of the first frames takes memory for good: its engine, its cache.
  await until(() => hostile.numChanged() > 50 || worker.isOver);
  let blockedMs = 0;
  if (worker.isOver) violations.push(`The attacked worker ended: ${worker.output}`);
  const before = await worker.vitals(true);
  const by = performance.now() + windowMs;
  while (performance.now() < by && !worker.isOver) {
    await pause(100);
    ({ blockedMs } = await worker.vitals());
  }
  const count = hostile.numChanged();
  const after = await worker.vitals(true);
  await workFor(worker, () => false, violations);
  await finish([hostile]);
  return {
    attack: 'a hostile coordinator',
    door: 'plain',
    amount: [count, 'frames'],
    blockedMs: Math.max(blockedMs, after.blockedMs),
    residentMb: [before.residentMb, after.residentMb],
    numDescriptors: [before.numDescriptors, after.numDescriptors],
    admissionMs: null,
    speed: null,
  };
}

/** Until it ends by itself, or is not wanted any more: then it has to end at once. */
async function workFor(
  worker: LockstepProcess,
  isOn: () => boolean,
  violations: string[],
): Promise<void> {
  while (isOn() && !worker.isOver) await pause(50);
  const code = await worker.end('SIGTERM');
  // What passed may have told it to end (0), or that it is not wanted (1), and it may not have begun yet; it is not to break.
  if (worker.wrong !== null || ![0, 1, 143, 'SIGTERM'].includes(code)) {
    violations.push(`${worker.name} ended with ${code}: ${worker.output}`);
  }
}

async function finish(meddlers: readonly Meddler[]): Promise<number> {
  await Promise.all(meddlers.map((meddler) => meddler.close()));
  return meddlers.reduce((sum, meddler) => sum + meddler.numChanged(), 0);
}

/** The weights after each number of steps of a run that nobody disturbs. */
async function weightsAfter(dataset: string, steps: readonly number[]): Promise<string[]> {
  const found = new Map<number, string>();
  const last = Math.max(...steps);
  const over = new AbortController();
  const config: TrainOptions['config'] = { dataset, epochs: Number(EPOCHS) };
  await train({
    config,
    threads: 1,
    signal: over.signal,
    onEvent(event) {
      if (event.type !== 'step') return;
      const done = event.globalStep + 1;
      if (steps.includes(done)) found.set(done, weightsSha256(event.params));
      if (done === last) over.abort();
    },
  });
  return steps.map((step) => found.get(step) ?? 'none');
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

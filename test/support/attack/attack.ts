/**
 * A run under attack, of real processes over real sockets, compared with one that was left alone: no process ends or
 * hangs, memory and descriptors stay, and the weights do not show it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RunResult } from '../../../src/coordinator/events.js';
import { createRandom } from '../../../src/shared/random.js';
import { MAIN } from '../program.js';
import { Corpus } from './corpus.js';
import { startMeddler } from './meddler.js';
import { strangerCalls } from './stranger.js';

const PROBE = fileURLToPath(new URL('probe.mjs', import.meta.url));
/** Workers with an honest way to the coordinator, and workers with one that changes what passes. */
const NUM_HONEST = 2;
const NUM_MEDDLED = 2;
const NUM_STRANGERS = 24;
/** The longest time that an event loop may be blocked, ms of processor time. */
const MAX_BLOCKED_MS = 250;
/** For the workers to join before the attack begins, ms. */
const START_MS = 60_000;
const MAX_GROWTH_MB = 150;
const MAX_DESCRIPTORS = 1_000;

/** From the closed port to the end of the process, at most, ms. */
const END_MS = 5_000;

export interface AttackOptions {
  readonly seed: number;
  readonly durationMs: number;
  /** Ends the attack before, once strangers have sent so many. */
  readonly maxFrames?: number;
  /** Flags of the run, such as `--epochs 3`. */
  readonly flags: readonly string[];
  /** An empty folder of its own. */
  readonly folder: string;
  readonly log: (line: string) => void;
}

export interface AttackReport {
  /** What went wrong, one sentence each; empty if every promise was kept. */
  readonly violations: readonly string[];
  /** Messages that were recorded and changed. */
  readonly types: readonly string[];
  readonly numFrames: number;
  readonly numConnections: number;
  readonly weights: readonly [undisturbed: string, attacked: string];
  /** Of the coordinator: resident memory, MB, at the start of the attack and at most; descriptors at most. */
  readonly residentMb: readonly [before: number, most: number];
  readonly mostDescriptors: number;
  /** The longest block of each process, ms. */
  readonly blockedMs: readonly number[];
  /** Answers of `/healthz`, the slowest, ms. */
  readonly slowestHealthMs: number;
  readonly seconds: readonly [undisturbed: number, attacked: number];
}

export async function runAttack(options: AttackOptions): Promise<AttackReport> {
  const { seed, durationMs, folder, log } = options;
  const flags = ['--audit', '1', '--quiet', ...options.flags];
  const violations: string[] = [];
  const [undisturbed, attacked] = [join(folder, 'undisturbed'), join(folder, 'attacked')];

  log('The undisturbed run');
  const alone = new Program('train', [
    '--workers',
    `${NUM_HONEST}`,
    '--out',
    undisturbed,
    ...flags,
  ]);
  await alone.ended;
  const expected = resultOf(undisturbed);
  if (!expected) throw new Error(`The undisturbed run failed: ${alone.errors}`);

  log('The run under attack');
  const startedAt = performance.now();
  const probes = [join(folder, 'probe-coordinator')];
  const serving = ['--host', '127.0.0.1', '--port', '0', '--log-level', 'info'];
  const coordinator = new Program(
    'coordinator',
    [...serving, '--out', attacked, ...flags.filter((flag) => flag !== '--quiet')],
    probes[0],
  );
  const port = Number((await coordinator.says(/ws:\/\/\S+:(\d+)\n/))[1]);
  const url = `ws://127.0.0.1:${port}`;
  const honest = Array.from(
    { length: NUM_HONEST },
    (_, i) => new Program('worker', [url, '--name', `honest-${i}`, '--engine', 'simd', '--quiet']),
  );
  const corpus = new Corpus();
  const meddlers = await Promise.all(
    Array.from({ length: NUM_MEDDLED }, (_, i) =>
      startMeddler(url, `127.0.1.${i + 1}`, corpus, createRandom(seed, 'meddler', i)),
    ),
  );
  let isOver = false;
  const meddled = meddlers.map((meddler, i) => {
    const name = `meddled-${i}`;
    probes.push(join(folder, `probe-${name}`));
    const args = [`ws://127.0.0.1:${meddler.port}`, '--name', name, '--engine', 'simd', '--quiet'];
    return keepRunning(
      () => new Program('worker', args, probes[i + 1]),
      () => isOver,
      violations,
    );
  });
  const startBy = performance.now() + START_MS;
  while (corpus.of('hello') === undefined || corpus.of('step') === undefined) {
    if (performance.now() > startBy) {
      const said = [coordinator, ...honest].map(({ name, output }) => `${name}: ${output}`);
      throw new Error(`No worker had a step within ${START_MS / 1000} s\n${said.join('\n')}`);
    }
    await pause(50);
  }

  const before = coordinator.residentMb();
  let [most, mostDescriptors, slowestHealthMs] = [before, 0, 0];
  let [numFrames, numConnections] = [0, 0];
  const until = performance.now() + durationMs;
  const { maxFrames = Infinity } = options;
  const isAttacking = () =>
    performance.now() < until && numFrames < maxFrames && !coordinator.isOver;
  const watching = (async () => {
    while (isAttacking()) {
      most = Math.max(most, coordinator.residentMb());
      mostDescriptors = Math.max(mostDescriptors, coordinator.numDescriptors());
      const askedAt = performance.now();
      const status = await fetch(`http://127.0.0.1:${port}/healthz`).then(
        (response) => response.status,
        (error: unknown) => String(error),
      );
      if (status !== 200 && !(await isEnding(coordinator))) {
        violations.push(`/healthz was answered ${status}`);
      }
      slowestHealthMs = Math.max(slowestHealthMs, performance.now() - askedAt);
      await pause(200);
    }
  })();
  const strangers = Array.from({ length: NUM_STRANGERS }, async (_, i) => {
    const random = createRandom(seed, 'stranger', i);
    while (isAttacking()) {
      const sent = await strangerCalls(port, corpus, random);
      numFrames += sent;
      numConnections++;
    }
  });
  await Promise.all([...strangers, watching]);
  log('The attack is over; the run goes on to its end');
  isOver = true;
  for (const meddler of meddlers) numFrames += meddler.numChanged();
  await Promise.all(meddlers.map((meddler) => meddler.close()));
  await Promise.all(meddled.map((close) => close()));
  const after = coordinator.isOver ? most : coordinator.residentMb();
  const ending = await coordinator.ended;
  const seconds = (performance.now() - startedAt) / 1000;
  await Promise.all(honest.map((worker) => worker.close()));

  const actual = resultOf(attacked);
  if (ending !== 0) violations.push(`The coordinator ended with ${ending}: ${coordinator.errors}`);
  if (actual?.weightsSha256 !== expected.weightsSha256) {
    violations.push('The weights differ from those of the undisturbed run');
  }
  for (const { name, wrong } of [coordinator, ...honest]) {
    if (wrong !== null) violations.push(`${name} said: ${wrong}`);
  }
  if (most - before > MAX_GROWTH_MB || after - before > MAX_GROWTH_MB) {
    violations.push(`The coordinator grew from ${before} to ${most} MB`);
  }
  if (mostDescriptors > MAX_DESCRIPTORS)
    violations.push(`${mostDescriptors} descriptors were open`);
  const blockedMs = probes.map((path) =>
    existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0,
  );
  blockedMs.forEach((ms, i) => {
    if (ms > MAX_BLOCKED_MS) violations.push(`${probes[i]}: blocked for ${ms.toFixed(0)} ms`);
  });
  return {
    violations,
    types: corpus.types,
    ...{ numFrames, numConnections, mostDescriptors, blockedMs, slowestHealthMs },
    weights: [expected.weightsSha256, actual?.weightsSha256 ?? 'none'],
    residentMb: [before, most],
    seconds: [expected.seconds, seconds],
  };
}

/** Whether the program's run is over and its port closed: then its process ends soon. */
async function isEnding(program: Program): Promise<boolean> {
  await Promise.race([program.ended, pause(END_MS)]);
  return program.isOver;
}

/** Starts a program again whenever it ends. @returns what ends it for good */
function keepRunning(
  start: () => Program,
  isOver: () => boolean,
  violations: string[],
): () => Promise<void> {
  let program = start();
  const done = (async () => {
    for (;;) {
      const ending = await program.ended;
      if (isOver()) return;
      // What passed may have told it to end (0), or that it is not wanted (1); it is not to break.
      if (program.wrong !== null || (ending !== 0 && ending !== 1)) {
        violations.push(`${program.name} ended with ${ending}: ${program.errors}`);
      }
      await pause(200);
      if (isOver()) return;
      program = start();
    }
  })();
  return async () => {
    await program.close();
    await done;
  };
}

/** `lockstep` as a process. */
class Program {
  readonly name: string;
  readonly ended: Promise<number | NodeJS.Signals>;
  isOver = false;
  /** The end of what it wrote to stderr. */
  errors = '';
  /** A line that no user should see, and no stranger should bring about. */
  wrong: string | null = null;
  private readonly child: ChildProcess;
  output = '';
  private hear: () => void = () => undefined;

  constructor(command: string, args: readonly string[], probe?: string) {
    this.name = command;
    this.child = spawn(process.execPath, ['--import', PROBE, MAIN, command, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...(probe === undefined ? {} : { ATTACK_PROBE: probe }) },
    });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.on('data', (chunk: Buffer) => {
        const text = chunk.toString();
        this.output = (this.output + text).slice(-20_000);
        if (stream === this.child.stderr) this.errors = (this.errors + text).slice(-2_000);
        this.wrong ??=
          /^.*(error of ours|cannot be answered|\n +at |Unhandled).*$/m.exec(text)?.[0] ?? null;
        this.hear();
      });
    }
    const kill = () => void this.child.kill('SIGKILL');
    process.once('exit', kill);
    this.ended = new Promise((resolve) =>
      this.child.once('close', (code, signal) => {
        process.off('exit', kill);
        this.isOver = true;
        this.hear();
        resolve(code ?? signal!);
      }),
    );
  }

  /** Resolves as soon as the output has the pattern. @throws {Error} if it ends without */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.output);
      if (match) return match;
      if (this.isOver) throw new Error(`${this.name} ended: ${this.output}`);
      await new Promise<void>((resolve) => (this.hear = resolve));
    }
  }

  async close(): Promise<void> {
    if (!this.isOver) this.child.kill('SIGKILL');
    await this.ended;
  }

  residentMb(): number {
    try {
      const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
      return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024);
    } catch {
      return 0;
    }
  }

  numDescriptors(): number {
    try {
      return readdirSync(`/proc/${this.child.pid}/fd`).length;
    } catch {
      return 0;
    }
  }
}

function resultOf(run: string): RunResult | null {
  const path = join(run, 'result.json');
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as RunResult) : null;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

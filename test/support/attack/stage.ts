/** A run of real processes that is attacked: a coordinator, two honest workers, and whoever comes. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { request as requestPlainly, type IncomingMessage } from 'node:http';
import { request as requestSecurely } from 'node:https';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { RunResult } from '../../../src/coordinator/events.js';
import { CONTROL_HEADER } from '../../../src/coordinator/page/control.js';
import type { Frame } from '../../../src/shared/channel.js';
import { encode } from '../../../src/shared/codec.js';
import { parseJoinLine, type JoinLine } from '../../../src/shared/join-line.js';
import type { Message } from '../../../src/shared/protocol.js';
import { Corpus } from './corpus.js';
import { startInsider } from './insider.js';
import { LockstepProcess, type Vitals } from './process.js';
import { HONEST_ADDRESS, dialFrom, type Target } from './target.js';

const NUM_HONEST = 2;
const pathOf = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const RUN_TYPESCRIPT = pathOf('../../../scripts/run-typescript.mjs');
const NEWCOMER = pathOf('newcomer.ts');
/** Without an attack, to see what steps and new workers cost, ms. */
const CALIBRATION_MS = 1_000;
const NUM_CALIBRATING = 4;

/** What must have passed before frames are changed. */
const TO_WORKERS = ['welcome', 'samples', 'step', 'evaluate', 'ping', 'finished', 'refused'];
const TO_COORDINATOR = ['hello', 'ready', 'partial', 'evaluation', 'pong', 'leave'];

export class Stage {
  readonly target: Target;
  readonly coordinator: LockstepProcess;
  readonly honest: readonly LockstepProcess[];
  /** What a new worker takes of the coordinator, and how long the slowest waits, while nobody attacks, ms. */
  newcomer = { costMs: 0, slowestMs: 0 };
  /** When nobody attacked, or came. */
  readonly quietTimes: (readonly [from: Moment, to: Moment])[] = [];
  private readonly newcomers = fork(RUN_TYPESCRIPT, [NEWCOMER]);
  private readonly line: JoinLine;
  private readonly path: string;

  /** @param flags of the run */
  static async open(path: string, isSecure: boolean, flags: readonly string[]): Promise<Stage> {
    const host = isSecure ? '0.0.0.0' : HONEST_ADDRESS;
    const args = ['coordinator', '--host', host, '--port', '0', '--out', path, ...flags];
    const coordinator = new LockstepProcess('the coordinator', args);
    const [, port] = await coordinator.says(/wss?:\/\/[^\s:]+:(\d+)/);
    const { token, pin } = parseJoinLine(readFileSync(join(path, 'join'), 'utf8'));
    const url = `${isSecure ? 'wss' : 'ws'}://${HONEST_ADDRESS}:${port}`;
    return new Stage(path, coordinator, { url, token, pin }, Number(port));
  }

  private constructor(path: string, coordinator: LockstepProcess, line: JoinLine, port: number) {
    const { token, pin } = line;
    this.path = path;
    this.coordinator = coordinator;
    this.line = line;
    this.target = { port, isSecure: pin !== null, token, corpus: new Corpus() };
    this.honest = Array.from({ length: NUM_HONEST }, (_, i) => this.startWorker(`honest-${i}`));
  }

  /** @param port where it connects to, if that is not the coordinator: without TLS */
  startWorker(name: string, port: number | null = null): LockstepProcess {
    const { url, token, pin } = this.line;
    const where =
      port === null ? `${url}${pin === null ? '' : `#.${pin}`}` : `ws://127.0.0.1:${port}`;
    const how = ['--engine', 'simd', '--threads', '1', '--quiet'];
    const args = ['worker', where, '--name', name, ...how];
    return new LockstepProcess(name, args, token === null ? {} : { LOCKSTEP_TOKEN: token });
  }

  /** Updates made so far: of the run's own file, as HTTP may be refused. */
  numSteps(): number {
    const path = join(this.path, 'metrics.jsonl');
    const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n') : [];
    // The last may be half of one.
    const last = lines.slice(0, -1).findLast((line) => line.startsWith('{"type":"step"'));
    return last === undefined ? 0 : (JSON.parse(last) as { globalStep: number }).globalStep + 1;
  }

  /** @returns what it answers with */
  async ask(path: string, method = 'GET'): Promise<{ readonly status: number; text: string }> {
    const { token, port, isSecure } = this.target;
    const request = (isSecure ? requestSecurely : requestPlainly)({
      ...{ host: HONEST_ADDRESS, port, path, method, agent: false, rejectUnauthorized: false },
      headers: { [CONTROL_HEADER]: '1', ...(token && { Authorization: `Bearer ${token}` }) },
    });
    request.end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    return { status: response.statusCode!, text: await textOf(response) };
  }

  /** Lets honest workers come and go until every message has passed once, in both directions. */
  async record(): Promise<void> {
    const { target } = this;
    const { corpus } = target;
    const evicted = new AbortController();
    const onFrame = (frame: Frame, from: 'worker' | 'coordinator') => corpus.add(frame, from);
    const options = { address: HONEST_ADDRESS, onFrame };
    const first = startInsider(target, { ...options, name: 'evicted' }, evicted.signal);
    await until(() => corpus.has(...TO_COORDINATOR.slice(0, -1), ...TO_WORKERS.slice(0, -2)));
    await this.ask('/api/control/evict?name=evicted', 'POST');
    await first;
    const leaving = new AbortController();
    const second = startInsider(
      target,
      {
        address: HONEST_ADDRESS,
        name: 'leaving',
        onFrame(frame, from) {
          corpus.add(frame, from);
          if (from === 'worker') queueMicrotask(() => leaving.abort());
        },
      },
      leaving.signal,
    );
    await second;
    const [channel] = await dialFrom(target, HONEST_ADDRESS);
    channel.handler = {
      received: (frame) => corpus.add(frame, 'coordinator'),
      closed: () => undefined,
    };
    const hello = corpus.of('hello').message as Message<'hello'>;
    channel.send(encode({ ...hello, protocolVersion: hello.protocolVersion + 1 }));
    await channel.ended;
    if (!corpus.has(...TO_WORKERS, ...TO_COORDINATOR)) {
      throw new Error(`Not every message has passed, only ${corpus.types.join(', ')}`);
    }
  }

  /** A new worker comes, and goes as soon as it is given work. @returns how long that took, ms */
  async admit(): Promise<number> {
    const { port, isSecure, token } = this.target;
    this.newcomers.send({ port, isSecure, token });
    const [ms] = (await once(this.newcomers, 'message')) as [number];
    return ms;
  }

  /** Measures steps and new workers while nobody attacks. */
  async calibrate(): Promise<void> {
    const quiet = [await this.moment()];
    await new Promise((resolve) => setTimeout(resolve, CALIBRATION_MS));
    quiet.push(await this.moment());
    const stepMs = costOfStep(quiet[0], quiet[1]) ?? 0;
    const admissions: number[] = [];
    for (let i = 0; i < NUM_CALIBRATING; i++) admissions.push(await this.admit());
    const after = await this.moment();
    const ranMs = after.ranMs - quiet[1].ranMs - stepMs * (after.numSteps - quiet[1].numSteps);
    this.newcomer = {
      costMs: Math.max(0, ranMs) / NUM_CALIBRATING,
      slowestMs: Math.max(...admissions),
    };
  }

  async moment(): Promise<Moment> {
    const { ranMs, waitedMs } = await this.coordinator.vitals();
    return { at: performance.now(), numSteps: this.numSteps(), ranMs, waitedMs };
  }

  vitals(): Promise<Vitals> {
    return this.coordinator.vitals(true);
  }

  /** Stops the run. @returns how it ended, and what was wrong */
  async close(): Promise<{ readonly result: RunResult | null; readonly violations: string[] }> {
    const violations: string[] = [];
    this.newcomers.disconnect();
    const code = await this.coordinator.end('SIGTERM');
    // 143: it was stopped by a SIGTERM, and can be resumed.
    if (code !== 143)
      violations.push(`The coordinator ended with ${code}: ${this.coordinator.output}`);
    await Promise.all(this.honest.map((worker) => worker.end('SIGTERM')));
    for (const { name, wrong } of [this.coordinator, ...this.honest]) {
      if (wrong !== null) violations.push(`${name} said: ${wrong}`);
    }
    const path = join(this.path, 'result.json');
    const result = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as RunResult) : null;
    return { result, violations };
  }
}

/** Steps, and how long the coordinator's event loop has run and waited for a processor by then, ms. */
export interface Moment {
  readonly at: number;
  readonly numSteps: number;
  readonly ranMs: number;
  readonly waitedMs: number;
}

/** What a step took of the coordinator, ms; null if there was none. */
function costOfStep(from: Moment, to: Moment): number | null {
  const numSteps = to.numSteps - from.numSteps;
  return numSteps === 0 ? null : (to.ranMs - from.ranMs) / numSteps;
}

/** @throws {Error} if it does not come to pass */
export async function until(isSo: () => boolean, withinMs = 60_000): Promise<void> {
  const by = performance.now() + withinMs;
  while (!isSo()) {
    if (performance.now() > by) throw new Error(`Waited ${withinMs / 1000} s in vain`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

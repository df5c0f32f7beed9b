/**
 * A trace of a run for chrome://tracing and https://ui.perfetto.dev: coordinator and workers on one clock, that of the
 * coordinator. Written as the run goes, and valid JSON at any moment.
 *
 * Trace Event Format, JSON array,
 * https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 *
 * Each process of the trace is a machine of the run: 1 the coordinator, from 2 on the workers.
 */
import { appendFile, copyFile, rename, rm, truncate } from 'node:fs/promises';
import { messageOf } from '../../shared/errors.js';
import { createAppendFile } from '../../shared/node/append-file.js';
import type {
  CheckpointDone,
  EvaluationDone,
  Observer,
  RunEvent,
  RunStarted,
  StepDone,
} from '../events.js';

export interface Trace {
  readonly observe: Observer;
  /** Writes what is left and closes the file. Does not reject. */
  close(): Promise<void>;
}

export interface TraceOptions {
  /** Told when the disk does not take the trace. */
  readonly warn: (message: string) => void;
}

const COORDINATOR = 1;
const FIRST_WORKER = 2;

/** Rows of the coordinator: what overlaps must not stand in one. */
const STEPS = 1;
const EVALUATIONS = 2;
const CHECKPOINTS = 3;
/** The row of a worker; frames on their way have rows of their own, as they may overlap. */
const COMPUTE = 1;

/** One event of the format; times in µs since the start of the run. */
interface TraceEvent {
  readonly name: string;
  readonly ph: 'X' | 'M' | 'i' | 'b' | 'e';
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly id?: number;
  readonly s?: 'g';
  readonly args?: object;
}

/** Between two times at which the trace is put in place, ms; longer where that itself takes long. */
const PUBLISH_EVERY_MS = 1_000;
/** Of the time, what putting it in place may take. */
const PUBLISH_SHARE = 0.05;
const END = '\n]\n';

/**
 * Begins a trace, in place of one that is there.
 *
 * Events are added to a file beside it; the trace is replaced by a copy of that now and then, as nothing that grows is
 * whole for a reader who takes its length first.
 */
export function createTrace(path: string, { warn }: TraceOptions): Trace {
  const growing = `${path}.growing.partial`;
  const copy = `${path}.partial`;
  const file = createAppendFile(growing, { warn, truncate: true });
  const convert = createTraceEvents();
  let timer: NodeJS.Timeout | null = null;
  let publishing: Promise<void> = Promise.resolve();
  let waitMs = 0;
  let isBehind = false;
  let isClosed = false;
  let separator = '[\n';

  const plan = () => {
    timer ??= setTimeout(() => {
      isBehind = false;
      publishing = publish().then(() => {
        timer = null;
        if (isBehind && !isClosed) plan();
      });
    }, waitMs).unref();
  };
  const publish = async () => {
    const startedAt = performance.now();
    try {
      await file.flush();
      // What is written meanwhile comes after it.
      const { numBytes } = file;
      if (numBytes > 0) {
        await copyFile(growing, copy);
        await finish(copy, numBytes);
      }
    } catch {
      // The file itself says what the disk does not take.
      await rm(copy, { force: true }).catch(() => undefined);
    }
    waitMs = Math.max(PUBLISH_EVERY_MS, (performance.now() - startedAt) / PUBLISH_SHARE);
  };
  const finish = async (from: string, numBytes: number) => {
    await truncate(from, numBytes);
    await appendFile(from, END);
    await rename(from, path);
  };
  const observe: Observer = (event) => {
    const traced = convert(event);
    if (traced.length === 0) return;
    file.append(separator + JSON.stringify(traced).slice(1, -1));
    separator = ',\n';
    isBehind = true;
    plan();
  };
  return {
    observe,
    async close() {
      isClosed = true;
      if (timer !== null) clearTimeout(timer);
      await publishing;
      if (separator === '[\n') file.append('[');
      await file.close();
      try {
        await finish(growing, file.numBytes);
      } catch (error) {
        warn(`Cannot finish ${path}: ${messageOf(error)}`);
        await rm(growing, { force: true }).catch(() => undefined);
      }
    },
  };
}

/** What an event of the run adds to its trace. */
export function createTraceEvents(): (event: RunEvent) => TraceEvent[] {
  let start: number | null = null;
  let numFrames = 0;
  const pids = new Map<string, number>();

  /** µs since the first event, to 0.1. */
  const ts = (time: number) => tenths(1000 * (time - (start ?? 0)));
  /** Ends are rounded as starts are, so that the parts of a step stay within it. */
  const slice = (
    name: string,
    [pid, tid]: readonly [pid: number, tid: number],
    from: number,
    to: number,
    args?: object,
  ): TraceEvent => ({
    name,
    ph: 'X',
    pid,
    tid,
    ts: ts(from),
    dur: Math.max(0, tenths(ts(to) - ts(from))),
    ...(args && { args }),
  });
  const instant = (name: string, time: number, args: object): TraceEvent => ({
    name,
    ph: 'i',
    pid: COORDINATOR,
    tid: STEPS,
    ts: ts(time),
    s: 'g',
    args,
  });

  const started = (event: RunStarted): TraceEvent[] => [
    processName(COORDINATOR, `coordinator of ${event.name}`),
    threadName(COORDINATOR, STEPS, 'steps'),
    threadName(COORDINATOR, EVALUATIONS, 'evaluations'),
    threadName(COORDINATOR, CHECKPOINTS, 'checkpoints'),
    instant('run started', event.time, {
      runId: event.runId,
      globalStep: event.globalStep,
      unixTimeMs: event.time,
    }),
  ];

  /** The worker's process; a worker that was never announced gets one as well. */
  const pidOf = (workerId: string): number => {
    const known = pids.get(workerId);
    if (known !== undefined) return known;
    const pid = FIRST_WORKER + pids.size;
    pids.set(workerId, pid);
    return pid;
  };

  const stepped = (event: StepDone): TraceEvent[] => {
    const { times, globalStep } = event;
    const row = [COORDINATOR, STEPS] as const;
    const startedAt = event.time - times.totalMs;
    const traced = [
      slice(`step ${globalStep}`, row, startedAt, event.time, {
        epoch: event.epoch,
        numImages: event.numImages,
        loss: event.loss,
        accuracy: event.accuracy,
      }),
    ];
    let time = startedAt;
    for (const [name, durationMs] of [
      ['wait', times.waitMs],
      ['plan', times.planMs],
      ['broadcast', times.broadcastMs],
      ['gather', times.computeMs + times.wireMs],
      ['reduce', times.reduceMs],
      ['update', times.updateMs],
    ] as const) {
      const end = Math.min(time + durationMs, event.time);
      if (durationMs > 0) traced.push(slice(name, row, time, end));
      if (name === 'gather') {
        const computed = Math.min(time + times.computeMs, end);
        traced.push(slice('compute', row, time, computed), slice('wire', row, computed, end));
      }
      time = end;
    }
    for (const partial of event.partials) {
      const { workerId, range, startedAt, computeMs, receivedAt, wasUsed } = partial;
      const pid = pidOf(workerId);
      const args = { globalStep, range, ...(!wasUsed && { wasUsed }) };
      const name = wasUsed ? 'compute' : 'compute (not used)';
      const sentAt = startedAt + computeMs;
      traced.push(slice(name, [pid, COMPUTE], startedAt, sentAt, args));
      const frame = { cat: 'wire', name: 'wire', id: ++numFrames, pid, tid: COMPUTE };
      traced.push(
        { ...frame, ph: 'b', ts: ts(sentAt), args },
        { ...frame, ph: 'e', ts: ts(Math.max(sentAt, receivedAt)) },
      );
    }
    return traced;
  };

  const evaluated = (event: EvaluationDone): TraceEvent[] => {
    const { set, globalStep, loss, accuracy, seconds, time } = event;
    const row = [COORDINATOR, EVALUATIONS] as const;
    const args = { globalStep, loss, accuracy };
    return [slice(`evaluate (${set})`, row, time - 1000 * seconds, time, args)];
  };

  const saved = (event: CheckpointDone): TraceEvent[] => {
    const { globalStep, bytes, seconds, time } = event;
    const row = [COORDINATOR, CHECKPOINTS] as const;
    const args = { globalStep, bytes };
    return [slice('checkpoint', row, time - 1000 * seconds, time, args)];
  };

  return (event) => {
    start ??= event.time;
    switch (event.type) {
      case 'started':
        return started(event);
      case 'step':
        return stepped(event);
      case 'evaluation':
        return evaluated(event);
      case 'checkpoint':
        return saved(event);
      case 'workerJoined': {
        const pid = pidOf(event.workerId);
        const { name, engine, host, workerId } = event;
        return [
          processName(pid, `${name} (${engine}, ${host})`),
          threadName(pid, COMPUTE, 'compute'),
          instant(`${name} joined`, event.time, { workerId, engine, host }),
        ];
      }
      case 'workerLost': {
        const { name, workerId, phase, message } = event;
        return [instant(`${name} lost`, event.time, { workerId, phase, message })];
      }
      case 'paused':
        return [instant(event.isPaused ? 'paused' : 'resumed', event.time, {})];
      case 'finished':
        return [instant('run finished', event.time, { outcome: event.result.outcome })];
      case 'workerPinged':
      case 'waiting':
      case 'notice':
        return [];
    }
  };
}

function tenths(value: number): number {
  return Math.round(10 * value) / 10;
}

function processName(pid: number, name: string): TraceEvent {
  return { name: 'process_name', ph: 'M', pid, tid: 0, args: { name } };
}

function threadName(pid: number, tid: number, name: string): TraceEvent {
  return { name: 'thread_name', ph: 'M', pid, tid, args: { name } };
}

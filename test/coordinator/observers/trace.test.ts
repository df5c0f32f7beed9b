import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import type { RunEvent } from '../../../src/coordinator/events.js';
import { createTrace, createTraceEvents } from '../../../src/coordinator/observers/trace.js';
import * as events from '../../support/run-events.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

type TraceEvent = ReturnType<ReturnType<typeof createTraceEvents>>[number];

function traceOf(stream: RunEvent[]): TraceEvent[] {
  const convert = createTraceEvents();
  return stream.flatMap((event) => convert(event));
}

/** Durations of the events that have one, ms, by process, name and order: `bert wire 0`. */
function durations(trace: TraceEvent[]): Record<string, number> {
  const names = new Map<number, string>();
  const result: Record<string, number> = {};
  const add = (event: TraceEvent, microseconds: number) => {
    const process = names.get(event.pid)!.split(' ')[0];
    for (let index = 0; ; index++) {
      const key = `${process} ${event.name} ${index}`;
      if (key in result) continue;
      result[key] = microseconds / 1000;
      return;
    }
  };
  const begun = new Map<number, TraceEvent>();
  for (const event of trace) {
    if (event.name === 'process_name') {
      names.set(event.pid, (event.args as { name: string }).name);
    }
    if (event.ph === 'X') add(event, event.dur!);
    if (event.ph === 'b') begun.set(event.id!, event);
    if (event.ph === 'e') add(event, event.ts! - begun.get(event.id!)!.ts!);
  }
  return result;
}

const start = [events.started(), events.joined('anna'), events.joined('bert', { worldSize: 2 })];

describe('createTraceEvents()', () => {
  it('shows the parts of a step on the coordinator, and each partial on its worker', () => {
    const durationsMs = durations(
      traceOf([...start, events.step(0, { times: events.times({ waitMs: 1 }) })]),
    );
    const expected = {
      'coordinator step 0 0': 5,
      'coordinator wait 0': 1,
      'coordinator plan 0': 0.1,
      'coordinator broadcast 0': 0.2,
      'coordinator gather 0': 3.4,
      'coordinator compute 0': 3,
      'coordinator wire 0': 0.4,
      'coordinator reduce 0': 0.1,
      'coordinator update 0': 0.2,
      'anna compute 0': 3,
      'anna wire 0': 0.4,
      'bert compute 0': 3,
      'bert wire 0': 0.4,
    };
    expect(Object.keys(durationsMs)).toEqual(Object.keys(expected));
    for (const [key, value] of Object.entries(expected)) {
      expect(durationsMs[key], key).toBeCloseTo(value, 3); // a double holds today's time in ms to 0.0002
    }
  });

  it("shows one worker's 50 ms sending delay there and nowhere else", () => {
    const undisturbed = durations(traceOf([...start, events.step(0)]));
    const startedAt = events.START;
    const delayed = durations(
      traceOf([
        ...start,
        events.step(0, {
          time: startedAt + 54,
          times: events.times({ wireMs: 50.4 }),
          partials: [events.partial('anna', startedAt), events.partial('bert', startedAt, 50.4)],
        }),
      ]),
    );
    const changed = Object.entries(delayed)
      .map(([key, value]) => [key, Math.round(value - undisturbed[key])] as const)
      .filter(([, difference]) => difference !== 0);
    // The worker's wire, and the coordinator's wait for it
    expect(Object.fromEntries(changed)).toEqual({
      'bert wire 0': 50,
      'coordinator step 0 0': 50,
      'coordinator gather 0': 50,
      'coordinator wire 0': 50,
    });
  });

  it('nests overlapping events of a row', () => {
    const stream: RunEvent[] = [...start];
    for (let t = 0; t < 300; t++) {
      const parts = { planMs: 0.1 + t / 3000, computeMs: 1 + Math.sin(t) / 7, updateMs: t / 7001 };
      const times = events.times(parts);
      stream.push(events.step(t, { time: events.START + 4 * t + 4 + t / 9001, times }));
    }
    const ends: number[] = [];
    for (const { pid, tid, ph, ts, dur } of traceOf(stream)) {
      if (ph !== 'X' || pid !== 1 || tid !== 1) continue;
      while (ends.length > 0 && ends.at(-1)! <= ts! + 0.01) ends.pop();
      if (ends.length > 0) expect(ts! + dur!).toBeLessThanOrEqual(ends.at(-1)! + 0.01);
      ends.push(ts! + dur!);
    }
  });

  it('puts evaluations and checkpoints, which overlap steps, in rows of their own', () => {
    const trace = traceOf([...start, events.evaluation(), events.checkpoint()]);
    const rows = trace
      .filter(({ ph }) => ph === 'X')
      .map(({ name, pid, tid, dur }) => [name, pid, tid, dur]);
    expect(rows).toEqual([
      ['evaluate (test)', 1, 2, 310_000],
      ['checkpoint', 1, 3, 8000],
    ]);
  });

  it('marks partials that were not used', () => {
    const unused = events.partial('bert', events.START, 0.4, { wasUsed: false });
    const names = traceOf([...start, events.step(0, { partials: [unused] })])
      .filter(({ pid, ph }) => pid === 3 && ph === 'X')
      .map(({ name }) => name);
    expect(names).toEqual(['compute (not used)']);
  });

  it('has no negative times if clocks are slightly off', () => {
    const early = events.partial('anna', events.START, -1);
    for (const { dur } of traceOf([...start, events.step(0, { partials: [early] })])) {
      expect(dur ?? 0).toBeGreaterThanOrEqual(0);
    }
  });

  it('marks the events of a run', () => {
    const moments = traceOf([...start, events.lost('bert'), events.finished()])
      .filter(({ ph }) => ph === 'i')
      .map(({ name, ts }) => [name, ts]);
    expect(moments).toEqual([
      ['run started', 0],
      ['anna joined', 0],
      ['bert joined', 0],
      ['bert lost', 50_000],
      ['run finished', 45_000_000],
    ]);
  });
});

describe('createTrace()', () => {
  const warn = (message: string) => expect.fail(`Unexpected warning: ${message}`);
  const stream = [...start, events.step(0), events.step(1), events.finished()];

  it('writes a JSON array', async () => {
    const path = join(await temporaryDirectory(), 'trace.json');
    const trace = createTrace(path, { warn });
    for (const event of stream) trace.observe(event);
    await trace.close();
    expect(JSON.parse(await readFile(path, 'utf8'))).toEqual(traceOf(stream));
  });

  it('writes an empty array without events', async () => {
    const path = join(await temporaryDirectory(), 'trace.json');
    await createTrace(path, { warn }).close();
    expect(JSON.parse(await readFile(path, 'utf8'))).toEqual([]);
  });

  it('is a JSON array at any time, and leaves no other files', async () => {
    const dir = await temporaryDirectory();
    const path = join(dir, 'trace.json');
    const trace = createTrace(path, { warn });
    const read = async () => {
      const text = await readFile(path, 'utf8').catch(() => '[]');
      return JSON.parse(text) as TraceEvent[];
    };
    for (const [index, event] of stream.slice(0, 3).entries()) {
      trace.observe(event);
      const expected = traceOf(stream.slice(0, index + 1));
      await vi.waitUntil(async () => (await read()).length === expected.length, {
        timeout: 20_000,
      });
      expect(await read()).toEqual(expected);
    }
    for (const event of stream.slice(3)) trace.observe(event);
    await trace.close();
    expect(await read()).toEqual(traceOf(stream));
    expect(await readdir(dir)).toEqual(['trace.json']);
  });
});

import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  canShowStatus,
  createTerminalStatus,
} from '../../../src/coordinator/observers/terminal-status.js';
import { createLog } from '../../../src/shared/node/log.js';
import { createManualClock } from '../../support/manual-clock.js';
import { createScreen } from '../../support/screen.js';
import * as events from '../../support/run-events.js';

beforeEach(() => {
  vi.stubEnv('TERM', 'xterm-256color');
  vi.stubEnv('NO_COLOR', '');
});
afterEach(() => {
  vi.unstubAllEnvs();
});

/** A status and its log on a screen of that size. */
function createBench(columns = 100, rows = 20) {
  const screen = createScreen(columns, rows);
  const frames: string[] = [];
  const stream = Object.assign(
    new Writable({
      decodeStrings: false,
      write(chunk: string, _encoding, done) {
        if (chunk !== '') frames.push(chunk);
        screen.write(chunk);
        done();
      },
    }),
    { isTTY: true, columns, rows },
  );
  const clock = createManualClock(events.START);
  const log = createLog({ level: 'info', stream });
  const status = createTerminalStatus({ log, stream, clock });
  onTestFinished(status.close);
  status.observe(events.started());
  status.observe(events.joined('anna'));
  const shown = async () =>
    (await screen.lines()).map((line) => line.replace(/^\d\d:\d\d:\d\d /, ''));
  return { screen, frames, stream, clock, log, status, shown };
}

describe('createTerminalStatus()', () => {
  it('redraws in place', async () => {
    const { clock, status, shown } = createBench();
    for (let t = 0; t < 100; t++) {
      status.observe(events.step(t));
      clock.advance(50);
    }
    expect(await shown()).toEqual([
      expect.stringMatching(/^epoch {2}1\/12 .* step 100\/11,256/),
      expect.stringMatching(/^loss 0.5000 .* accuracy 87.50 %/),
      expect.stringMatching(/^16,000 images\/s/),
      expect.stringMatching(/^● {2}anna/),
    ]);
  });

  it('lets log lines scroll by above', async () => {
    const { clock, log, status, shown } = createBench();
    for (let t = 0; t < 40; t++) {
      status.observe(events.step(t));
      log.info(`line ${t}`);
      clock.advance(30);
    }
    const lines = await shown();
    expect(lines.slice(0, 40)).toEqual(Array.from({ length: 40 }, (_, t) => `line ${t}`));
    expect(lines).toHaveLength(44);
    expect(lines[40]).toMatch(/step 40\/11,256/);
  });

  it('draws at most ten times per second, and not at all if nothing changes', () => {
    const { clock, frames, status } = createBench();
    const before = frames.length;
    for (let t = 0; t < 1000; t++) {
      status.observe(events.step(t));
      clock.advance(1);
    }
    expect(frames.length - before).toBe(10);
    clock.advance(10_000);
    expect(frames.length - before).toBeLessThanOrEqual(11);
  });

  it('leaves the log lines and the cursor behind', async () => {
    const { clock, frames, log, status, shown } = createBench();
    log.info('one');
    clock.advance(1000);
    status.close();
    status.close();
    log.info('two');
    expect(await shown()).toEqual(['one', 'two']);
    const output = frames.join('');
    expect(output.split('\x1b[?25l')).toHaveLength(2);
    expect(output.split('\x1b[?25h')).toHaveLength(2);
    expect(output.lastIndexOf('\x1b[?25h')).toBeGreaterThan(output.lastIndexOf('\x1b[J'));
  });

  it.each([20, 40, 79, 120])('keeps to its own lines in %d columns', async (columns) => {
    const { clock, log, status, shown } = createBench(columns, 30);
    for (let t = 0; t < 20; t++) {
      status.observe(events.step(t));
      if (t % 5 === 0) log.info(`line ${t}`);
      clock.advance(100);
    }
    const lines = await shown();
    expect(lines.slice(0, 4)).toEqual(['line 0', 'line 5', 'line 10', 'line 15']);
    expect(lines.filter((line) => line.startsWith('epoch'))).toHaveLength(1);
    expect(lines.filter((line) => line.startsWith('loss'))).toHaveLength(1);
  });

  it.each([
    ['wider', [60, 80, 110, 140]],
    ['narrower', [99, 60, 30, 20]],
  ])('adapts to a window that becomes %s, and overwrites no log line', async (direction, sizes) => {
    const { clock, log, screen, status, stream, shown } = createBench(sizes[0]);
    for (const [index, columns] of sizes.entries()) {
      screen.resize(columns, 20);
      await screen.lines();
      stream.columns = columns;
      stream.emit('resize');
      status.observe(events.step(index));
      log.info(`line ${index}`);
      clock.advance(100);
    }
    clock.advance(500);
    const lines = await shown();
    expect(lines.filter((line) => line.startsWith('line'))).toHaveLength(sizes.length);
    expect(lines.at(-1)).toMatch(/^● {2}anna .*50 %/);
    // xterm moves the cursor down with lines that it wraps below it, so parts of one old frame stay above the new one.
    const frames = lines.filter((line) => line.startsWith('epoch'));
    expect(frames.length).toBeLessThanOrEqual(direction === 'wider' ? 1 : 2);
  });

  it('stays within a window of only a few rows', async () => {
    const { clock, log, status, shown } = createBench(80, 5);
    for (let t = 0; t < 5; t++) {
      status.observe(events.joined(`worker-${t}`));
      status.observe(events.step(t));
      log.info(`line ${t}`);
      clock.advance(100);
    }
    const lines = await shown();
    expect(lines.slice(0, 5)).toEqual(['line 0', 'line 1', 'line 2', 'line 3', 'line 4']);
    expect(lines.filter((line) => line.startsWith('epoch'))).toHaveLength(1);
  });

  it('removes its listeners', () => {
    const counts = () =>
      ['exit', 'SIGINT', 'SIGTERM', 'SIGHUP'].map((name) => process.listenerCount(name));
    const before = counts();
    const { status, stream } = createBench();
    status.close();
    expect(counts()).toEqual(before);
    expect(stream.listenerCount('resize')).toBe(0);
  });
});

describe('canShowStatus()', () => {
  it('requires a terminal that can move the cursor', () => {
    const stream = (isTTY: boolean) => Object.assign(new Writable(), { isTTY });
    expect(canShowStatus(stream(true))).toBe(true);
    expect(canShowStatus(stream(false))).toBe(false);
    expect(canShowStatus(new Writable())).toBe(false);
    vi.stubEnv('TERM', 'dumb');
    expect(canShowStatus(stream(true))).toBe(false);
  });
});

/**
 * The live status on a pseudo-terminal, in a process of its own: what a user at a terminal would see.
 */
import type * as pty from '@lydell/node-pty';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundle } from '../../support/bundle.js';
import { createScreen } from '../../support/screen.js';

// node-pty needs a prebuilt binary, which does not exist for every platform.
const terminals: typeof pty | null = await import('@lydell/node-pty').catch((error: unknown) => {
  if (process.env.CI) throw error;
  console.warn(`No pseudo-terminal on this platform, tests are skipped: ${String(error)}`);
  return null;
});

let folder: string;
let program: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-'));
  program = await bundle('terminal-program', folder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Ended {
  readonly output: string;
  readonly lines: string[];
  readonly exitCode: number;
  readonly signal: number | undefined;
}

interface Session {
  readonly columns?: number;
  readonly ending?: 'finish' | 'wait';
  readonly environment?: Record<string, string>;
  /** Called once, when the text is on the screen. */
  readonly when?: string;
  readonly act?: (terminal: pty.IPty) => void;
}

function runOnTerminal(session: Session = {}): Promise<Ended> {
  const { columns = 100, ending = 'finish', environment = {}, when = '', act } = session;
  const screen = createScreen(columns, 24);
  // At Ctrl-C a terminal throws away what it has not shown yet, which may be half of a frame, unless it is told not to.
  const command = ['-c', 'stty noflsh; exec "$@"', 'sh', process.execPath, program, ending];
  const terminal = terminals!.spawn('sh', command, {
    cols: columns,
    rows: 24,
    env: { PATH: process.env.PATH, TERM: 'xterm-256color', ...environment },
  });
  let output = '';
  let hasActed = false;
  terminal.onData((data) => {
    output += data;
    screen.write(data);
    if (hasActed || act === undefined || !output.includes(when)) return;
    hasActed = true;
    act(terminal);
  });
  return new Promise((resolve) => {
    terminal.onExit(({ exitCode, signal }) => {
      void screen.lines().then((lines) =>
        resolve({
          output,
          lines: lines.map((line) => line.replace(/^\d\d:\d\d:\d\d /, '')),
          exitCode,
          signal,
        }),
      );
    });
  });
}

const HIDE_CURSOR = '\x1b[?25l';
const SHOW_CURSOR = '\x1b[?25h';
const logLines = ['line 0', 'line 20', 'line 40', 'line 60', 'line 80', 'line 100'];

describe.skipIf(terminals === null)('live status on a pseudo-terminal', () => {
  it('leaves the log lines and the cursor behind', async () => {
    const { output, lines, exitCode } = await runOnTerminal();
    expect(exitCode).toBe(0);
    expect(lines).toEqual([...logLines, 'done']);
    expect(output).toContain('images/s');
    expect(output).toContain(HIDE_CURSOR);
    expect(output.lastIndexOf(SHOW_CURSOR)).toBeGreaterThan(output.lastIndexOf(HIDE_CURSOR));
  });

  it('fits in a window of 20 columns', async () => {
    const { output, lines } = await runOnTerminal({ columns: 20 });
    expect(lines).toEqual([...logLines, 'done']);
    expect(output).toContain('loss 0.5000');
  });

  it('restores the cursor on Ctrl-C', async () => {
    const { output, lines, signal } = await runOnTerminal({
      ending: 'wait',
      when: 'line 20',
      act: (terminal) => terminal.write('\x03'),
    });
    expect(signal).toBe(2);
    expect(output.trimEnd().endsWith(SHOW_CURSOR)).toBe(true);
    expect(lines.join('\n')).not.toContain('epoch');
  });

  it('adapts to the window size', async () => {
    const { output, lines } = await runOnTerminal({
      columns: 40,
      when: 'line 20',
      act: (terminal) => terminal.resize(100, 24),
    });
    expect(output).toMatch(/━|─/); // no room for the bar at 40
    expect(lines.filter((line) => line.startsWith('line'))).toEqual(logLines);
  });

  it('has no colours with NO_COLOR', async () => {
    const { output } = await runOnTerminal({ environment: { NO_COLOR: '1' } });
    expect(output).toContain('images/s');
    expect(output).not.toMatch(/\x1b\[\d+m/);
  });

  it('prints plain lines on a terminal that cannot move its cursor', async () => {
    const { output } = await runOnTerminal({ environment: { TERM: 'dumb' } });
    expect(output).not.toContain('\x1b');
    expect(output.match(/line \d+/g)).toEqual(logLines);
  });
});

describe('output into a pipe', () => {
  it('has plain lines without control characters', async () => {
    const child = spawn(process.execPath, [program, 'finish'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    for await (const chunk of child.stdout) output += String(chunk);
    expect(output.match(/line \d+/g)).toEqual(logLines);
    expect(output.replaceAll('\n', '')).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
  });
});

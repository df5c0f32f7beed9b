/** A process that is started again whenever it ends, as a supervisor does it, until it is told to be done. */
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { MAIN } from '../program.js';

/** A slowed process computes this long of every SLOW_PERIOD_MS: a tenth. */
const SLOW_RUN_MS = 5;
const SLOW_PERIOD_MS = 50;
/** Who asks to stop asks more than once: a process group, npm and a supervisor pass the same request on, ms. */
const REPEAT_AFTER_MS = [2, 30, 400];

export class Supervised {
  /** Ends that nobody asked for: exit codes that are not 0, nor that of the signal. */
  readonly failures: string[] = [];
  numStarts = 0;
  /** Whether the process was asked to end; a run that was not over then ends with code 143. */
  private wasTerminated = false;
  private readonly name: string;
  private readonly args: readonly string[];
  private readonly isDone: () => boolean;
  /** Called when the process has ended, by a code or a signal, before it is started again. */
  onExit: (code: number | null, signal: NodeJS.Signals | null) => void = () => undefined;
  private child: ChildProcess | null = null;
  private restartAfterMs = 200;
  private restart: NodeJS.Timeout | null = null;
  private slowing: NodeJS.Timeout | null = null;
  private isClosed = false;
  private isFinishing = false;
  private resolveEnded: () => void = () => undefined;
  /** Resolves when it has ended for good. */
  readonly ended = new Promise<void>((resolve) => (this.resolveEnded = resolve));

  /** @param isDone asked when it has ended with code 0: whether that was the end of the run */
  constructor(name: string, args: readonly string[], isDone: () => boolean) {
    this.name = name;
    this.args = args;
    this.isDone = isDone;
    this.start();
  }

  /** Whether there is a process to do something to. */
  get isRunning(): boolean {
    return this.child !== null;
  }

  /** Sends a signal that ends it, SIGTERM several times; it is started again after a while. */
  end(signal: 'SIGKILL' | 'SIGTERM', restartAfterMs: number): void {
    this.goOn();
    this.restartAfterMs = restartAfterMs;
    const { child } = this;
    child?.kill(signal);
    if (signal !== 'SIGTERM') return;
    this.wasTerminated = true;
    for (const afterMs of REPEAT_AFTER_MS) setTimeout(() => child?.kill(signal), afterMs);
  }

  /** Asks it to end for good. */
  finish(): void {
    this.isFinishing = true;
    this.goOn();
    if (this.restart) clearTimeout(this.restart);
    if (this.child) this.end('SIGTERM', 0);
    else this.resolveEnded();
  }

  /** Stops it for a while, as a machine that hangs does. */
  stop(durationMs: number): void {
    this.goOn();
    this.child?.kill('SIGSTOP');
    this.slowing = setTimeout(() => this.goOn(), durationMs);
  }

  /** Lets it run for a tenth of the time, for a while. */
  slow(durationMs: number): void {
    this.goOn();
    const until = performance.now() + durationMs;
    const turn = (isRunning: boolean) => {
      if (performance.now() > until) {
        this.goOn();
        return;
      }
      this.child?.kill(isRunning ? 'SIGSTOP' : 'SIGCONT');
      const waitMs = isRunning ? SLOW_PERIOD_MS - SLOW_RUN_MS : SLOW_RUN_MS;
      this.slowing = setTimeout(() => turn(!isRunning), waitMs);
    };
    turn(true);
  }

  /** Resident memory, MB; null where it does not run, or the system has no /proc. */
  residentMb(): number | null {
    if (!this.child) return null;
    try {
      const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
      return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024;
    } catch {
      return null;
    }
  }

  /** Ends it for good. */
  async close(): Promise<void> {
    this.isClosed = true;
    this.goOn();
    if (this.restart) clearTimeout(this.restart);
    if (!this.child) this.resolveEnded();
    this.child?.kill('SIGKILL');
    await this.ended;
  }

  private goOn(): void {
    if (this.slowing) clearTimeout(this.slowing);
    this.slowing = null;
    this.child?.kill('SIGCONT');
  }

  private start(): void {
    this.numStarts++;
    this.wasTerminated = false;
    const child = spawn(process.execPath, [MAIN, ...this.args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.child = child;
    // It does not outlive whoever started it, whatever ends that one.
    const end = () => child.kill('SIGKILL');
    process.once('exit', end);
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-2000)));
    child.once('exit', (code, signal) => {
      this.child = null;
      process.off('exit', end);
      if (this.slowing) clearTimeout(this.slowing);
      this.onExit(code, signal);
      const isAsked = code === 143 && this.wasTerminated;
      if (signal === null && code !== 0 && !isAsked)
        this.failures.push(`${this.name} ended with code ${String(code)}: ${errors}`);
      const isOver = this.isClosed || this.isFinishing || (code === 0 && this.isDone());
      if (isOver || this.failures.length > 3) {
        this.resolveEnded();
        return;
      }
      this.restart = setTimeout(() => this.start(), this.restartAfterMs);
      this.restartAfterMs = 200;
    });
  }
}

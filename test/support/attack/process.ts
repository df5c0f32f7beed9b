/** `lockstep` as a process that tells how it fares. */
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { MAIN } from '../program.js';

const PROBE = fileURLToPath(new URL('probe.mjs', import.meta.url));
/** A line that no user should see, and no stranger should bring about. */
const WRONG = /^.*(Internal error|cannot be answered|\n +at |Unhandled).*$/m;
/** For an answer of the probe, ms. */
const ANSWER_MS = 30_000;

/** How a process fares. */
export interface Vitals {
  /** The longest that its event loop was blocked since it was asked last, ms of processor time. */
  readonly blockedMs: number;
  /** For how long its main thread, with the event loop, has run since it began, and waited for a processor, ms. */
  readonly ranMs: number;
  readonly waitedMs: number;
  readonly residentMb: number;
  readonly numDescriptors: number;
}

export class LockstepProcess {
  readonly name: string;
  readonly ended: Promise<number | NodeJS.Signals>;
  isOver = false;
  /** The end of what it wrote. */
  output = '';
  /** What it said that it should not have. */
  wrong: string | null = null;
  private readonly child: ChildProcess;
  private hear: () => void = () => undefined;

  constructor(name: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.name = name;
    this.child = spawn(process.execPath, ['--import', PROBE, MAIN, ...args], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: { ...process.env, ...env },
    });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.on('data', (chunk: Buffer) => {
        const text = chunk.toString();
        this.output = (this.output + text).slice(-20_000);
        this.wrong ??= WRONG.exec(text)?.[0] ?? null;
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

  /**
   * @param isSettled collects garbage before, and begins the longest block anew
   * @throws {Error} if it ends, or does not answer
   */
  async vitals(isSettled = false): Promise<Vitals> {
    if (this.isOver) throw new Error(`${this.name} ended: ${this.output}`);
    const answer = new Promise<Vitals>((resolve) =>
      this.child.once('message', (message) => resolve(message as Vitals)),
    );
    this.child.send({ isSettled });
    return within(ANSWER_MS, `${this.name} does not answer its probe`, answer, this.ended);
  }

  /** @returns its exit code */
  async end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals> {
    if (!this.isOver) this.child.kill(signal);
    return this.ended;
  }
}

/** @throws {Error} with the message, if the answer does not come in time or the process ends first */
async function within<T>(
  ms: number,
  message: string,
  answer: Promise<T>,
  ended: Promise<unknown>,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(message)), ms);
    void ended.then(() => reject(new Error(`${message}: it ended`)));
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

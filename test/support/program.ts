/** `lockstep` as a process of its own, as built in dist/. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

export interface Program {
  readonly process: ChildProcess;
  /** What it has written so far, to both streams. */
  readonly output: () => string;
  /** Resolves with the match as soon as the output has it; rejects when the process ends without. */
  readonly says: (pattern: RegExp) => Promise<RegExpExecArray>;
  /** Resolves when the process has ended, after the signal if there is one. */
  readonly end: (signal?: NodeJS.Signals) => Promise<void>;
}

/** @throws {Error} if the project is not built */
export function startProgram(...args: string[]): Program {
  if (!existsSync(MAIN)) throw new Error(`No ${MAIN}: npm run build comes first`);
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const listeners = new Set<() => void>();
  const hear = (chunk: Buffer) => {
    output += chunk.toString();
    for (const listener of [...listeners]) listener();
  };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  return {
    process: child,
    output: () => output,
    says: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(output);
          if (!match) return;
          listeners.delete(look);
          resolve(match);
        };
        listeners.add(look);
        look();
        void ended.then(() =>
          reject(new Error(`lockstep ${args[0]} ended without ${pattern}:\n${output}`)),
        );
      }),
    end: (signal) => {
      if (signal && child.exitCode === null) child.kill(signal);
      return ended;
    },
  };
}

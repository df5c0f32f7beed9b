/** The last words of the process: one sentence for the user, the stack for the log. */
import { appendFileSync, writeSync } from 'node:fs';
import { BOOLEAN_WORDS } from '../shared/boolean-words.js';
import { UsageError, UserError, messageOf } from '../shared/errors.js';
import { printable } from '../shared/printable.js';
import { exitCodeOf, isStopSignal } from './signals.js';

let logPath: string | null = null;

/** From now on the stack of an error that nobody expected goes to this log, a line of JSON. */
export function keepStacksIn(path: string): void {
  logPath = path;
}

/** Ends the process for an error that nobody catches, as `endWith` does. */
export function catchTheRest(): void {
  process.on('uncaughtException', endWith);
}

/** Ends the process: with code 2 if what was asked for cannot be meant, quietly if it was asked to stop, else with 1. */
export function endWith(error: unknown): never {
  if (isStopSignal(error)) process.exit(exitCodeOf(error));
  say(error instanceof UserError ? messageOf(error) : unexpected(error));
  process.exit(error instanceof UsageError ? 2 : 1);
}

/** Its sentence; the stack goes where it can be found, or where it is wanted. */
function unexpected(error: unknown): string {
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  if (BOOLEAN_WORDS.get(process.env.LOCKSTEP_DEBUG?.toLowerCase() ?? '')) say(stack);
  const hint = isOutOfFiles(error)
    ? 'too many files are open for the limit of this process; raise it, as with ulimit -n 1024'
    : writeStack(messageOf(error), stack);
  return `${messageOf(error)}; ${hint}`;
}

/** @returns where the stack is, or how to see it */
function writeStack(message: string, stack: string): string {
  if (logPath !== null) {
    try {
      const line = { time: new Date(), level: 'error', message, stack };
      appendFileSync(logPath, `${JSON.stringify(line)}\n`);
      return `this was not expected, and ${logPath} says where it happened`;
    } catch {
      // The disk may be what is wrong.
    }
  }
  return 'this was not expected; LOCKSTEP_DEBUG=1 shows where it happened';
}

/** Where few files may be open, packages that are there seem not to be. */
const FEW_FILES = 256;

function isOutOfFiles(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code ?? '';
  if (code === 'EMFILE' || code === 'ENFILE') return true;
  return code === 'ERR_MODULE_NOT_FOUND' && mostFiles() < FEW_FILES;
}

/** How many files this process may open at a time. */
function mostFiles(): number {
  const { userLimits } = process.report.getReport() as {
    userLimits?: { open_files?: { soft: number | 'unlimited' } };
  };
  return Number(userLimits?.open_files?.soft ?? Infinity) || Infinity;
}

/** Straight to the descriptor: a stream may be what is broken. */
function say(text: string): void {
  // A stack has lines; what else it has may come from a file's name.
  const lines = text.split('\n').map((line) => printable(line));
  try {
    writeSync(2, `lockstep: ${lines.join('\n')}\n`);
  } catch {
    // Nobody listens.
  }
}

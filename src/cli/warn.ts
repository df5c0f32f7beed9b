import { printable } from '../shared/printable.js';

/** Warnings of a command without a log, or before its log exists. To stderr, so that stdout has only the output. */
export function warn(message: string): void {
  process.stderr.write(`lockstep: ${printable(message)}\n`);
}

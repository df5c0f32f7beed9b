/** To stderr, so that stdout stays what was asked for: the warnings of a command that keeps no log, or none yet. */
export function warn(message: string): void {
  process.stderr.write(`lockstep: ${message}\n`);
}

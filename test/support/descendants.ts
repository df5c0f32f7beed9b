/** Processes of a program and of all that it started, by a mark in their environment: also those it left behind. Linux. */
import { readFileSync, readdirSync } from 'node:fs';

export const MARK = 'LOCKSTEP_TEST_MARK';

/** Process ids of those that run with the mark, without zombies. */
export function marked(mark: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
        return environment.includes(`${MARK}=${mark}`);
      } catch {
        return false;
      }
    });
}

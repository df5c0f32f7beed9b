/** The processes of this machine, as `ps` shows them to everybody. Linux. */
import { readFileSync, readdirSync } from 'node:fs';

export interface Process {
  readonly pid: number;
  readonly commandLine: string;
}

export function processes(): Process[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const commandLine = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ');
        return [{ pid: Number(name), commandLine }];
      } catch {
        // It has ended meanwhile.
        return [];
      }
    });
}

/** Those whose command line has the text. */
export function processesWith(text: string): Process[] {
  return processes().filter(({ commandLine }) => commandLine.includes(text));
}

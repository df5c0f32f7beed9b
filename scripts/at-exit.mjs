/** What the scripts that start processes do with them, and with their files, when they end, also by a signal. */
import { constants } from 'node:os';

/** Calls back once, as the process ends. @param {() => void} undo kills processes and removes files, without waiting */
export function atExit(undo) {
  process.once('exit', undo);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.once(signal, () => process.exit(128 + constants.signals[signal]));
  }
}

/** The lock of a run directory: one coordinator at a time. A lock whose process has died is taken over. */
import { readFileSync, rmSync } from 'node:fs';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { UserError, messageOf } from '../../shared/errors.js';
import { parseJson } from '../../shared/json.js';
import { readInputText } from '../../shared/node/input-file.js';

const MAX_BYTES = 10_000;

/** The name of the lock file. */
export const LOCK = 'lock.json';

const lockSchema = z.object({
  pid: z.number().int().min(1),
  host: z.string(),
  /** Start time of the process in kernel ticks, in case its pid has been reused. */
  startTicks: z.string().nullable(),
});
type Lock = z.infer<typeof lockSchema>;

/**
 * Locks the folder, replacing a stale lock if necessary.
 *
 * @returns a function that releases the lock
 * @throws {UserError} if a coordinator that may be alive holds it
 */
export async function lockDirectory(path: string): Promise<() => void> {
  const file = join(path, LOCK);
  const mine = JSON.stringify({
    pid: process.pid,
    host: hostname(),
    startTicks: await startTicks(process.pid),
  } satisfies Lock);
  for (;;) {
    try {
      await writeFile(file, mine, { flag: 'wx' });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
        await removeStaleLock(path, file);
        continue;
      }
      await rm(file, { force: true });
      throw new UserError(`Cannot write into the run directory ${path}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
  const release = () => {
    process.off('exit', release);
    try {
      if (readFileSync(file, 'utf8') === mine) rmSync(file);
    } catch {
      // Already gone; or else the next run will find it stale.
    }
  };
  // For a process that exits without calling it.
  process.on('exit', release);
  return release;
}

/** Whether a coordinator may be using the folder. */
export async function isInUse(path: string): Promise<boolean> {
  const text = await readLock(join(path, LOCK));
  const lock = text === null ? null : parseLock(text);
  return lock !== null && isPossiblyAlive(lock);
}

async function removeStaleLock(path: string, file: string): Promise<void> {
  const text = await readLock(file);
  if (text === null) return;
  const lock = parseLock(text);
  if (lock !== null && (await isPossiblyAlive(lock))) {
    throw new UserError(
      `Cannot use ${path}: a coordinator is at work in it (process ${lock.pid} on ${lock.host}); ` +
        `if it is gone, remove ${file}`,
    );
  }
  // If two processes find the same stale lock, the slower one must not remove the new lock of the faster.
  const aside = `${file}.${process.pid}.partial`;
  await rename(file, aside).catch(() => undefined);
  const taken = await readInputText(aside, MAX_BYTES).catch(() => null);
  if (taken !== null && taken !== text) await rename(aside, file);
  else await rm(aside, { force: true });
}

/** The lock's text; null if it is gone. Waits a moment for one that is just being written. */
async function readLock(file: string): Promise<string | null> {
  for (let attempt = 0; ; attempt++) {
    const text = await readInputText(file, MAX_BYTES).catch(() => null);
    if (text === null || parseLock(text) !== null || attempt === 5) return text;
    await sleep(20);
  }
}

function parseLock(text: string): Lock | null {
  try {
    return lockSchema.parse(parseJson(text));
  } catch {
    return null;
  }
}

async function isPossiblyAlive(lock: Lock): Promise<boolean> {
  if (lock.host !== hostname()) return true;
  try {
    process.kill(lock.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  return lock.startTicks === null || lock.startTicks === (await startTicks(lock.pid));
}

/** Field 22 of /proc/PID/stat, proc(5); null on systems without it. */
async function startTicks(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  // The second field, the program's name in parentheses, may contain anything.
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null;
}

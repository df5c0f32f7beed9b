/** The lock of the directory of a run, or of a sweep: one process at a time. A lock whose process has died is taken over. */
import { readFileSync, rmSync } from 'node:fs';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { UserError, messageOf } from '../../shared/errors.js';
import { parseJson } from '../../shared/json.js';
import { readInputText } from '../../shared/node/input-file.js';

const MAX_BYTES = 10_000;
/** Others may take a stale lock over first, but not that often. */
const MAX_ATTEMPTS = 100;

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
 * @param who might hold it
 * @returns a function that releases the lock
 * @throws {UserError} if one that may be alive holds it
 */
export async function lockDirectory(path: string, who = 'a coordinator'): Promise<() => void> {
  const file = join(path, LOCK);
  const mine = JSON.stringify({
    pid: process.pid,
    host: hostname(),
    startTicks: await startTicks(process.pid),
  } satisfies Lock);
  try {
    for (let attempt = 0; !(await writeNew(file, mine)); attempt++) {
      // As where it is a link to nowhere.
      if (attempt === MAX_ATTEMPTS) throw new Error(`${LOCK} can be neither read nor replaced`);
      await removeStaleLock(path, file, who);
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`Cannot write into the directory ${path}: ${messageOf(error)}`, {
      cause: error,
    });
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
  const text = await readLock(join(path, LOCK)).catch(() => null);
  const lock = text === null ? null : parseLock(text);
  return lock !== null && isPossiblyAlive(lock);
}

/** @returns false if there is such a file, which stays */
async function writeNew(file: string, text: string): Promise<boolean> {
  const handle = await open(file, 'wx').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return null;
    throw error;
  });
  if (!handle) return false;
  try {
    await handle.writeFile(text);
    return true;
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
}

/** @throws {Error} if it may be that of a coordinator at work, or it cannot be removed */
async function removeStaleLock(path: string, file: string, who: string): Promise<void> {
  const text = await readLock(file).catch((error: unknown) => {
    throw new UserError(
      `Cannot tell whether ${who} is at work in ${path}: ${messageOf(error)}; if none is, remove ${file}`,
      { cause: error },
    );
  });
  if (text === null) return;
  const lock = parseLock(text);
  if (lock !== null && (await isPossiblyAlive(lock))) {
    throw new UserError(
      `Cannot use ${path}: ${who} is at work in it (process ${lock.pid} on ${lock.host}); ` +
        `if it is gone, remove ${file}`,
    );
  }
  // If two processes find the same stale lock, the slower one must not remove the new lock of the faster.
  const aside = `${file}.${process.pid}.partial`;
  await rename(file, aside).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  });
  const taken = await readInputText(aside, MAX_BYTES).catch(() => null);
  if (taken !== null && taken !== text) await rename(aside, file);
  else await rm(aside, { force: true });
}

/**
 * The lock's text; null if it is gone. Waits a moment for one that is just being written.
 *
 * @throws {Error} if it cannot be read
 */
async function readLock(file: string): Promise<string | null> {
  for (let attempt = 0; ; attempt++) {
    const isLast = attempt === 5;
    const text = await readInputText(file, MAX_BYTES).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      if (isLast) throw error;
      return '';
    });
    if (text === null || parseLock(text) !== null || isLast) return text;
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

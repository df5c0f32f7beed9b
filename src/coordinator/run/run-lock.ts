/** The lock of a run directory: one coordinator at a time, and no stale lock after a process has died. */
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

/** Its name in the folder. */
export const LOCK = 'lock.json';

const lockSchema = z.object({
  pid: z.number().int().min(1),
  host: z.string(),
  /** When that process started, in the kernel's count, so that another one with its number is told apart. */
  startTicks: z.string().nullable(),
});
type Lock = z.infer<typeof lockSchema>;

/**
 * Takes the lock of the folder, over one whose process is gone if need be.
 *
 * @returns what gives it back
 * @throws {UserError} if a coordinator that may be alive has it
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
      // It is gone, or the next run finds that its process is.
    }
  };
  // A process that is told to end at once ends here.
  process.on('exit', release);
  return release;
}

/** Whether a coordinator may be at work in the folder. */
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
  // Of two that find the same stale lock one gets it; the other must not take away the lock that followed.
  const aside = `${file}.${process.pid}.partial`;
  await rename(file, aside).catch(() => undefined);
  const taken = await readInputText(aside, MAX_BYTES).catch(() => null);
  if (taken !== null && taken !== text) await rename(aside, file);
  else await rm(aside, { force: true });
}

/** The lock's text; null if it is gone. One that is just being written gets a moment. */
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

/** Field 22 of /proc/PID/stat, proc(5); null where there is no such thing. */
async function startTicks(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  // The second field, the name of the program in parentheses, may hold anything.
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null;
}

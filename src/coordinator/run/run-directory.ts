/**
 * The folder of one run: its configuration, checkpoints, logs and result, and the lock that keeps a second
 * coordinator out.
 *
 *   config.json     the configuration, as --config takes it
 *   checkpoints/    safetensors files
 *   metrics.jsonl   a line per step and per evaluation
 *   log.jsonl       the log
 *   tensorboard/    event files
 *   trace.json      with --trace
 *   result.json     once the run is finished, or stopped
 *   worker-key      what the secrets of the workers' ids are made of; for nobody to read
 *   token           what workers have to know, where it was not given; off loopback, for nobody to read
 *   look-token      the same for those who look at the page and the metrics
 *   tls-key.pem     the key that workers know the coordinator by; off loopback, for nobody to read
 *   tls-cert.pem    its certificate, as --cacert of curl takes it
 *   join            what a worker joins, with the token; off loopback, for `lockstep worker @FILE`, for nobody else to read
 *   page            the link that opens the page, with the looking token; for nobody else to read
 *   browser-link    the link by which browsers join, with --browser-workers and a token; for nobody else to read
 *   lock.json       while a coordinator works in it
 */
import { randomBytes } from 'node:crypto';
import { lstat, readdir, rm, rmdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { checkpointName } from '../../model/checkpoint.js';
import { parseRunConfig, type RunConfig } from '../../shared/config.js';
import { UsageError, UserError, messageOf } from '../../shared/errors.js';
import { parseJson } from '../../shared/json.js';
import { isFolder, makeFolders, removeEmptyFolders } from '../../shared/node/folders.js';
import { readInputText } from '../../shared/node/input-file.js';
import { fileStorage, writeJson } from '../../shared/node/storage.js';
import type { RunResult } from '../events.js';
import { LOCK, lockDirectory } from './run-lock.js';
import { writeResult } from './run-result.js';

/** Of config.json. */
const MAX_CONFIG_BYTES = 1_000_000;

export interface RunDirectory {
  readonly path: string;
  /** Last part of the path. */
  readonly name: string;
  readonly config: RunConfig;
  /** False for a run that begins. */
  readonly isResumed: boolean;
  readonly checkpointsPath: string;
  readonly metricsPath: string;
  readonly logPath: string;
  readonly tensorboardPath: string;
  /** Where the trace of a run that starts at this step goes: each start writes its own. */
  tracePath(globalStep: number): string;
  /** See run-result.ts. */
  writeResult(result: RunResult): Promise<void>;
  /** Takes away what a start that failed has left, unless a run is there by now. Does not reject. */
  discard(): Promise<void>;
  /** Lets another coordinator in. */
  release(): void;
}

export interface OpenRunOptions {
  /** Whether to go on with the run that is there. Where there is none: `ifThere` begins one, `always` refuses. */
  readonly resume: 'never' | 'ifThere' | 'always';
  /**
   * The configuration to run with.
   *
   * @param stored that of the run that is resumed, null for a run that begins
   * @throws {UserError} if it does not go with the stored one
   */
  readonly configure: (stored: RunConfig | null) => RunConfig;
}

/** What a folder may hold before a run begins in it: what a start that failed left behind. */
const LEFTOVERS = new Set([
  'config.json',
  'log.jsonl',
  'lock.json',
  'metrics.jsonl',
  'checkpoints',
  'worker-key',
  'tensorboard',
  'trace.json',
  'token',
  'look-token',
  'tls-key.pem',
  'tls-cert.pem',
  'join',
  'page',
  'browser-link',
]);

/** runs/2026-11-24-034102-3f9a, by the local date and time. */
export function newRunPath(now: Date = new Date()): string {
  const local = new Date(now.getTime() - 60_000 * now.getTimezoneOffset());
  const time = local.toISOString().slice(0, 19).replace('T', '-').replaceAll(':', '');
  return join('runs', `${time}-${randomBytes(2).toString('hex')}`);
}

/**
 * Makes the folder of a run, or finds that of the run to resume, and locks it.
 *
 * @throws {UserError} if the folder holds something else, is in use, or cannot be written
 * @throws {UsageError} if there is no run to resume
 */
export async function openRunDirectory(
  path: string,
  options: OpenRunOptions,
): Promise<RunDirectory> {
  const { resume, configure } = options;
  if (resume === 'always' && !(await isFolder(path))) throw nothingToResume(path);
  const firstMade = await makeRunFolder(path);
  const release = await lockDirectory(path).catch(async (error: unknown) => {
    await removeEmptyFolders(path, firstMade);
    throw error;
  });
  const discard = async () => {
    try {
      const entries = await readdir(path);
      if (await holdsRun(path, entries, checkpointName(0))) return;
      const leftovers = entries.filter((entry) => LEFTOVERS.has(entry) && entry !== LOCK);
      for (const entry of leftovers) await rm(join(path, entry), { recursive: true });
      release();
      await removeEmptyFolders(path, firstMade);
    } catch {
      // It stays, and the next run may begin in it.
    }
  };
  try {
    await removeUnfinishedTraces(path);
    const stored = resume === 'never' ? null : await readConfig(path);
    if (stored === null) await checkVacant(path, resume !== 'never');
    if (stored === null && resume === 'always') throw nothingToResume(path);
    const config = configure(stored);
    if (config !== stored) await writeJson(join(path, 'config.json'), config);
    return {
      path,
      name: basename(resolve(path)),
      config,
      isResumed: stored !== null,
      checkpointsPath: join(path, 'checkpoints'),
      metricsPath: join(path, 'metrics.jsonl'),
      logPath: join(path, 'log.jsonl'),
      tensorboardPath: join(path, 'tensorboard'),
      tracePath: (globalStep) =>
        join(path, globalStep === 0 ? 'trace.json' : `trace-${globalStep}.json`),
      writeResult: (result) => writeResult(join(path, 'result.json'), result),
      discard: () => (stored === null ? discard() : Promise.resolve()),
      release,
    };
  } catch (error) {
    release();
    await removeEmptyFolders(path, firstMade);
    throw error;
  }
}

function nothingToResume(path: string): UsageError {
  return new UsageError(
    `Cannot resume ${path}: there is no run; to start one if there is none, give --out ${path} --resume`,
  );
}

/** @returns the first folder on the way that was not there before */
async function makeRunFolder(path: string): Promise<string | undefined> {
  try {
    return await makeFolders(path);
  } catch (error) {
    throw new UserError(`Cannot create the run directory ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * Removes a run, configuration last, so that it is still one if this is cut short.
 *
 * @throws {UserError} if a coordinator is at work in it, it holds what is no run's, or something cannot be removed
 */
export async function removeRun(path: string): Promise<void> {
  if ((await lstat(path)).isSymbolicLink()) {
    throw new UserError(`Cannot remove ${path}: it is a link; remove it by hand`);
  }
  const release = await lockDirectory(path);
  try {
    const entries = await readdir(path);
    const foreign = entries.find((entry) => !isOwn(entry));
    if (foreign !== undefined) {
      throw new Error(`it holds ${foreign}, which is no run's; move that elsewhere first`);
    }
    const rest = entries.filter((entry) => ![LOCK, 'config.json'].includes(entry));
    for (const entry of rest) await rm(join(path, entry), { recursive: true, force: true });
    await rm(join(path, 'config.json'), { force: true });
    release();
    await rmdir(path);
  } catch (error) {
    throw new UserError(`Cannot remove ${path}: ${messageOf(error)}`, { cause: error });
  } finally {
    release();
  }
}

function isOwn(entry: string): boolean {
  return (
    LEFTOVERS.has(entry) || entry === 'result.json' || /^trace-\d+\.json$|\.partial$/.test(entry)
  );
}

/** What the trace of a run that was killed had not put in place. */
async function removeUnfinishedTraces(path: string): Promise<void> {
  const names = (await readdir(path)).filter((name) => /^trace.*\.partial$/.test(name));
  for (const name of names) await rm(join(path, name), { force: true });
}

/** @throws {Error} if there is no such file, or it holds no configuration */
export async function readRunConfig(file: string): Promise<RunConfig> {
  return parseRunConfig(parseJson(await readInputText(file, MAX_CONFIG_BYTES)));
}

/** The configuration of the run in the folder; null if there is none. */
async function readConfig(path: string): Promise<RunConfig | null> {
  const file = join(path, 'config.json');
  try {
    return await readRunConfig(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new UserError(`Cannot resume ${path}: config.json is damaged: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** A run may begin where there is nothing, or only what a start that never came to a step has left. */
async function checkVacant(path: string, isToBeResumed: boolean): Promise<void> {
  const entries = (await readdir(path)).filter((entry) => !entry.endsWith('.partial'));
  if (await holdsRun(path, entries)) {
    throw new UserError(
      `Cannot start a run in ${path}: it holds another run; ` +
        (isToBeResumed
          ? 'its config.json is missing'
          : 'add --resume to go on with it, or take another --out'),
    );
  }
  const foreign = entries.find((entry) => !LEFTOVERS.has(entry));
  if (foreign === undefined) return;
  throw new UserError(
    `Cannot start a run in ${path}: the directory is not empty (${foreign}); choose another --out`,
  );
}

/** @param except a checkpoint that does not count */
async function holdsRun(
  path: string,
  entries: readonly string[],
  except?: string,
): Promise<boolean> {
  if (entries.includes('result.json')) return true;
  if (entries.includes('metrics.jsonl') && (await stat(join(path, 'metrics.jsonl'))).size > 0) {
    return true;
  }
  const checkpoints = entries.includes('checkpoints')
    ? await fileStorage.list(join(path, 'checkpoints'))
    : [];
  return checkpoints.some((name) => name !== except);
}

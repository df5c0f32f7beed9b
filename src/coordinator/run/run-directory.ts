/**
 * The folder of one run: its configuration, checkpoints, logs and result, and the lock that keeps a second
 * coordinator out.
 *
 *   config.json     the configuration, in the format of --config
 *   checkpoints/    safetensors files
 *   metrics.jsonl   a line per step and per evaluation
 *   log.jsonl       the log
 *   tensorboard/    event files
 *   trace.json      with --trace
 *   result.json     once the run is finished or stopped
 *   lock.json       while a coordinator uses the folder
 *   tls-cert.pem    the coordinator's certificate, e.g. for --cacert of curl
 *
 * and, readable only by the owner:
 *
 *   worker-key      the key from which the secrets of the workers' ids are derived
 *   token           the joining token, if none was given; off loopback
 *   look-token      the looking token, likewise
 *   tls-key.pem     the private key whose public key workers pin; off loopback
 *   join            the join line with the token, for `lockstep worker @FILE`; off loopback
 *   page            the link to the page, with the looking token
 *   browser-link    the link for browser workers, with --browser-workers and a token
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

const MAX_CONFIG_BYTES = 1_000_000;

export interface RunDirectory {
  readonly path: string;
  /** Last part of the path. */
  readonly name: string;
  readonly config: RunConfig;
  /** False for a new run. */
  readonly isResumed: boolean;
  readonly checkpointsPath: string;
  readonly metricsPath: string;
  readonly logPath: string;
  readonly tensorboardPath: string;
  /** The trace file of a run started or resumed at this step: each start writes its own. */
  tracePath(globalStep: number): string;
  /** See run-result.ts. */
  writeResult(result: RunResult): Promise<void>;
  /** Removes what a failed start left, unless there is a run by now. Does not reject. */
  discard(): Promise<void>;
  /** Releases the lock. */
  release(): void;
}

export interface OpenRunOptions {
  /** Whether to resume an existing run. If there is none, `ifThere` starts one and `always` fails. */
  readonly resume: 'never' | 'ifThere' | 'always';
  /**
   * The configuration to run with.
   *
   * @param stored that of the resumed run; null for a new run
   * @throws {UserError} if it is incompatible with the stored one
   */
  readonly configure: (stored: RunConfig | null) => RunConfig;
}

/** What a failed start may have left in a folder; a run may start there nevertheless. */
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

/** runs/2026-11-24-034102-3f9a, from the local date and time. */
export function newRunPath(now: Date = new Date()): string {
  const local = new Date(now.getTime() - 60_000 * now.getTimezoneOffset());
  const time = local.toISOString().slice(0, 19).replace('T', '-').replaceAll(':', '');
  return join('runs', `${time}-${randomBytes(2).toString('hex')}`);
}

/**
 * Creates the folder of a new run, or opens that of the run to resume, and locks it.
 *
 * @throws {UserError} if the folder holds something else, is in use, or is not writable
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
  const before = new Set(await readdir(path));
  const discard = async () => {
    try {
      const entries = await readdir(path);
      if (await holdsRun(path, entries, checkpointName(0))) return;
      // What was there may be the user's own: a key, a token, a configuration.
      const leftovers = entries.filter((entry) => LEFTOVERS.has(entry) && !before.has(entry));
      for (const entry of leftovers) await rm(join(path, entry), { recursive: true });
      release();
      await removeEmptyFolders(path, firstMade);
    } catch {
      // The leftovers stay; the next run can still start in the folder.
    }
  };
  try {
    const stored = resume === 'never' ? null : await readConfig(path);
    if (stored === null) {
      await refuseOtherRun(path, resume !== 'never');
      if (resume === 'always') throw nothingToResume(path);
      await refuseOtherFiles(path);
    }
    await removeUnfinishedTraces(path);
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

/** @returns the topmost folder that had to be created */
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
 * Removes a run, its configuration last, so that it still counts as a run if this is interrupted.
 *
 * @throws {UserError} if it is in use, contains foreign files, or something cannot be removed
 */
export async function removeRun(path: string): Promise<void> {
  if ((await lstat(path)).isSymbolicLink()) {
    throw new UserError(`Cannot remove ${path}: it is a link; remove it by hand`);
  }
  const release = await lockDirectory(path);
  try {
    const entries = await readdir(path);
    const checkpoints = await readdir(join(path, 'checkpoints')).catch(() => []);
    const foreign =
      entries.find((entry) => !isOwn(entry)) ??
      checkpoints.find((entry) => !/\.safetensors(\.partial)?$/.test(entry));
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

/** Whether a run has such a file, or one that becomes it once it is written. */
function isOwn(entry: string): boolean {
  const name = entry.replace(/(\.growing|\.\d+)?\.partial$/, '');
  return LEFTOVERS.has(name) || name === 'result.json' || /^trace-\d+\.json$/.test(name);
}

/** Removes traces that a killed run had not finished writing. */
async function removeUnfinishedTraces(path: string): Promise<void> {
  const names = (await readdir(path)).filter((name) => /^trace.*\.partial$/.test(name));
  for (const name of names) await rm(join(path, name), { force: true });
}

/** @throws {Error} if there is no such file, or it is not a configuration */
export async function readRunConfig(file: string): Promise<RunConfig> {
  return parseRunConfig(parseJson(await readInputText(file, MAX_CONFIG_BYTES)));
}

/** The configuration of the run in the folder; null if there is no run. */
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

async function refuseOtherRun(path: string, isToBeResumed: boolean): Promise<void> {
  if (!(await holdsRun(path, await entriesOf(path)))) return;
  throw new UserError(
    `Cannot start a run in ${path}: it holds another run; ` +
      (isToBeResumed
        ? 'its config.json is missing'
        : 'add --resume to go on with it, or take another --out'),
  );
}

/** A run may start in an empty folder, or in one with only the leftovers of a start that never got to a step. */
async function refuseOtherFiles(path: string): Promise<void> {
  const foreign = (await entriesOf(path)).find((entry) => !LEFTOVERS.has(entry));
  if (foreign === undefined) return;
  throw new UserError(
    `Cannot start a run in ${path}: the directory is not empty (${foreign}); choose another --out`,
  );
}

/** Without files that were being written. */
async function entriesOf(path: string): Promise<string[]> {
  return (await readdir(path)).filter((entry) => !entry.endsWith('.partial'));
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

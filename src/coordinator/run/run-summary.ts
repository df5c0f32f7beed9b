/** A summary of a run from its directory, without reading its metrics. The run may be in progress. */
import type { Stats } from 'node:fs';
import { lstat, readdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import * as z from 'zod';
import { readLatestCheckpoint } from '../../model/checkpoint.js';
import type { RunConfig } from '../../shared/config.js';
import { UserError, messageOf } from '../../shared/errors.js';
import { fileStorage } from '../../shared/node/storage.js';
import type { RunResult } from '../events.js';
import { readRunConfig } from './run-directory.js';
import { isInUse } from './run-lock.js';
import { isOutdated, readResult } from './run-result.js';

/** `interrupted`: killed. `stopped`: stopped on request. Both can be resumed. */
export type RunState = 'running' | RunResult['outcome'] | 'interrupted' | 'damaged';

export interface RunSummary {
  readonly path: string;
  readonly name: string;
  readonly state: RunState;
  /** Null if it cannot be read. */
  readonly config: RunConfig | null;
  /** The best so far, on the validation set if the run has one; null before the first evaluation. */
  readonly accuracy: number | null;
  /** Epochs completed. */
  readonly epochs: number;
  readonly bytes: number;
  /** When any of its files was last written, ms since 1970. */
  readonly changedAt: number;
}

const MAX_ENTRIES = 10_000;
const MAX_DEPTH = 6;

/** States of completed runs. */
export const FINAL_STATES: readonly RunState[] = ['finished', 'targetReached', 'stoppedEarly'];

/**
 * The runs in a folder, newest first.
 *
 * @throws {UserError} if there is no such folder
 */
export async function listRuns(dir: string): Promise<RunSummary[]> {
  let names: string[];
  try {
    names = await readdir(dir);
  } catch (error) {
    throw new UserError(`Cannot list the runs in ${dir}: ${messageOf(error)}`, { cause: error });
  }
  if (names.length > MAX_ENTRIES) {
    throw new UserError(`Cannot list the runs in ${dir}: it has more than ${MAX_ENTRIES} entries`);
  }
  const runs: RunSummary[] = [];
  for (const name of names.sort()) {
    const run = await summarizeRun(join(dir, name));
    if (run !== null) runs.push(run);
  }
  return runs.sort((a, b) => b.changedAt - a.changedAt);
}

/** Null if the folder is not a run's. */
export async function summarizeRun(path: string): Promise<RunSummary | null> {
  const configPath = join(path, 'config.json');
  const isRun = await stat(configPath).then(
    (found) => found.isFile(),
    () => false,
  );
  if (!isRun) return null;
  const config = await readConfig(configPath);
  const progress = await progressIn(join(path, 'checkpoints'));
  const stored = await readResult(join(path, 'result.json'), () => undefined);
  const result =
    stored && config && isOutdated(stored, config, progress?.globalStep ?? null) ? null : stored;
  const { bytes, changedAt } = await sizeOf(path, MAX_DEPTH);
  return {
    path,
    name: basename(resolve(path)),
    state: (await isInUse(path))
      ? 'running'
      : config === null
        ? 'damaged'
        : (result?.outcome ?? 'interrupted'),
    config,
    accuracy: result
      ? (result.best?.accuracy ?? result.testAccuracy)
      : (progress?.accuracy ?? null),
    epochs: result?.epochs ?? progress?.epochs ?? 0,
    bytes,
    changedAt,
  };
}

async function readConfig(path: string): Promise<RunConfig | null> {
  try {
    return await readRunConfig(path);
  } catch {
    return null;
  }
}

const metricsSchema = z.object({ evaluatedStep: z.number(), bestAccuracy: z.number() });

async function progressIn(dir: string) {
  const stored = await readLatestCheckpoint(fileStorage, dir, () => undefined).catch(() => null);
  if (stored === null) return null;
  const { metrics, epoch, globalStep } = stored.checkpoint;
  const measured = metricsSchema.safeParse(metrics).data;
  const accuracy = measured && measured.evaluatedStep > 0 ? measured.bestAccuracy : null;
  return { accuracy, epochs: epoch, globalStep };
}

/** Total size and last change of the files in the folder, without following links or failing on files that vanish. */
async function sizeOf(path: string, depth: number): Promise<{ bytes: number; changedAt: number }> {
  let [bytes, changedAt] = [0, 0];
  for (const entry of await readdir(path).catch(() => [])) {
    const file = join(path, entry);
    const info: Stats | null = await lstat(file).catch(() => null);
    if (info === null) continue;
    if (info.isDirectory() && depth > 0) {
      const inner = await sizeOf(file, depth - 1);
      bytes += inner.bytes;
      changedAt = Math.max(changedAt, inner.changedAt);
    } else {
      bytes += info.size;
      changedAt = Math.max(changedAt, info.mtimeMs);
    }
  }
  return { bytes, changedAt };
}

export interface PruneRules {
  /** How many of the most accurate runs to keep for each dataset; null for no such rule. */
  readonly keepBest: number | null;
  /** How many of the newest runs to keep; null for no such rule. */
  readonly keepLast: number | null;
  /** Whether runs that could be resumed are removed too. */
  readonly unfinished: boolean;
}

/**
 * The runs to remove. Running and damaged runs always stay; resumable ones stay unless `unfinished` is set; completed ones
 * stay unless a rule limits how many to keep.
 *
 * @param runs newest first
 */
export function runsToPrune(runs: readonly RunSummary[], rules: PruneRules): RunSummary[] {
  const { keepBest, keepLast, unfinished } = rules;
  const isOver = ({ state }: RunSummary) => FINAL_STATES.includes(state);
  const kept = new Set(runs.slice(0, keepLast ?? 0));
  for (const dataset of new Set(runs.map(({ config }) => config?.dataset))) {
    const rivals = runs.filter((run) => run.config?.dataset === dataset && isOver(run));
    const ranked = rivals.toSorted((a, b) => (b.accuracy ?? -1) - (a.accuracy ?? -1));
    for (const run of ranked.slice(0, keepBest ?? 0)) kept.add(run);
  }
  return runs.filter((run) => {
    if (kept.has(run)) return false;
    if (isOver(run)) return keepBest !== null || keepLast !== null;
    return unfinished && (run.state === 'stopped' || run.state === 'interrupted');
  });
}

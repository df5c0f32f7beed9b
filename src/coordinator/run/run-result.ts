/** result.json: the result of a run that has finished or was stopped. */
import * as z from 'zod';
import type { RunConfig } from '../../shared/config.js';
import { UserError, messageOf } from '../../shared/errors.js';
import { parseJson } from '../../shared/json.js';
import { readInputText } from '../../shared/node/input-file.js';
import { writeJson } from '../../shared/node/storage.js';
import { shorten } from '../../shared/option.js';
import { FAULT_KINDS, OUTCOMES, type RunResult } from '../events.js';
import { participantSchema } from '../participants.js';
import { evaluationSet } from './metrics-line.js';

const MAX_RESULT_BYTES = 10_000_000;

const count = z.number().int().min(0);
const resultSchema = z.object({
  outcome: z.enum(OUTCOMES),
  testAccuracy: z.number().nullable(),
  testLoss: z.number().nullable(),
  best: z
    .object({ set: evaluationSet, accuracy: z.number(), globalStep: count })
    .nullable()
    .default(null),
  weightsSha256: z.string().regex(/^[0-9a-f]{64}$/),
  globalStep: count,
  epochs: z.number(),
  imagesPerSecond: z.number(),
  seconds: z.number(),
  workers: z.array(participantSchema),
  reproducible: z.boolean(),
  engineFingerprint: z.string().nullable(),
  faults: z.partialRecord(z.enum(FAULT_KINDS), z.number()),
});

/**
 * Whether the run has gone on since it had this result, with more epochs or beyond it, and not come to an end again.
 *
 * @param latestStep of its checkpoints; null if there is none
 */
export function isOutdated(
  { outcome, epochs, globalStep }: RunResult,
  config: Pick<RunConfig, 'epochs'>,
  latestStep: number | null,
): boolean {
  return (outcome === 'finished' && epochs < config.epochs) || (latestStep ?? 0) > globalStep;
}

/** Null if there is none, or it is damaged. */
export async function readResult(
  path: string,
  warn: (message: string) => void,
): Promise<RunResult | null> {
  try {
    return resultSchema.parse(parseJson(await readInputText(path, MAX_RESULT_BYTES)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      warn(`Cannot use ${path}: ${shorten(messageOf(error))}`);
    }
    return null;
  }
}

/**
 * Replaces it atomically, unless the stored result is of a later step, or of the same step and final.
 *
 * @throws {UserError} if it cannot be written
 */
export async function writeResult(path: string, result: RunResult): Promise<void> {
  const stored = await readInputText(path, MAX_RESULT_BYTES).catch(() => null);
  if (stored !== null && isLess(result, stored)) return;
  try {
    await writeJson(path, result);
  } catch (error) {
    throw new UserError(
      `Cannot write ${path}: ${messageOf(error)}; the weights are saved: make room, and --resume writes it`,
      { cause: error },
    );
  }
}

const endSchema = resultSchema.pick({ outcome: true, globalStep: true });

/** Whether the stored result takes precedence. @param stored its text; a damaged one does not count */
function isLess({ globalStep }: RunResult, stored: string): boolean {
  try {
    const before = endSchema.parse(parseJson(stored));
    if (before.globalStep !== globalStep) return before.globalStep > globalStep;
    return before.outcome !== 'stopped';
  } catch {
    return false;
  }
}

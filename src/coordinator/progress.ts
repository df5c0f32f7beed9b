/** The part of a checkpoint besides the training state, and whether a run can resume from it. */
import * as z from 'zod';
import type { Checkpoint } from '../model/checkpoint.js';
import { runConfigSchema, type RunConfig } from '../shared/config.js';
import { FAULT_KINDS } from './events.js';
import { UserError } from '../shared/errors.js';
import { participantsShape } from './participants.js';

const fraction = z.number().min(0).max(1);
const count = z.number().int().min(0);

const progressSchema = z.strictObject({
  /** At which step the last evaluation was made, and what decides about the best and the target. */
  evaluatedStep: count,
  decidingAccuracy: fraction,
  testAccuracy: fraction.nullable(),
  testLoss: z.number().nullable(),
  bestAccuracy: fraction,
  /** Of the evaluation that had it. */
  bestStep: count.optional(),
  /** Each time that the run was given more epochs: after which update, and how many it had before. */
  extensions: z
    .array(z.strictObject({ globalStep: count, epochs: count }))
    .max(1000)
    .default([]),
  /** By all processes that worked on the run, up to this state: time, that of steps, and training images. */
  spent: z
    .strictObject({ seconds: z.number().min(0), trainingMs: z.number().min(0), numImages: count })
    .default({ seconds: 0, trainingMs: 0, numImages: 0 }),
  /** As in the result. */
  faults: z.partialRecord(z.enum(FAULT_KINDS), count),
  ...participantsShape,
});
/** Checkpoints of the first release do not tell the step of the best: it counts as that of the last evaluation. */
const completeSchema = progressSchema.transform((progress) => ({
  ...progress,
  bestStep: progress.bestStep ?? progress.evaluatedStep,
}));
export type Progress = z.infer<typeof completeSchema>;

export const NO_PROGRESS: Progress = {
  evaluatedStep: 0,
  decidingAccuracy: 0,
  testAccuracy: null,
  testLoss: null,
  bestAccuracy: 0,
  bestStep: 0,
  extensions: [],
  spent: { seconds: 0, trainingMs: 0, numImages: 0 },
  faults: {},
  workers: [],
  otherWorkers: { numWorkers: 0, numImages: 0 },
  isApproximate: false,
};

/**
 * The progress in a checkpoint that this run can go on from: one of the same configuration, or of one with fewer epochs.
 * Options that are newer than the checkpoint have their defaults in it.
 *
 * @param config the run's
 * @param data the run's, of its dataset
 * @param fingerprint of the run's exact engine
 * @throws {UserError} in one sentence, if the checkpoint is another run's, another engine's, or not understood
 */
export function progressOf(
  checkpoint: Checkpoint,
  config: RunConfig,
  data: Pick<Checkpoint, 'input' | 'classNames'>,
  fingerprint: string,
): Progress {
  const { globalStep, engineFingerprint, metrics } = checkpoint;
  const refuse = (why: string) =>
    new UserError(`Cannot resume from the checkpoint of step ${globalStep}: ${why}`);
  const stored = runConfigSchema.safeParse(checkpoint.config).data;
  if (
    !stored ||
    stored.epochs > config.epochs ||
    !isSame({ ...stored, epochs: config.epochs }, config)
  ) {
    throw refuse('its run has another configuration');
  }
  const { input, classNames } = data;
  if (!isSame([checkpoint.input, checkpoint.classNames], [input, classNames])) {
    throw refuse('its dataset had other images or classes');
  }
  if (engineFingerprint !== fingerprint) {
    throw refuse(
      `its weights have the bits of engine ${engineFingerprint}, this is ${fingerprint}`,
    );
  }
  const parsed = completeSchema.safeParse(metrics);
  if (!parsed.success) throw refuse('what it says of the run so far is not understood');
  if (stored.epochs === config.epochs) return parsed.data;
  const extension = { globalStep, epochs: stored.epochs };
  return { ...parsed.data, extensions: [...parsed.data.extensions, extension] };
}

/** Equal JSON values, whatever the order of their keys. */
function isSame(a: unknown, b: unknown): boolean {
  const sorted = (value: unknown) =>
    JSON.stringify(value, (_, part: unknown) =>
      typeof part === 'object' && part !== null && !Array.isArray(part)
        ? Object.fromEntries(Object.entries(part).sort(([x], [y]) => (x < y ? -1 : 1)))
        : part,
    );
  return sorted(a) === sorted(b);
}

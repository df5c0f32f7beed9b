/**
 * What a run is: everything that the final bits depend on, with its defaults. How a run is served (ports, folders,
 * logs) is not here but with the coordinator's options.
 */
import * as z from 'zod';
import { UserError } from './errors.js';

const positiveInteger = z.number().int().min(1);
const rate = z.number().min(0).max(1e6);

/** LeNet-5's hyperparameters; src/model/lenet.ts says what each means. */
export const hyperparametersSchema = z.strictObject({
  kernelSize: positiveInteger.max(64),
  channels: z.array(positiveInteger.max(512)).min(1).max(8),
  padding: z.number().int().min(0).max(32),
  stride: positiveInteger.max(32),
  hidden: z.array(positiveInteger.max(4096)).max(8),
  activation: z.enum(['sigmoid', 'tanh', 'relu']),
  pool: z.enum(['avg', 'max']),
});

export const runConfigSchema = z.strictObject({
  hyperparameters: hyperparametersSchema.default({
    kernelSize: 5,
    channels: [6, 16],
    padding: 2,
    stride: 1,
    hidden: [120, 84],
    activation: 'sigmoid',
    pool: 'avg',
  }),
  /** `mnist`, or a folder with IDX files. */
  dataset: z.string().min(1).default('mnist'),
  /** Images at the end of the training set that are held out. */
  validationSize: z.number().int().min(0).default(0),
  /** B, images of one update. */
  batchSize: positiveInteger.max(60_000).default(64),
  /** M, images of one micro-batch. */
  microBatch: positiveInteger.max(4096).default(8),
  epochs: positiveInteger.max(100_000).default(20),
  seed: z.number().int().min(0).max(0xffff_ffff).default(1),
  optimizer: z.enum(['sgd', 'momentum', 'adam']).default('adam'),
  /** Learning rate at its highest. */
  lr: rate.default(0.006),
  schedule: z.enum(['constant', 'cosine', 'step']).default('cosine'),
  /** Epochs over which the learning rate rises from zero; may be a fraction. */
  warmupEpochs: rate.default(0),
  /** Of the schedule `step`: epochs after which the rate falls, again and again; may be a fraction. */
  stepEpochs: z.number().gt(0).max(1e6).default(4),
  /** Of the schedule `step`: what the rate is multiplied by. */
  stepFactor: z.number().min(0).max(1).default(0.5),
  momentum: z.number().min(0).lt(1).default(0.9),
  beta1: z.number().min(0).lt(1).default(0.9),
  beta2: z.number().min(0).lt(1).default(0.999),
  epsilon: z.number().min(1e-30).max(1).default(1e-8),
  /** Decoupled from the gradient, times the learning rate. */
  weightDecay: rate.default(0.02),
});
export type RunConfig = z.infer<typeof runConfigSchema>;

/**
 * @throws {UserError} naming the first option that is wrong
 */
export function parseRunConfig(value: unknown): RunConfig {
  const parsed = runConfigSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new UserError(`Wrong configuration: ${issue.path.map(String).join('.')}: ${issue.message}`);
}

/**
 * The configuration of a run: everything that affects the final bits, with defaults, bounds and help. How a run is served (ports,
 * directories, logs) is in src/cli/options.ts.
 */
import * as z from 'zod';
import {
  AUGMENTATION_HELP,
  AUGMENTATION_WORD,
  augmentationWords,
  parseAugmentation,
} from './augmentation.js';
import { UserError } from './errors.js';
import {
  optionWords,
  refusal,
  shorten,
  unknownOptions,
  type OptionShape,
  type OptionValues,
} from './option.js';

const positiveInteger = z.number().int().min(1);
const fraction = z.number().min(0).lt(1);

/** LeNet-5's hyperparameters; src/model/lenet.ts says what each means. */
export const modelOptions = {
  kernelSize: positiveInteger.max(64).default(5).register(optionWords, {
    group: 'model',
    help: 'side of the convolution kernels',
    value: 'pixels',
  }),
  channels: z.array(positiveInteger.max(512)).min(1).max(8).default([6, 16]).register(optionWords, {
    group: 'model',
    help: 'output channels of each convolution, comma-separated',
    value: 'list',
  }),
  padding: z.number().int().min(0).max(32).default(2).register(optionWords, {
    group: 'model',
    help: 'zeros added on each side of the input image',
    value: 'pixels',
  }),
  stride: positiveInteger.max(32).default(1).register(optionWords, {
    group: 'model',
    help: 'stride of the convolutions',
    value: 'pixels',
  }),
  hidden: z.array(positiveInteger.max(4096)).max(8).default([120, 84]).register(optionWords, {
    group: 'model',
    help: 'sizes of the hidden fully connected layers; "" for none',
    value: 'list',
  }),
  activation: z.enum(['sigmoid', 'tanh', 'relu']).default('sigmoid').register(optionWords, {
    group: 'model',
    help: 'activation after every layer except the last',
    value: 'name',
  }),
  pool: z.enum(['avg', 'max']).default('avg').register(optionWords, {
    group: 'model',
    help: 'pooling over 2×2 windows',
    value: 'name',
  }),
};

/** All of them, none left to its default: as they stand on the wire and in a checkpoint. */
export const hyperparametersSchema = z.strictObject({
  kernelSize: modelOptions.kernelSize.unwrap(),
  channels: modelOptions.channels.unwrap(),
  padding: modelOptions.padding.unwrap(),
  stride: modelOptions.stride.unwrap(),
  hidden: modelOptions.hidden.unwrap(),
  activation: modelOptions.activation.unwrap(),
  pool: modelOptions.pool.unwrap(),
});

/** What a dataset says of its images; src/model/lenet.ts says what each means. */
export const inputShapeSchema = z.strictObject({
  channels: positiveInteger.max(4),
  height: positiveInteger.max(1024),
  width: positiveInteger.max(1024),
});
export const numClassesSchema = z.number().int().min(2).max(1000);

/** How pictures, in a folder or in Parquet files, become a dataset; unset with any other. */
export const pictureOptions = {
  imageSize: z
    .string()
    .regex(/^([1-9]\d{0,2}|10[01]\d|102[0-4])(x([1-9]\d{0,2}|10[01]\d|102[0-4]))?$/)
    .optional()
    .register(optionWords, {
      group: 'data',
      help: 'for images: resize all to height x width, or one number for both',
      value: 'HxW',
      unset: 'that of the files',
      expected: 'pixels from 1 to 1024, as 32 or 32x48 (height x width)',
    }),
  color: z.enum(['grey', 'rgb']).optional().register(optionWords, {
    group: 'data',
    help: 'for images: one channel or three',
    value: 'name',
    unset: 'rgb',
  }),
  testFraction: z.number().gt(0).lt(1).optional().register(optionWords, {
    group: 'data',
    help: 'for images without a folder test: fraction that becomes the test set, chosen by content',
    value: 'fraction',
    unset: 'none',
  }),
  badImages: z.enum(['skip', 'fail']).optional().register(optionWords, {
    group: 'data',
    help: 'for images: what to do about unreadable files',
    value: 'what',
    unset: 'fail',
  }),
};

/** Words such as `shift=2`, in one order and with all strengths, whatever was given. */
const augmentSchema = z
  .array(z.string().regex(AUGMENTATION_WORD))
  .max(16)
  .refine((words) => parseAugmentation(words) !== null)
  .transform((words) => augmentationWords(parseAugmentation(words)!));

const trainingOptions = {
  dataset: z.string().min(1).max(4096).default('mnist').register(optionWords, {
    group: 'data',
    help: 'mnist, a folder of images (train/CLASS/….png), Parquet or IDX files, or an .npz file',
    value: 'name|path',
  }),
  ...pictureOptions,
  validationSize: z.number().int().min(0).max(1e9).default(0).register(optionWords, {
    group: 'data',
    help: 'images held out from the end of the training set',
    value: 'images',
  }),
  epochs: positiveInteger.max(100_000).default(20).register(optionWords, {
    group: 'training',
    help: 'passes over the training set',
    value: 'n',
  }),
  /** B */
  batchSize: positiveInteger.max(60_000).default(64).register(optionWords, {
    group: 'training',
    help: 'images per update, over all workers',
    value: 'images',
  }),
  /** M */
  microBatch: positiveInteger.max(4096).default(8).register(optionWords, {
    group: 'training',
    help: 'images per micro-batch, the unit of work and of reproducibility',
    value: 'images',
  }),
  augment: augmentSchema.optional().register(optionWords, {
    group: 'training',
    help: 'random changes to training images, such as shift,rotate=15: shift, rotate, scale, flip, noise, cutout',
    value: 'list',
    unset: 'none',
    expected: `comma-separated names, each at most once, with optional strengths: ${AUGMENTATION_HELP}`,
  }),
  dropout: z.number().min(0).max(0.99).default(0).register(optionWords, {
    group: 'training',
    help: 'fraction of the units of hidden fully connected layers dropped for each image',
    value: 'fraction',
  }),
  labelSmoothing: z.number().min(0).max(0.99).default(0).register(optionWords, {
    group: 'training',
    help: 'fraction of each label spread over all classes in the training loss',
    value: 'fraction',
  }),
  optimizer: z.enum(['sgd', 'momentum', 'adam']).default('adam').register(optionWords, {
    group: 'training',
    help: 'update rule',
    value: 'name',
  }),
  lr: z.number().gt(0).max(1e6).default(0.006).register(optionWords, {
    group: 'training',
    help: 'peak learning rate',
    value: 'rate',
  }),
  schedule: z.enum(['constant', 'cosine', 'step']).default('cosine').register(optionWords, {
    group: 'training',
    help: 'learning rate schedule',
    value: 'name',
  }),
  warmupEpochs: z.number().min(0).max(1e6).default(0).register(optionWords, {
    group: 'training',
    help: 'warm-up epochs, in which the learning rate rises from zero; may be a fraction',
    value: 'epochs',
  }),
  stepEpochs: z.number().gt(0).max(1e6).default(4).register(optionWords, {
    group: 'training',
    help: 'with --schedule step: epochs between drops; may be a fraction',
    value: 'epochs',
  }),
  stepFactor: z.number().min(0).max(1).default(0.5).register(optionWords, {
    group: 'training',
    help: 'with --schedule step: factor of the learning rate at each drop',
    value: 'factor',
  }),
  momentum: fraction.default(0.9).register(optionWords, {
    group: 'training',
    help: 'with --optimizer momentum: decay of the velocity',
    value: 'factor',
  }),
  beta1: fraction.default(0.9).register(optionWords, {
    group: 'training',
    help: 'with --optimizer adam: decay rate of the first moment',
    value: 'factor',
  }),
  beta2: fraction.default(0.999).register(optionWords, {
    group: 'training',
    help: 'with --optimizer adam: decay rate of the second moment',
    value: 'factor',
  }),
  // More than zero as a float32 too.
  epsilon: z.number().min(1e-30).max(1).default(1e-8).register(optionWords, {
    group: 'training',
    help: 'with --optimizer adam: added to the denominator',
    value: 'value',
  }),
  weightDecay: z.number().min(0).max(1e6).default(0.02).register(optionWords, {
    group: 'training',
    help: 'weight decay, decoupled from the gradient and multiplied by the learning rate',
    value: 'rate',
  }),
  seed: z.number().int().min(0).max(0xffff_ffff).default(1).register(optionWords, {
    group: 'training',
    help: 'seed of the initial weights and the order of the images',
    value: 'n',
  }),
  initSha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional()
    .register(optionWords, {
      group: 'training',
      help: 'SHA-256 that the file of --init must have',
      value: 'hash',
      unset: 'that of the file',
      expected: 'a hash of 64 hexadecimal digits',
    }),
};

/** All of a run's options, those of the model among them. */
export const runOptions = { ...trainingOptions, ...modelOptions };

export const runConfigSchema = z.strictObject({
  hyperparameters: z.strictObject(modelOptions).prefault({}),
  ...trainingOptions,
});
export type RunConfig = z.infer<typeof runConfigSchema>;

/** What workers have to know of a run to do to its training images what all others do; as it stands on the wire. */
export const regularizationSchema = z.strictObject({
  seed: trainingOptions.seed.unwrap(),
  augment: augmentSchema,
  dropout: trainingOptions.dropout.unwrap(),
  labelSmoothing: trainingOptions.labelSmoothing.unwrap(),
});
export type Regularization = z.infer<typeof regularizationSchema>;

/** That of a run. */
export function regularizationOf(config: RunConfig): Regularization {
  const { seed, augment = [], dropout, labelSmoothing } = config;
  return { seed, augment, dropout, labelSmoothing };
}

/** The options that may be left without a value. */
const UNSET = {
  initSha256: undefined,
  augment: undefined,
  imageSize: undefined,
  color: undefined,
  testFraction: undefined,
  badImages: undefined,
};

/** The configuration as one flat record, with the names of the options. */
export function flatten({ hyperparameters, ...rest }: RunConfig): OptionValues<typeof runOptions> {
  return { ...UNSET, ...rest, ...hyperparameters };
}

/** The configuration that the options make; others among them are left out. */
export function runConfigOf(values: OptionValues<typeof runOptions>): RunConfig {
  const pick = (shape: OptionShape) =>
    Object.fromEntries(Object.entries(values).filter(([key]) => Object.hasOwn(shape, key)));
  return runConfigSchema.parse({ ...pick(trainingOptions), hyperparameters: pick(modelOptions) });
}

/**
 * A configuration as a run stores it, checked.
 *
 * @throws {UserError} naming the first option that is wrong
 */
export function parseRunConfig(value: unknown): RunConfig {
  const parsed = runConfigSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = 'the configuration';
  if (issue.code === 'unrecognized_keys') {
    throw unknownOptions(issue.keys, Object.keys(runOptions), where);
  }
  const key = issue.path.find((part) => Object.hasOwn(runOptions, part)) as
    keyof typeof runOptions | undefined;
  if (key === undefined) throw new UserError(`Cannot use ${where}: ${issue.message}`);
  const names = issue.path.slice(0, issue.path.indexOf(key) + 1);
  const wrong = names.reduce<unknown>(
    (at, name) => (at as Record<PropertyKey, unknown>)[name],
    value,
  );
  throw refusal(key, runOptions[key], `"${key}": ${shorten(JSON.stringify(wrong))}`);
}

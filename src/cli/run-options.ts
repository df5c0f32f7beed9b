/**
 * The options that make up a `RunConfig`: one table for the flags, the environment and `--config FILE`.
 *
 * A value comes from the flag, else from `LOCKSTEP_…` in the environment, else from the file, else it is the default.
 */
import { readFileSync } from 'node:fs';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { parseRunConfig, runConfigSchema, type RunConfig } from '../shared/config.js';
import { UserError, messageOf } from '../shared/errors.js';

/** Values by the names of the flags in camelCase. */
export type FlagValues = Readonly<Record<string, unknown>>;

interface RunOption {
  readonly flags: string;
  readonly description: string;
  readonly parse?: (text: string) => unknown;
  readonly choices?: readonly string[];
}

const RUN_OPTIONS: readonly RunOption[] = [
  { flags: '--epochs <n>', description: 'passes over the training set', parse: number },
  {
    flags: '--batch-size <images>',
    description: 'images of one update, all workers together',
    parse: number,
  },
  {
    flags: '--micro-batch <images>',
    description: 'unit of work and of reproducibility',
    parse: number,
  },
  {
    flags: '--optimizer <name>',
    description: 'what makes an update of a gradient',
    choices: ['sgd', 'momentum', 'adam'],
  },
  { flags: '--lr <rate>', description: 'learning rate at its highest', parse: number },
  {
    flags: '--schedule <name>',
    description: 'how the learning rate falls',
    choices: ['constant', 'cosine', 'step'],
  },
  {
    flags: '--warmup-epochs <epochs>',
    description: 'epochs in which the learning rate rises',
    parse: number,
  },
  {
    flags: '--step-epochs <epochs>',
    description: 'of the schedule step: epochs between two falls',
    parse: number,
  },
  {
    flags: '--step-factor <factor>',
    description: 'of the schedule step: what the rate is multiplied by',
    parse: number,
  },
  {
    flags: '--momentum <factor>',
    description: 'of momentum: share of the velocity that stays',
    parse: number,
  },
  {
    flags: '--beta1 <factor>',
    description: 'of adam: share of the mean gradient that stays',
    parse: number,
  },
  {
    flags: '--beta2 <factor>',
    description: 'of adam: share of the mean square that stays',
    parse: number,
  },
  {
    flags: '--epsilon <value>',
    description: 'of adam: added to the root of the mean square',
    parse: number,
  },
  {
    flags: '--weight-decay <rate>',
    description: 'decoupled decay, times the learning rate',
    parse: number,
  },
  {
    flags: '--seed <n>',
    description: 'of the first weights and of the order of images',
    parse: number,
  },
  { flags: '--dataset <name|dir>', description: 'mnist, or a folder of IDX files, plain or .gz' },
  {
    flags: '--validation-size <images>',
    description: 'held out, from the end of the training set',
    parse: number,
  },
  {
    flags: '--kernel-size <pixels>',
    description: 'side of the convolution kernels',
    parse: number,
  },
  {
    flags: '--channels <list>',
    description: 'output channels of each convolution',
    parse: numbers,
  },
  { flags: '--padding <pixels>', description: 'zeros around the input image', parse: number },
  { flags: '--stride <pixels>', description: 'of the convolutions', parse: number },
  {
    flags: '--hidden <list>',
    description: 'sizes of the fully connected layers; none for ""',
    parse: numbers,
  },
  {
    flags: '--activation <name>',
    description: 'after every layer but the last',
    choices: ['sigmoid', 'tanh', 'relu'],
  },
  { flags: '--pool <name>', description: 'over 2×2 windows', choices: ['avg', 'max'] },
];

const MODEL_KEYS = [
  'kernelSize',
  'channels',
  'padding',
  'stride',
  'hidden',
  'activation',
  'pool',
] as const;

/** Adds the options of a run, or those of its model alone, to a command. */
export function addRunOptions(command: Command, only: 'all' | 'model' = 'all'): void {
  const defaults = flatten(runConfigSchema.parse({}));
  for (const { flags, description, parse, choices } of RUN_OPTIONS) {
    const option = new Option(flags);
    const key = option.attributeName();
    if (only === 'model' && !(MODEL_KEYS as readonly string[]).includes(key)) continue;
    const value = defaults[key];
    const shown = Array.isArray(value) ? value.join(',') : String(value);
    option.description = `${description}${choices ? ` (${choices.join(', ')})` : ''} [${shown}]`;
    option.env(environmentName(key));
    if (parse) option.argParser(parse);
    if (choices) {
      option.argParser((text) => {
        if (!choices.includes(text))
          throw new InvalidArgumentError(`Allowed are ${choices.join(', ')}.`);
        return text;
      });
    }
    command.addOption(option);
  }
  if (only === 'all') {
    command.addOption(
      new Option('--config <file>', 'JSON file with any of these options, in camelCase').env(
        'LOCKSTEP_CONFIG',
      ),
    );
  }
}

/**
 * The configuration of a run.
 *
 * @param values of a command that `addRunOptions` was applied to
 * @throws {UserError} if the file or a value is wrong
 */
export function runConfigOf(values: FlagValues): RunConfig {
  return parseRunConfig(unflatten(givenValues(values)));
}

/** The options of a run that were given, by flag, environment or file, without the defaults. */
export function givenValues(values: FlagValues): Record<string, unknown> {
  const given = typeof values.config === 'string' ? readConfigFile(values.config) : {};
  for (const key of Object.keys(flatten(runConfigSchema.parse({})))) {
    if (values[key] !== undefined) given[key] = values[key];
  }
  return given;
}

/** The configuration as one flat record, with the names of the flags. */
export function flatten(config: RunConfig): Record<string, unknown> {
  const { hyperparameters, ...rest } = config;
  return { ...rest, ...hyperparameters };
}

function unflatten(values: Record<string, unknown>): Record<string, unknown> {
  const defaults = runConfigSchema.parse({});
  const hyperparameters: Record<string, unknown> = { ...defaults.hyperparameters };
  const rest: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(values)) {
    if ((MODEL_KEYS as readonly string[]).includes(key)) hyperparameters[key] = value;
    else rest[key] = value;
  }
  return { ...rest, hyperparameters };
}

function readConfigFile(path: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new UserError(`Cannot read the configuration ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UserError(`Cannot read the configuration ${path}: it is no JSON object`);
  }
  const { hyperparameters, ...rest } = value as Record<string, unknown>;
  return typeof hyperparameters === 'object' ? { ...rest, ...hyperparameters } : rest;
}

/** `LOCKSTEP_BATCH_SIZE` for `batchSize`. */
export function environmentName(key: string): string {
  return `LOCKSTEP_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** @throws {InvalidArgumentError} unless the text is a number */
export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value))
    throw new InvalidArgumentError('A number is expected.');
  return value;
}

function numbers(text: string): number[] {
  return text.trim() === '' ? [] : text.split(',').map(number);
}

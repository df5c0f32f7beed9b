/**
 * The values of a command's options: from the flag, or else the environment, or else the file of `--config`, or else the
 * default.
 */
import type * as z from 'zod';
import { runOptions } from '../shared/config.js';
import { UsageError, messageOf } from '../shared/errors.js';
import { parseJson } from '../shared/json.js';
import { readShortText } from '../shared/node/input-file.js';
import {
  flagName,
  flagValue,
  isList,
  optionValue,
  optionWords,
  refusal,
  shorten,
  textOf,
  unknownOptions,
  variableName,
  type OptionShape,
  type OptionValues,
} from '../shared/option.js';
import { leftAligned } from '../shared/table.js';
import { commonOptions } from './common-options.js';
import { COMMAND_OPTIONS } from './options.js';

export interface Settings<Shape extends OptionShape = OptionShape> {
  readonly values: OptionValues<Shape>;
  /** Where each value that was given came from: its flag, its variable or the file. */
  readonly sources: ReadonlyMap<string, string>;
}

/** Of a command that serves a run. */
export type RunSettings = Settings<typeof runOptions>;

export interface Inputs {
  /** By option: the text of the flag, or true and false for a switch with and without `no-`. */
  readonly flags: Readonly<Record<string, string | boolean | undefined>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly readFile: (path: string) => string;
}

/** A configuration file has no need of more, bytes. */
const MAX_FILE_BYTES = 1_000_000;

/** @throws {UsageError} naming the first value that its option does not take, or the names that are no options */
export function settingsOf<Shape extends OptionShape>(
  shape: Shape,
  { flags, environment, readFile }: Inputs,
): Settings<Shape> {
  const read = <T>(key: string, schema: z.ZodType<T>, file: ConfigFile | null) => {
    const [source, given, shown] = find(key, schema, { flags, environment, file });
    const parsed = schema.safeParse(given);
    if (!parsed.success) throw refusal(key, schema, shown);
    return { source, value: parsed.data };
  };
  const path = read('config', commonOptions.config, null).value;
  const file = path === undefined ? null : parseFile(path, readFile(path));
  const values: Record<string, unknown> = {};
  const sources = new Map<string, string>();
  for (const [key, schema] of Object.entries(shape)) {
    const { source, value } = read(key, schema, file);
    values[key] = value;
    if (source !== null) sources.set(key, source);
  }
  return { values: values as OptionValues<Shape>, sources };
}

interface ConfigFile {
  readonly path: string;
  readonly values: ReadonlyMap<string, unknown>;
}

/** @returns where the option was given, its value, and both as a message shows them */
function find(
  key: string,
  schema: z.ZodType,
  from: { flags: Inputs['flags']; environment: Inputs['environment']; file: ConfigFile | null },
): [source: string | null, value: unknown, shown: string] {
  const isSecret = optionWords.get(schema)?.isSecret === true;
  const shown = (value: unknown) => (isSecret ? '…' : shorten(textOf(value)));
  const flag = from.flags[key];
  if (flag !== undefined) {
    const value = typeof flag === 'string' ? flagValue(schema, flag) : flag;
    return [flagName(key), value, `${flagName(key)} ${shown(flag)}`];
  }
  const variable = from.environment[variableName(key)];
  if (variable !== undefined) {
    const name = variableName(key);
    return [name, optionValue(schema, variable), `${name}=${shown(variable)}`];
  }
  if (from.file?.values.has(key)) {
    const { path, values } = from.file;
    const given = values.get(key);
    // A list may be written as for the flag: "6,16".
    const isWritten = typeof given === 'string' && given !== '' && isList(schema);
    const value = isWritten ? optionValue(schema, given) : given;
    return [
      path,
      value,
      `"${key}": ${isSecret ? '…' : shorten(JSON.stringify(given))} in ${shorten(path)}`,
    ];
  }
  return [null, undefined, flagName(key)];
}

/**
 * One file may serve several commands: options of the others are let pass, names that no command knows are refused.
 * The `hyperparameters` of a run's config.json are taken as if they stood beside the others.
 */
function parseFile(path: string, text: string): ConfigFile {
  const refuse = (why: string, cause?: unknown) =>
    new UsageError(`Cannot read the configuration ${shorten(path)} (--config): ${why}`, { cause });
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    throw refuse(shorten(messageOf(error)), error);
  }
  if (!isRecord(value)) throw refuse('expected a JSON object, such as {"batchSize": 128}');
  const { hyperparameters = {}, ...rest } = value;
  if (!isRecord(hyperparameters)) throw refuse('expected a JSON object as its "hyperparameters"');
  const values = new Map([...Object.entries(rest), ...Object.entries(hyperparameters)]);
  const unknown = [...values.keys()].filter((key) => !KNOWN.includes(key));
  if (unknown.length > 0) throw unknownOptions(unknown, KNOWN, shorten(path));
  return { path, values };
}

const KNOWN = [...new Set(Object.values(COMMAND_OPTIONS).flatMap((shape) => Object.keys(shape)))];

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * @param what it is, for the error
 * @throws {UsageError} if it cannot be read, or is too large for a configuration
 */
export function readConfigFile(
  path: string,
  what = `the configuration ${shorten(path)} (--config)`,
): string {
  try {
    return readShortText(path, MAX_FILE_BYTES);
  } catch (error) {
    throw new UsageError(`Cannot read ${what}: ${shorten(messageOf(error))}`, { cause: error });
  }
}

/** What `--print-config` prints: each option as a flag, and where its value came from. */
export function settingsLines(shape: OptionShape, { values, sources }: Settings): string[] {
  const rows = Object.entries(shape).map(([key, schema]) => {
    const words = optionWords.get(schema);
    const value = values[key];
    const shown =
      value === undefined ? (words?.unset ?? '') : words?.isSecret ? '…' : textOf(value);
    return [flagName(key), shown === '' ? '""' : shown, sources.get(key) ?? 'default'];
  });
  return leftAligned(rows);
}

/** The options of a run that were given, without those left to their defaults. */
export function givenRunOptions({ values, sources }: RunSettings) {
  const keys = Object.keys(runOptions) as (keyof typeof runOptions)[];
  return keys.flatMap((key) => {
    const source = sources.get(key);
    return source === undefined ? [] : [[key, values[key], source] as const];
  });
}

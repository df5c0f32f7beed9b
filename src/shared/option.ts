/**
 * An option: a zod schema with its help. Flags, environment variables, configuration files, help and error messages are all derived
 * from it, so that none of them can disagree with the check.
 */
import * as z from 'zod';
import { BOOLEAN_WORDS } from './boolean-words.js';
import { UsageError } from './errors.js';
import { printable } from './printable.js';

export const OPTION_GROUPS = ['run', 'training', 'model', 'data', 'network', 'output'] as const;
type OptionGroup = (typeof OPTION_GROUPS)[number];

interface OptionWords {
  readonly group: OptionGroup;
  /** What it is, in a few words; of a switch that is on by default, what turning it off does. */
  readonly help: string;
  /** Stands for the value in the help: its unit where it has one. */
  readonly value?: string;
  /** Describes the default, if the schema has none. */
  readonly unset?: string;
  /** Describes the expected values, if the schema does not do it well. */
  readonly expected?: string;
  /** Its value is never printed. */
  readonly isSecret?: boolean;
}

/** The words of each option; `schema.register(optionWords, …)` comes last, as methods of zod make new schemas. */
export const optionWords = z.registry<OptionWords>();

/** Options by their names in camelCase. */
export type OptionShape = Readonly<Record<string, z.ZodType>>;
export type OptionValues<Shape extends OptionShape> = {
  readonly [Key in keyof Shape]: z.output<Shape[Key]>;
};

/** `--batch-size` for `batchSize`. */
export function flagName(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** `LOCKSTEP_BATCH_SIZE` for `batchSize`. */
export function variableName(key: string): string {
  return `LOCKSTEP_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** The value as `optionValue` reads it: `6,16`, `true`, `0.006`. */
export function textOf(value: unknown): string {
  return Array.isArray(value) ? value.map(String).join(',') : String(value);
}

/** The part of a JSON Schema that options make use of. */
interface JsonSchema {
  /** None of a choice between several. */
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
}

export function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, { io: 'input' }) as JsonSchema;
}

/** @returns whether the option is a switch, which is given without a value */
export function isSwitch(schema: z.ZodType): boolean {
  return jsonSchemaOf(schema).type === 'boolean';
}

/** @returns whether the option takes several values */
export function isList(schema: z.ZodType): boolean {
  return jsonSchemaOf(schema).type === 'array';
}

/**
 * The value that a flag means, as for a variable. Where it may be a switch or a text, as `--resume`, anything but `true`
 * and `false` is the text: a folder may be called `1`.
 */
export function flagValue(schema: z.ZodType, text: string): unknown {
  const value = optionValue(schema, text);
  const isWord = typeof value === 'boolean' && !isSwitch(schema) && String(value) !== text;
  return isWord ? text : value;
}

/**
 * The value that a variable means.
 *
 * @returns the text itself where it means none that the option takes: the schema refuses it
 */
export function optionValue(schema: z.ZodType, text: string): unknown {
  return valueOfText(jsonSchemaOf(schema), text);
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

function valueOfText(schema: JsonSchema, text: string): unknown {
  switch (schema.type ?? 'choice') {
    case 'boolean':
      return BOOLEAN_WORDS.get(text.toLowerCase()) ?? text;
    case 'integer':
    case 'number':
      return NUMBER.test(text) ? Number(text) : text;
    case 'array':
      if (text === '') return [];
      return text.split(',').map((item) => valueOfText(schema.items!, item));
    default: {
      const values = schema.anyOf?.map((member) => valueOfText(member, text));
      return values?.find((value) => typeof value !== 'string') ?? text;
    }
  }
}

/**
 * The sentence about a value that the option does not take.
 *
 * @param source how it was given, with the value shortened: `--lr 0`, `LOCKSTEP_LR=0`
 */
export function refusal(key: string, schema: z.ZodType, source: string): UsageError {
  const flag = flagName(key);
  const given = source.startsWith(flag) ? source : `${source} (${flag})`;
  return new UsageError(`Cannot use ${given}: expected ${expectation(schema)}`);
}

/** The values an option takes, in words: `a whole number from 1 to 60,000`. */
export function expectation(schema: z.ZodType): string {
  return optionWords.get(schema)?.expected ?? expectationOf(jsonSchemaOf(schema));
}

function expectationOf(schema: JsonSchema): string {
  if (schema.enum) return formatChoices(schema.enum);
  switch (schema.type ?? 'choice') {
    case 'boolean':
      return 'true or false';
    case 'integer':
      return `a whole number${formatBounds(schema)}`;
    case 'number':
      return `a number${formatBounds(schema)}`;
    case 'array': {
      const { minItems = 0, maxItems } = schema;
      const count = maxItems === undefined ? '' : ` of ${minItems} to ${maxItems} entries`;
      return `a comma-separated list${count}, each ${expectationOf(schema.items!)}`;
    }
    default: {
      const { minLength = 0, maxLength } = schema;
      return maxLength === undefined
        ? 'a text'
        : `a text of ${minLength} to ${maxLength} characters`;
    }
  }
}

function formatBounds(schema: JsonSchema): string {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  if (minimum !== undefined && maximum !== undefined) {
    return ` from ${formatNumber(minimum)} to ${formatNumber(maximum)}`;
  }
  const bounds = [
    minimum === undefined ? null : `of at least ${formatNumber(minimum)}`,
    exclusiveMinimum === undefined ? null : `above ${formatNumber(exclusiveMinimum)}`,
    maximum === undefined ? null : `at most ${formatNumber(maximum)}`,
    exclusiveMaximum === undefined ? null : `below ${formatNumber(exclusiveMaximum)}`,
  ].filter((bound) => bound !== null);
  return bounds.length === 0 ? '' : ` ${bounds.join(' and ')}`;
}

function formatNumber(value: number): string {
  return Math.abs(value) >= 1e4 ? value.toLocaleString('en-US') : String(value);
}

/** `sgd, momentum or adam` */
export function formatChoices(choices: readonly string[]): string {
  if (choices.length === 1) return choices[0];
  return `${choices.slice(0, -1).join(', ')} or ${choices.at(-1)!}`;
}

/** Maximum length of user input repeated in a message. */
const MAX_REPEATED = 120;

/** Text of a user's as a message repeats it. */
export function shorten(text: string): string {
  const shown = printable(text);
  return shown.length <= MAX_REPEATED ? shown : `${shown.slice(0, MAX_REPEATED)}…`;
}

/**
 * The sentence about names that are no options.
 *
 * @param where they were found, such as a file
 */
export function unknownOptions(
  names: readonly string[],
  known: readonly string[],
  where: string,
): UsageError {
  const listed = names.map((name) => {
    const near = nearest(name, known);
    return `"${shorten(name)}"${near === null ? '' : ` (did you mean "${near}"?)`}`;
  });
  return new UsageError(
    `Unknown option${names.length === 1 ? '' : 's'} in ${where}: ${listed.join(', ')}`,
  );
}

/** The known name that is most like the given one; null if none is much like it. */
export function nearest(name: string, known: readonly string[]): string | null {
  const plain = (text: string) => text.replace(/[-_]/g, '').toLowerCase();
  const given = plain(name.slice(0, 64));
  const ranked = known
    .map((key) => ({ key, distance: editDistance(given, plain(key)) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked.at(0);
  return best !== undefined && best.distance <= Math.max(1, given.length / 3) ? best.key : null;
}

/** Insertions, deletions and replacements of single characters between two texts (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j] + 1, next[j - 1] + 1));
    }
    row = next;
  }
  return row[b.length];
}

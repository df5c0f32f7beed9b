/** The trials of a sweep: turns the file's entries for each option into the values of each trial. Pure. */
import * as z from 'zod';
import { UsageError } from '../shared/errors.js';
import { expectation, jsonSchemaOf, shorten, unknownOptions } from '../shared/option.js';
import { createRandom } from '../shared/random.js';
import { COMMAND_OPTIONS } from './options.js';

export type TrialValues = Readonly<Record<string, unknown>>;

/** How an option varies. */
type Axis =
  | { readonly kind: 'fixed'; readonly value: unknown }
  | { readonly kind: 'choices'; readonly values: readonly unknown[] }
  | {
      readonly kind: 'range';
      readonly min: number;
      readonly max: number;
      readonly log: boolean;
      readonly steps: number | null;
      readonly isInteger: boolean;
    };

export type SweepSpace = ReadonlyMap<string, Axis>;

/** Of a sweep, grid or random. */
export const MAX_TRIALS = 10_000;

/** Options that each trial gets from the sweep itself. */
export const OF_SWEEP = ['out', 'resume', 'port', 'quiet', 'keepServing', 'progress'];
const OPTIONS = Object.fromEntries(
  Object.entries<z.ZodType>(COMMAND_OPTIONS.train).filter(([key]) => !OF_SWEEP.includes(key)),
);

const rangeSchema = z
  .strictObject({
    min: z.number(),
    max: z.number(),
    log: z.boolean().default(false),
    steps: z.number().int().min(2).max(MAX_TRIALS).nullable().default(null),
  })
  .refine(({ min, max }) => min < max, 'min must be below max')
  .refine(({ min, log }) => !log || min > 0, 'a logarithmic range must begin above 0');

/**
 * What a sweep's file says: for each option a value, a list of values, or `{min, max}` with `log` and `steps`.
 *
 * @throws {UsageError} naming the first thing that is wrong
 */
export function parseSpace(json: unknown, file: string): SweepSpace {
  const refuse = (why: string) => new UsageError(`Cannot read the sweep ${shorten(file)}: ${why}`);
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw refuse(
      'expected a JSON object, such as {"lr": {"min": 0.001, "max": 0.01, "log": true}}',
    );
  }
  const unknown = Object.keys(json).filter((key) => !Object.hasOwn(OPTIONS, key));
  if (unknown.length > 0) throw unknownOptions(unknown, Object.keys(OPTIONS), shorten(file));
  const space = new Map<string, Axis>();
  for (const [key, value] of Object.entries(json)) {
    const axis = axisOf(OPTIONS[key], value);
    if (typeof axis === 'string') {
      throw refuse(`"${key}": ${shorten(JSON.stringify(value))}: ${axis}`);
    }
    space.set(key, axis);
  }
  if ([...space.values()].every(({ kind }) => kind === 'fixed')) {
    throw refuse('no option in it has several values');
  }
  return space;
}

/** The axis, or what is wrong with it. */
function axisOf(schema: z.ZodType, value: unknown): Axis | string {
  const takes = (one: unknown) => one !== undefined && schema.safeParse(one).success;
  if (takes(value)) return { kind: 'fixed', value };
  const expected = `expected ${expectation(schema)}, or a list of such`;
  if (Array.isArray(value)) {
    return value.length > 0 && value.every(takes) ? { kind: 'choices', values: value } : expected;
  }
  const { type } = jsonSchemaOf(schema);
  const isInteger = type === 'integer';
  if (type !== 'number' && !isInteger) return expected;
  const parsed = rangeSchema.safeParse(value);
  if (!parsed.success) {
    return `${expected}, or {"min": …, "max": …, "log": …, "steps": …} (${parsed.error.issues[0].message})`;
  }
  const { min, max } = parsed.data;
  return takes(min) && takes(max) ? { kind: 'range', isInteger, ...parsed.data } : expected;
}

/**
 * Every combination, the last option changing fastest.
 *
 * @throws {UsageError} if there are too many, or a range does not say how many values it has
 */
export function gridTrials(space: SweepSpace): TrialValues[] {
  let trials: TrialValues[] = [{}];
  for (const [key, axis] of space) {
    const values = valuesOf(key, axis);
    if (trials.length * values.length > MAX_TRIALS) {
      throw new UsageError(
        `Cannot try more than ${MAX_TRIALS} combinations; give --trials N for a random search`,
      );
    }
    trials = trials.flatMap((trial) => values.map((value) => ({ ...trial, [key]: value })));
  }
  return trials;
}

function valuesOf(key: string, axis: Axis): readonly unknown[] {
  if (axis.kind === 'fixed') return [axis.value];
  if (axis.kind === 'choices') return axis.values;
  const { steps } = axis;
  if (steps === null) {
    throw new UsageError(
      `Cannot make a grid of "${key}": give its range "steps", or --trials N for a random search`,
    );
  }
  const values = Array.from({ length: steps }, (_, step) => between(axis, step / (steps - 1)));
  return [...new Set(values)];
}

/** Trial by trial from the seed: more trials begin with the same. */
export function randomTrials(space: SweepSpace, numTrials: number, seed: number): TrialValues[] {
  return Array.from({ length: numTrials }, (_, trial) => {
    const drawn = [...space].map(([key, axis]) => {
      const random = createRandom(seed, 'sweep', trial, key);
      if (axis.kind === 'fixed') return [key, axis.value];
      if (axis.kind === 'choices') return [key, axis.values[random.below(axis.values.length)]];
      return [key, between(axis, random.float())];
    });
    return Object.fromEntries(drawn) as TrialValues;
  });
}

/** Of four significant digits, so that the last bits of a machine's logarithm show nowhere. */
function between({ min, max, log, isInteger }: Axis & { kind: 'range' }, share: number): number {
  const value = log ? min * (max / min) ** share : min + (max - min) * share;
  const rounded = isInteger ? Math.round(value) : Number(value.toPrecision(4));
  return Math.min(max, Math.max(min, rounded));
}

/** The options that differ between trials, in the order of the file. */
export function variedKeys(space: SweepSpace): string[] {
  return [...space].filter(([, { kind }]) => kind !== 'fixed').map(([key]) => key);
}

/** Every option of every command, by flag, variable and file: the same values, and the same refusals. */
import fc from 'fast-check';
import type * as z from 'zod';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { GROUP_EXAMPLES, optionCommand } from '../../src/cli/command.js';
import { COMMAND_OPTIONS, type CommandName } from '../../src/cli/options.js';
import { settingsLines, settingsOf, type Settings } from '../../src/cli/settings.js';
import { parseRunConfig } from '../../src/shared/config.js';
import {
  expectation,
  flagName,
  isSwitch,
  jsonSchemaOf,
  optionWords,
  textOf,
  variableName,
  type OptionShape,
} from '../../src/shared/option.js';
import { UsageError } from '../../src/shared/errors.js';

const NAMES = Object.keys(COMMAND_OPTIONS) as CommandName[];
const EVERY_OPTION = NAMES.flatMap((name) =>
  Object.entries<z.ZodType>(COMMAND_OPTIONS[name]).map(([key, schema]) => ({ name, key, schema })),
);

afterEach(() => vi.unstubAllEnvs());

/** What the command gets, through commander as in the program. */
async function parse(name: CommandName, args: readonly string[]): Promise<Settings> {
  let seen: Settings | null = null;
  const command = optionCommand(name, '', '', (settings) => {
    seen = settings;
  });
  command.exitOverride().configureOutput({ writeErr: () => undefined });
  await command.parseAsync([...args], { from: 'user' });
  return seen!;
}

function withVariables(name: CommandName, environment: Record<string, string>): Settings {
  return settingsOf<OptionShape>(COMMAND_OPTIONS[name], { flags: {}, environment, readFile });
}

function withFile(name: CommandName, values: unknown): Settings {
  const text = JSON.stringify(values);
  return settingsOf<OptionShape>(COMMAND_OPTIONS[name], {
    flags: { config: 'run.json' },
    environment: {},
    readFile: () => text,
  });
}

function readFile(path: string): never {
  throw new Error(`Not to be read: ${path}`);
}

/** Values that the option takes, by its JSON Schema as far as that says it. */
function valuesOf(schema: z.ZodType): fc.Arbitrary<unknown> {
  return arbitraryOf(jsonSchemaOf(schema)).filter((value) => schema.safeParse(value).success);
}

function arbitraryOf(schema: ReturnType<typeof jsonSchemaOf>): fc.Arbitrary<unknown> {
  if (schema.enum) return fc.constantFrom(...schema.enum);
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  switch (schema.type ?? 'choice') {
    case 'boolean':
      return fc.boolean();
    case 'integer':
      return fc.integer({ min: minimum!, max: maximum! });
    case 'number':
      return fc.double({
        min: minimum ?? exclusiveMinimum!,
        max: maximum ?? exclusiveMaximum!,
        minExcluded: minimum === undefined,
        maxExcluded: maximum === undefined,
        noNaN: true,
      });
    case 'array': {
      const { minItems = 0, maxItems = 5 } = schema;
      return fc.array(arbitraryOf(schema.items!), { minLength: minItems, maxLength: maxItems });
    }
    case 'string':
      if (schema.pattern !== undefined)
        return fc
          .stringMatching(new RegExp(schema.pattern))
          .filter((time) => !/^[0.]+s$/.test(time));
      // A file tells the directory "true" from true, a flag cannot: `--resume ./true`.
      return fc.stringMatching(/^[a-z/][ -~äß数]{2,40}[xyz]$/);
    default:
      return fc.oneof(...schema.anyOf!.map(arbitraryOf));
  }
}

/** Some options of one command, with values. */
const given = fc.constantFrom(...NAMES).chain((name) =>
  fc.record({
    name: fc.constant(name),
    values: fc.record(
      Object.fromEntries(
        Object.entries<z.ZodType>(COMMAND_OPTIONS[name]).map(([key, schema]) => [
          key,
          valuesOf(schema),
        ]),
      ),
      { requiredKeys: [] },
    ),
  }),
);

describe('options', () => {
  test('are the same by flag, by variable and by file', async () => {
    await fc.assert(
      fc.asyncProperty(given, async ({ name, values }) => {
        const entries = Object.entries(values);
        const args = entries.flatMap(([key, value]) => {
          if (value === true) return [flagName(key)];
          if (value === false)
            return [key === 'resume' ? '--resume=false' : `--no-${flagName(key).slice(2)}`];
          return [`${flagName(key)}=${textOf(value)}`];
        });
        const variables = Object.fromEntries(
          entries.map(([key, value]) => [variableName(key), textOf(value)]),
        );
        const fromFile = withFile(name, values);
        const shape: OptionShape = COMMAND_OPTIONS[name];
        for (const [key, value] of entries) {
          expect(fromFile.values[key]).toEqual(shape[key].parse(value));
        }
        expect(withVariables(name, variables).values).toEqual(fromFile.values);
        expect((await parse(name, args)).values).toMatchObject(fromFile.values);
        expect([...fromFile.sources.keys()].sort()).toEqual(Object.keys(values).sort());
      }),
      { numRuns: 300 },
    );
  });

  test('are taken from the flag before the variable, and from the variable before the file', async () => {
    const inputs = (flags: object, environment: object) => ({
      flags: { config: 'run.json', ...flags },
      environment: { ...environment },
      readFile: () => '{"seed": 3}',
    });
    const shape: OptionShape = COMMAND_OPTIONS.train;
    const seedOf = (flags: object, environment: object) => {
      const { values, sources } = settingsOf(shape, inputs(flags, environment));
      return [values.seed, sources.get('seed')];
    };
    expect(seedOf({ seed: '1' }, { LOCKSTEP_SEED: '2' })).toEqual([1, '--seed']);
    expect(seedOf({}, { LOCKSTEP_SEED: '2' })).toEqual([2, 'LOCKSTEP_SEED']);
    expect(seedOf({}, {})).toEqual([3, 'run.json']);
    vi.stubEnv('LOCKSTEP_SEED', '2');
    expect((await parse('train', [])).values.seed).toBe(2);
    expect((await parse('train', ['--seed', '1'])).values.seed).toBe(1);
  });

  test.each(EVERY_OPTION.filter(({ schema }) => isSwitch(schema)))(
    '$key of $name, a switch, has one rule for words',
    ({ name, key }) => {
      const valueOf = (word: string) =>
        withVariables(name, { [variableName(key)]: word }).values[key];
      expect(['true', '1', 'yes', 'on', 'TRUE', 'Yes'].map(valueOf)).toEqual(Array(6).fill(true));
      expect(['false', '0', 'no', 'off', 'False', 'NO'].map(valueOf)).toEqual(Array(6).fill(false));
      for (const word of ['', '2', 'maybe', ' true']) {
        expect(() => valueOf(word)).toThrow(
          `${variableName(key)}=${word} (${flagName(key)}): expected true or false`,
        );
      }
    },
  );
});

describe('nonsense', () => {
  const TEXTS = [
    '',
    ' 5',
    '5 ',
    '0x10',
    'Infinity',
    'NaN',
    '1e999',
    '-1',
    '1.5',
    '5,,6',
    'ä',
    '\u001b[31m\nx',
    'x'.repeat(5000),
  ];
  const JSONS: readonly unknown[] = [
    null,
    {},
    [],
    [[]],
    '',
    -1,
    1.5,
    1e300,
    { toString: 1 },
    ['\u0000'],
    'x'.repeat(5000),
    [-1],
  ];

  /** Whether the option should take it, from its JSON Schema; what the schema cannot say is left out. */
  function isSense(schema: z.ZodType, value: unknown): boolean {
    return schema.safeParse(value).success;
  }

  function expectRefusal(attempt: () => unknown, key: string, source: string): void {
    let thrown: unknown;
    try {
      attempt();
    } catch (error) {
      thrown = error;
    }
    expect(thrown, `${source} of ${key}`).toBeInstanceOf(UsageError);
    const { message } = thrown as UsageError;
    expect(message).toContain(flagName(key));
    expect(message).toContain(source);
    expect(message).toMatch(/^Cannot use [^\p{Cc}]+: expected [^\p{Cc}]+$/u);
    expect(message.length).toBeLessThan(400);
  }

  test.each(EVERY_OPTION)('$key of $name: refused in one sentence', ({ name, key, schema }) => {
    const shape: OptionShape = { [key]: schema };
    const json = jsonSchemaOf(schema);
    const isText = json.type === 'string' && !json.enum;
    const wrongTexts = TEXTS.filter((text) =>
      isText ? text === '' || text.length > 4096 : !takesText(json, text),
    );
    expect(wrongTexts.length).toBeGreaterThan(0);
    for (const text of wrongTexts) {
      if (!isSwitch(schema)) {
        expectRefusal(
          () => settingsOf(shape, { flags: { [key]: text }, environment: {}, readFile }),
          key,
          flagName(key),
        );
      }
      expectRefusal(
        () => withVariables(name, { [variableName(key)]: text }),
        key,
        variableName(key),
      );
    }
    for (const value of JSONS.filter((value) => !isSense(schema, value))) {
      expectRefusal(() => withFile(name, { [key]: value }), key, 'run.json');
    }
  });

  /** Which of TEXTS are values of that type; none of the numbers' bounds lets -1 pass. */
  function takesText(json: ReturnType<typeof jsonSchemaOf>, text: string): boolean {
    if (json.anyOf) return json.anyOf.some((member) => takesText(member, text));
    if (json.enum || json.pattern !== undefined) return false;
    if (json.type === 'string') return text !== '' && text.length <= 4096;
    if (json.type === 'array' && text !== '' && json.items?.pattern !== undefined) {
      const item = new RegExp(json.items.pattern);
      return text.split(',').every((part) => item.test(part));
    }
    if (json.type === 'array') return text === '' && (json.minItems ?? 0) === 0;
    return (
      json.type === 'number' && text === '1.5' && (json.maximum ?? json.exclusiveMaximum!) > 1.5
    );
  }

  test.each([
    [
      '{"epoch": 3, "x": 1}',
      /^Unknown options in run.json: "epoch" \(did you mean "epochs"\?\), "x"$/,
    ],
    ['{"batch-size": 3}', /"batch-size" \(did you mean "batchSize"\?\)$/],
    ['{"hyperparameters": {"chanels": [1]}}', /"chanels" \(did you mean "channels"\?\)$/],
    ['{"hyperparameters": 3}', /^Cannot read the configuration run.json \(--config\): expected/],
    ['{"__proto__": 1}', /^Unknown option in run.json: "__proto__"/],
    ['[]', /^Cannot read the configuration run.json \(--config\): expected a JSON object/],
    ['{"epochs": ', /^Cannot read the configuration run.json \(--config\): /],
  ])('in a file, %s', (text, message) => {
    const attempt = () =>
      settingsOf(COMMAND_OPTIONS.train, {
        flags: { config: 'run.json' },
        environment: {},
        readFile: () => text,
      });
    expect(attempt).toThrow(UsageError);
    expect(attempt).toThrow(message);
  });

  test('a file with the options of another command is taken', () => {
    const text = JSON.stringify({ ...parseRunConfig({}), workers: 2, keepServing: true });
    const inputs = { flags: { config: 'f' }, environment: {}, readFile: () => text };
    expect(settingsOf(COMMAND_OPTIONS.summary, inputs).values.channels).toEqual([6, 16]);
    expect(settingsOf(COMMAND_OPTIONS.train, inputs).values).toMatchObject({
      workers: 2,
      keepServing: true,
    });
  });

  test('a list is taken from a file as from a flag, too', () => {
    const inputs = (text: string) => ({
      flags: { config: 'f' },
      environment: {},
      readFile: () => text,
    });
    const { values } = settingsOf(COMMAND_OPTIONS.train, inputs('{"channels": "4,8"}'));
    expect(values.channels).toEqual([4, 8]);
    expect(() => settingsOf(COMMAND_OPTIONS.train, inputs('{"channels": "4;8"}'))).toThrow(
      UsageError,
    );
  });

  test('a learning rate of zero', () => {
    expect(() => withVariables('train', { LOCKSTEP_LR: '0' })).toThrow(
      'Cannot use LOCKSTEP_LR=0 (--lr): expected a number above 0 and at most 1,000,000',
    );
  });

  test('a secret is not repeated', () => {
    expect(() => withFile('train', { token: ['hunter2'] })).toThrow(
      /"token": … in run.json \(--token\)/,
    );
    const settings = withVariables('train', { LOCKSTEP_TOKEN: 'hunter2' });
    expect(settingsLines(COMMAND_OPTIONS.train, settings).join('\n')).not.toContain('hunter2');
  });
});

describe('help', () => {
  test('tells each option with its value and its default', () => {
    for (const name of NAMES) {
      const help = optionCommand(name, '', '', () => undefined)
        .helpInformation()
        .replace(/\s+/g, ' ');
      for (const [key, schema] of Object.entries<z.ZodType>(COMMAND_OPTIONS[name])) {
        const { default: preset } = jsonSchemaOf(schema);
        const flag = preset === true ? `--no-${flagName(key).slice(2)}` : flagName(key);
        expect(help).toContain(` ${flag} `);
        const words = optionWords.get(schema)!;
        expect(help).toContain(words.help);
        if (preset === undefined) expect(help, key).toContain(`default: ${words.unset})`);
        else if (typeof preset !== 'boolean')
          expect(help, key).toContain(`default: ${textOf(preset)})`);
        expect(expectation(schema)).toMatch(/^[a-z].*[^.]$/);
      }
    }
  });

  test.each(['1', 'on', 'no', 'TRUE'])('takes --resume %s for a directory', async (word) => {
    const { values } = await parse('train', ['--resume', word]);
    expect(values.resume).toBe(word);
  });

  test('has examples that the commands take', async () => {
    for (const name of ['train', 'coordinator'] as const) {
      const help = optionCommand(name, '', '', () => undefined).helpInformation();
      for (const example of Object.values(GROUP_EXAMPLES)) {
        expect(help).toContain(`, such as ${example}:`);
        expect((await parse(name, example.split(' '))).sources.size).toBeGreaterThan(1);
      }
    }
  });
});

test('--print-config prints what holds and where it came from', async () => {
  const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
  vi.stubEnv('LOCKSTEP_SEED', '7');
  await parse('train', ['--lr', '0.01', '--print-config']);
  const lines = (log.mock.calls[0][0] as string).split('\n').map((line) => line.split(/ {2,}/));
  log.mockRestore();
  expect(lines).toContainEqual(['--lr', '0.01', '--lr']);
  expect(lines).toContainEqual(['--seed', '7', 'LOCKSTEP_SEED']);
  expect(lines).toContainEqual(['--epochs', '20', 'default']);
  expect(lines).toHaveLength(Object.keys(COMMAND_OPTIONS.train).length);
});

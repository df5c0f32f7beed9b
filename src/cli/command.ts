/** A command of the program, as commander has it. Its flags and its help are made from src/cli/options.ts. */
import { Command, Option } from 'commander';
import type * as z from 'zod';
import {
  OPTION_GROUPS,
  flagName,
  formatChoices,
  isSwitch,
  jsonSchemaOf,
  optionWords,
  textOf,
  variableName,
  type OptionShape,
} from '../shared/option.js';
import { commonOptions } from './common-options.js';
import { COMMAND_OPTIONS, type CommandName } from './options.js';
import {
  readConfigFile,
  settingsLines,
  settingsOf,
  type Inputs,
  type Settings,
} from './settings.js';
import { unknownVariables, unknownVariablesWarning } from './variables.js';
import { warn } from './warn.js';

type ShapeOf<Name extends CommandName> = (typeof COMMAND_OPTIONS)[Name];

/** Shown at the head of a group of options, in the commands that have them all. */
export const GROUP_EXAMPLES: Readonly<Record<(typeof OPTION_GROUPS)[number], string>> = {
  run: '--min-workers 2 --target-accuracy 0.98',
  training: '--epochs 5 --batch-size 128 --lr 0.008 --seed 2',
  model: '--channels 8,16 --activation relu --pool max',
  data: '--dataset data/fashion-mnist --validation-size 5000',
  network: '--host 0.0.0.0 --port 8000',
  output: '--out runs/first --trace --log-every 500',
};

/**
 * @param example the arguments of a typical call
 * @param run does the command's work with its settings and its positional arguments
 */
export function optionCommand<Name extends CommandName>(
  name: Name,
  description: string,
  example: string,
  run: (settings: Settings<ShapeOf<Name>>, args: readonly string[]) => void | Promise<void>,
): Command {
  const shape = { ...COMMAND_OPTIONS[name], ...commonOptions };
  const command = new Command(name).description(description);
  for (const group of OPTION_GROUPS) {
    for (const [key, schema] of Object.entries<z.ZodType>(shape)) {
      if (optionWords.get(schema)?.group !== group) continue;
      for (const option of flagsOf(key, schema)) {
        command.addOption(option.helpGroup(headingOf(group, shape)));
      }
    }
  }
  command.addHelpText(
    'after',
    `
Each option can also be set by an environment variable (${variableName('logLevel')} for --log-level) or
in the JSON file of --config. Flags override variables, and variables override the file.

Example: lockstep ${name} ${example}`,
  );
  return command.action(async () => {
    const unknown = unknownVariables(process.env);
    if (unknown.length > 0) warn(unknownVariablesWarning(unknown));
    // Processes that this one starts need not say so again.
    for (const variable of unknown) Reflect.deleteProperty(process.env, variable);
    const settings = settingsOf(shape, {
      flags: command.opts<Inputs['flags']>(),
      environment: process.env,
      readFile: readConfigFile,
    });
    if (settings.values.printConfig === true) {
      console.log(settingsLines(COMMAND_OPTIONS[name], settings).join('\n'));
      return;
    }
    await run(settings as Settings<ShapeOf<Name>>, command.args);
  });
}

function headingOf(group: (typeof OPTION_GROUPS)[number], shape: OptionShape): string {
  const title = `${group[0].toUpperCase()}${group.slice(1)} options`;
  const flags = new Set(Object.keys(shape).map(flagName));
  const example = GROUP_EXAMPLES[group];
  const fits = example.split(' ').every((word) => !word.startsWith('--') || flags.has(word));
  return fits ? `${title}, such as ${example}:` : `${title}:`;
}

/** The flag, and the opposite of a switch; the help shows the one that changes something. */
function flagsOf(key: string, schema: z.ZodType): Option[] {
  const { help, value = 'value' } = optionWords.get(schema)!;
  const flag = flagName(key);
  const description = `${help}${defaultOf(schema)}`;
  if (isSwitch(schema)) {
    const isOn = jsonSchemaOf(schema).default === true;
    const yes = new Option(flag, description);
    const no = new Option(`--no-${flag.slice(2)}`, description);
    return isOn ? [yes.hideHelp(), no] : [yes, no.hideHelp()];
  }
  const takesNothingToo = jsonSchemaOf(schema).anyOf?.some(({ type }) => type === 'boolean');
  return [new Option(takesNothingToo ? `${flag} [${value}]` : `${flag} <${value}>`, description)];
}

/** ` (sgd, momentum or adam; default: adam)` */
function defaultOf(schema: z.ZodType): string {
  const json = jsonSchemaOf(schema);
  const preset = json.default === undefined ? optionWords.get(schema)!.unset : textOf(json.default);
  const notes = [
    json.enum && json.enum.length > 1 ? formatChoices(json.enum) : null,
    preset === undefined || typeof json.default === 'boolean' ? null : `default: ${preset}`,
  ].filter((note) => note !== null);
  return notes.length === 0 ? '' : ` (${notes.join('; ')})`;
}

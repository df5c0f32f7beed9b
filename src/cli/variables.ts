/** The environment variables of the program: one for each option, and some others. */
import { nearest, shorten, variableName } from '../shared/option.js';
import { commonOptions } from './common-options.js';
import { COMMAND_OPTIONS } from './options.js';

const PREFIX = 'LOCKSTEP_';

/** Those that are no option's: of the program, of the files in deploy/, of scripts/ and of the tests. */
const OTHERS = [
  'LOCKSTEP_DEBUG',
  'LOCKSTEP_MAIN',
  'LOCKSTEP_URL',
  'LOCKSTEP_CHROMIUM',
  'LOCKSTEP_PYTHON',
  'LOCKSTEP_ABSENT_BROWSERS',
  'LOCKSTEP_RANDOM_MODELS',
  'LOCKSTEP_RANDOM_SEED',
  'LOCKSTEP_TEST_GPU',
  'LOCKSTEP_TEST_MARK',
];

const KNOWN = new Set([
  ...[commonOptions, ...Object.values(COMMAND_OPTIONS)].flatMap((shape) =>
    Object.keys(shape).map(variableName),
  ),
  ...OTHERS,
]);

/** @returns the names that look like variables of the program and are none */
export function unknownVariables(environment: NodeJS.ProcessEnv): string[] {
  const names = Object.keys(environment);
  // What Kubernetes tells each container of a service such as lockstep-coordinator.
  const services = names.flatMap((name) => /^(.+)_SERVICE_HOST$/.exec(name)?.[1] ?? []);
  const isLink = (name: string) =>
    services.some((of) => name.startsWith(`${of}_SERVICE_`) || name.startsWith(`${of}_PORT`));
  return names.filter((name) => name.startsWith(PREFIX) && !KNOWN.has(name) && !isLink(name));
}

/** The sentence about names that `unknownVariables` found; their values may be secrets. */
export function unknownVariablesWarning(names: readonly string[]): string {
  const known = [...KNOWN].map((name) => name.slice(PREFIX.length));
  const listed = names.map((name) => {
    const near = nearest(name.slice(PREFIX.length), known);
    return `${shorten(name)}${near === null ? '' : ` (did you mean ${PREFIX}${near}?)`}`;
  });
  const what = names.length === 1 ? 'variable' : 'variables';
  return `Ignoring unknown ${what} of the environment: ${listed.join(', ')}`;
}

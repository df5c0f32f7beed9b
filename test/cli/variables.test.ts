/** Variables of the environment that are no option's, and those that are nothing. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test, vi } from 'vitest';
import { optionCommand } from '../../src/cli/command.js';
import { unknownVariables, unknownVariablesWarning } from '../../src/cli/variables.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

test('unknownVariables() finds what no command and no script reads', () => {
  const environment = {
    LOCKSTEP_BATCH_SIZE: '128',
    LOCKSTEP_CONFIG: 'a.json',
    LOCKSTEP_TOKEN: 'secret',
    LOCKSTEP_BATCHSIZE: '128',
    LOCKSTEP_NONSENSE: '1',
    PATH: '/bin',
  };
  expect(unknownVariables(environment)).toEqual(['LOCKSTEP_BATCHSIZE', 'LOCKSTEP_NONSENSE']);
});

test('unknownVariables() passes over what Kubernetes tells of a service', () => {
  const links = {
    LOCKSTEP_COORDINATOR_SERVICE_HOST: '10.0.0.1',
    LOCKSTEP_COORDINATOR_SERVICE_PORT_HTTP: '7700',
    LOCKSTEP_COORDINATOR_PORT: 'tcp://10.0.0.1:7700',
    LOCKSTEP_COORDINATOR_PORT_7700_TCP_ADDR: '10.0.0.1',
  };
  expect(unknownVariables(links)).toEqual([]);
});

test('unknownVariables() knows every name in the repository', () => {
  const names = ['src', 'scripts', 'deploy', 'docs', 'test'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      // The tests of options have wrong ones.
      .filter((entry) => entry.isFile() && !entry.parentPath.endsWith(join('test', 'cli')))
      .map(({ parentPath, name }) => readFileSync(join(parentPath, name), 'latin1'))
      .flatMap((text) => text.match(/\bLOCKSTEP_[A-Z0-9_]*[A-Z0-9]\b/g) ?? []),
  );
  expect(names.length).toBeGreaterThan(20);
  expect(unknownVariables(Object.fromEntries(names.map((name) => [name, ''])))).toEqual([]);
});

test('a command says once which variables it ignores, and what they may have meant', async () => {
  vi.stubEnv('LOCKSTEP_EPOCS', 'secret');
  vi.stubEnv('LOCKSTEP_ZZZZ', '1');
  const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const command = optionCommand('summary', '', '', () => undefined);
  await command.parseAsync([], { from: 'user' });
  const sentence =
    'Ignoring unknown variables of the environment: LOCKSTEP_EPOCS (did you mean LOCKSTEP_EPOCHS?), LOCKSTEP_ZZZZ';
  expect(said.mock.calls).toEqual([[`lockstep: ${sentence}\n`]]);
  // A process that it starts finds none.
  expect(unknownVariables(process.env)).toEqual([]);
});

test('unknownVariablesWarning() of one name', () => {
  expect(unknownVariablesWarning(['LOCKSTEP_LOGLEVEL'])).toBe(
    'Ignoring unknown variable of the environment: LOCKSTEP_LOGLEVEL (did you mean LOCKSTEP_LOG_LEVEL?)',
  );
});

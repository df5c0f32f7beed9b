/** What the scripts answer to --help. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const SCRIPTS = fileURLToPath(new URL('../../scripts/', import.meta.url));
/** Parts of others, and the build, which comes before everything else. */
const NO_PROGRAMS = [
  'at-exit.mjs',
  'build.mjs',
  'build-page.mjs',
  'reduce-colours.mjs',
  'usage.mjs',
];
const PROGRAMS = readdirSync(SCRIPTS).filter(
  (name) => name.endsWith('.mjs') && !NO_PROGRAMS.includes(name),
);

describe.each(PROGRAMS)('%s --help', (name) => {
  test('prints what it does, and does nothing', () => {
    const [, first] = /^\/\*\*\n \* (.*)/.exec(readFileSync(SCRIPTS + name, 'utf8'))!;
    const args = [SCRIPTS + name, '--help'];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout.split('\n', 1)).toEqual([first]);
    expect(stdout).toContain(
      `node scripts/${name}`.replace('node scripts/bench.mjs', 'npm run bench'),
    );
    expect(stdout).not.toMatch(/^ ?\*/m);
  });
});

test('run-typescript.mjs leaves --help to the program that it runs', () => {
  const program = fileURLToPath(new URL('../support/attack/probe.mjs', import.meta.url));
  const args = [`${SCRIPTS}run-typescript.mjs`, program, '--help'];
  expect(execFileSync(process.execPath, args, { encoding: 'utf8' })).not.toContain('TypeScript');
});

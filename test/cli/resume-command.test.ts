import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { resumeCommand } from '../../src/cli/resume-command.js';

const run = { path: 'runs/a', port: null };

/** The words that a shell makes of it, after `npx lockstep`. */
function wordsOf(command: string, environment: Record<string, string> = {}): string[] {
  const script = `set -- ${command}; shift 2; printf '%s\\n' "$@"`;
  const env = { PATH: process.env.PATH, ...environment };
  return execFileSync('sh', ['-c', script], { env, stdio: ['ignore', 'pipe', 'ignore'] })
    .toString()
    .trimEnd()
    .split('\n');
}

describe('resumeCommand()', () => {
  it.each([
    ['train --workers 2', 'train --workers 2 --resume runs/a'],
    ['train --out x --seed 3', 'train --seed 3 --resume runs/a'],
    ['train --out=x --resume --seed 3', 'train --seed 3 --resume runs/a'],
    ['train --resume x --quiet', 'train --quiet --resume runs/a'],
    ['train --seed 3 --resume', 'train --seed 3 --resume runs/a'],
    ['train --host 0.0.0.0 --port 8000', 'train --host 0.0.0.0 --port 8000 --resume runs/a'],
    ['train --port=0', 'train --port 0 --resume runs/a'],
  ])('keeps the flags of %s, and says where the run is', (given, expected) => {
    expect(resumeCommand(given.split(' '), run)).toBe(`npx lockstep ${expected}`);
  });

  it('names a run whose path looks like a flag so that it is none', () => {
    expect(resumeCommand(['train', '--out=-x'], { path: '-x', port: null })).toBe(
      'npx lockstep train --resume ./-x',
    );
  });

  it('has the port where the workers look for the run', () => {
    for (const given of [['coordinator'], ['coordinator', '--port', '0']]) {
      expect(resumeCommand(given, { ...run, port: 7700 })).toBe(
        'npx lockstep coordinator --port 7700 --resume runs/a',
      );
    }
  });

  it.each([['--token', 'open sesame'], ['--token=open sesame']])(
    'has no secret in it but its variable, given as %s',
    (...flags) => {
      const command = resumeCommand(['coordinator', ...flags, '--quiet'], run);
      expect(command).not.toMatch(/open|sesame/);
      expect(wordsOf(command, { LOCKSTEP_TOKEN: 'open sesame' })).toEqual([
        'coordinator',
        '--token',
        'open sesame',
        '--quiet',
        '--resume',
        'runs/a',
      ]);
      expect(() => wordsOf(command)).toThrow();
    },
  );

  it('survives the shell, whatever stands in it', () => {
    const name = `it's "$HOME" \`id\` \\ * ; & é`;
    const command = resumeCommand(['train', '--config', name], { path: `${name}/x`, port: null });
    expect(wordsOf(command)).toEqual(['train', '--config', name, '--resume', `${name}/x`]);
  });
});

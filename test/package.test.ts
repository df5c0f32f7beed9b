/** The package as it is published holds what its messages and its help point at. */
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** A file of the repository by its path, in what the program may print. */
const PATH = /(?<![\w./-])(?:docs|scripts|examples|deploy|test)\/[\w./-]*\w\.[a-z]\w*/g;
/** Comments are for readers of the repository. */
const COMMENT = /\/\*[^]*?\*\/|(?<![:'"`\w])\/\/[^\n]*/g;

test('npm packs the program, its documents and its examples, and every file that messages name', async () => {
  const { stdout } = await promisify(execFile)(
    'npm',
    ['pack', '--dry-run', '--json', '--ignore-scripts'],
    { cwd: ROOT, maxBuffer: 2 ** 24, shell: process.platform === 'win32' },
  );
  const [{ files }] = JSON.parse(stdout) as [{ files: { path: string }[] }];
  const packed = new Set(files.map(({ path }) => path));
  for (const path of [
    'dist/cli/main.js',
    'dist/index.d.ts',
    'README.md',
    'LICENSE',
    'docs/tutorial.md',
  ]) {
    expect(packed).toContain(path);
  }
  const sources = (await readdir(join(ROOT, 'src'), { recursive: true })).filter((name) =>
    /\.(ts|html)$/.test(name),
  );
  const named = new Set<string>();
  for (const name of sources) {
    const text = (await readFile(join(ROOT, 'src', name), 'utf8')).replace(COMMENT, '');
    for (const [path] of text.matchAll(PATH)) named.add(path);
  }
  // The net is not torn: there are such messages.
  expect(named.size).toBeGreaterThan(0);
  expect([...named].filter((path) => !packed.has(path))).toEqual([]);
});

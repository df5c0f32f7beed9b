/** What the documents point at is there: a file that moves takes its mentions with it. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DOCUMENTS = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync(`${ROOT}docs`)
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];
/** A file of the repository by its path, in text or in code. */
const PATH = /(?<![\w./-])(?:src|test|scripts|docs|deploy|examples)\/[\w./-]*\w\.[a-z]\w*/g;
/** The target of a link: [text](target), without its #anchor. */
const LINK = /\]\((?!https?:|#)([^)#\s]+)/g;

it("README.md's tree names every folder of src", () => {
  const readme = readFileSync(`${ROOT}README.md`, 'utf8');
  const [tree] = /^src\/cli\/ [^]*?(?=^```)/m.exec(readme)!;
  // A folder, and what is said of it, on more than one line if need be.
  const entries = tree.split(/^(?=\S)/m).map((entry) => entry.split(/\s+/));
  const isNamed = (folder: string) =>
    entries.some(
      ([path, ...words]) =>
        folder === path ||
        (folder.startsWith(path) &&
          words.some((word) => word.replace(/[(),;.]/g, '') === folder.slice(path.length))),
    );
  const folders = readdirSync(`${ROOT}src`, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => `${join(entry.parentPath, entry.name)}/`.slice(ROOT.length));
  expect(folders.length).toBeGreaterThan(10);
  expect(folders.filter((folder) => !isNamed(folder))).toEqual([]);
});

describe.each(DOCUMENTS)('%s', (document) => {
  const text = readFileSync(`${ROOT}${document}`, 'utf8');

  it('names files that are there', () => {
    // Secrets are made by whoever follows the document.
    const paths = [...text.matchAll(PATH)].flatMap(([path]) => (path.endsWith('.env') ? [] : path));
    expect(paths.filter((path) => !existsSync(`${ROOT}${path}`))).toEqual([]);
  });

  it('links to files that are there', () => {
    const base = new URL(document, `file://${ROOT}`);
    const targets = [...text.matchAll(LINK)].map(([, target]) => new URL(target, base));
    expect(targets.filter((target) => !existsSync(target)).map(String)).toEqual([]);
  });
});

/** docs/tutorial.md: every command that it gives, in its order, and the page at its end. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { hasBrowser, launchBrowser } from '../support/browser.js';
import { startProgram, type Ending } from '../support/lockstep.js';
import { MAIN } from '../support/program.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Blocks of code in their order; of a page the text before it says which file it is. */
function blocksOf(markdown: string): { language: string; text: string; before: string }[] {
  return [...markdown.matchAll(/([^\n]*)\n\n```(\w+)\n([^]*?)```/g)].map(
    ([, before, language, text]) => ({ language, text, before }),
  );
}

/** The program and the arguments of a line as it stands in the tutorial, run in `dir` all the same. */
function started(line: string, dir: string) {
  const [program, script, ...args] = line.split(/\s+/);
  const isOurs = program === 'npx' && script === 'lockstep';
  if (!isOurs && program !== 'node') throw new Error(`The tutorial runs ${line}`);
  const own = isOurs ? MAIN : join(ROOT, script);
  // On a machine with another run the port may be in use; the tutorial's reader has one run.
  const extra = isOurs && args[0] === 'train' ? ['--port', '0'] : [];
  const port = script === 'examples/serve.mjs' ? ['0'] : [];
  const cache = { XDG_CACHE_HOME: join(dir, 'cache') };
  return startProgram(own, [...args, ...extra, ...port], cache, ['env', '-C', dir]);
}

test('a reader of the tutorial ends with a page that recognises pictures', async () => {
  const dir = await temporaryDirectory();
  const endings = new Map<string, Ending>();
  let address = '';
  for (const { language, text, before } of blocksOf(
    await readFile(join(ROOT, 'docs/tutorial.md'), 'utf8'),
  )) {
    if (language === 'html') {
      const path = join(dir, /as `([\w./]+)`:$/.exec(before)![1]);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, text);
      continue;
    }
    expect(language).toBe('sh');
    for (const line of text.trim().replaceAll('\\\n', ' ').split('\n')) {
      const program = started(line, dir);
      if (line.includes('serve.mjs')) {
        [address] = await program.said(/http:\/\/\S+/);
        continue;
      }
      const ending = await program.ended;
      expect(ending, `${line}\n${ending.stderr}`).toMatchObject({ code: 0 });
      endings.set(line.split(/\s+/)[2], ending);
    }
  }
  expect([...endings.keys()]).toEqual(
    expect.arrayContaining(['data', 'train', 'evaluate', 'predict', 'export']),
  );
  expect(endings.get('evaluate')!.stdout).toMatch(/accuracy (9\d|100)\.\d\d %/);
  expect(endings.get('predict')!.stdout).toMatch(/red-circle\/00000\.png +red-circle/);
  expect((await fetch(`${address}model.js`)).headers.get('content-type')).toMatch(/javascript/);
  expect((await fetch(`${address}..%2fshapes/test/red-circle/00000.png`)).status).toBe(404);
  if (!hasBrowser()) return;
  const browser = await launchBrowser();
  try {
    const page = await browser.newPage();
    await page.goto(address);
    await page.setInputFiles('input', join(dir, 'shapes/test/red-circle/00000.png'));
    const output = page.locator('output');
    await expect.poll(() => output.textContent(), { timeout: 20_000 }).toMatch(/^red-circle, /);
  } finally {
    await browser.close();
  }
});

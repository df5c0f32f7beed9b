/** The package as it is published: its examples, its types, and that it holds what it speaks of. */
import { execFile } from 'node:child_process';
import {
  copyFile,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadModel } from '../../src/library/trained-model.js';
import { hasBrowser, launchBrowser } from '../support/browser.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);

let dir: string;
let pack: string;
/** Paths in the package. */
let files: string[];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lockstep-'));
  pack = join(dir, 'package');
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', dir];
  const { stdout } = await run('npm', args, { cwd: ROOT });
  const [{ filename }] = JSON.parse(stdout) as { filename: string }[];
  await run('tar', ['-xzf', filename], { cwd: dir });
  const entries = await readdir(pack, { recursive: true, withFileTypes: true });
  files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(pack, join(entry.parentPath, entry.name)));
  // Its dependencies are those of this checkout: an install would ask a registry.
  await symlink(join(ROOT, 'node_modules'), join(pack, 'node_modules'));
});

afterAll(() => rm(dir, { recursive: true, force: true }));

const copyExample = (name: string, into: string) =>
  copyFile(join(pack, 'examples', name), join(into, name));

const example = async (name: string, ...args: string[]) =>
  (await run(process.execPath, [join(pack, 'examples', name), ...args], { cwd: dir })).stdout;

describe('examples', () => {
  test('train.mjs trains and exports, predict.mjs uses what it has trained', async () => {
    const folder = join(dir, 'trained');
    const trained = await example('train.mjs', folder);
    expect(trained).toMatch(/^epoch 1: 9\d\.\d\d % of the test images\n/);
    expect(trained).toMatch(/\n(targetReached|finished), weights [0-9a-f]{64}\n$/);
    expect(await readFile(join(folder, 'model.js'), 'utf8')).toContain('export function predict');
    const predicted = await example('predict.mjs', folder);
    expect(predicted).toMatch(/^accuracy 9\d\.\d\d %, loss 0\.\d{4}\n/);
    expect(predicted.match(/^image \d: \d \(\d+\.\d %\)$/gm)).toHaveLength(10);
  });

  test('stop-and-resume.mjs ends with the same bits', async () => {
    expect(await example('stop-and-resume.mjs')).toBe('stopped after 20 steps\nsame bits\n');
  });

  test.skipIf(!hasBrowser())('draw.html recognises a drawn digit offline', async () => {
    const folder = join(dir, 'digits');
    await mkdir(folder);
    const trained = await loadModel(join(dir, 'trained'));
    for (const { name, bytes } of trained.export('js')) await writeFile(join(folder, name), bytes);
    await copyExample('draw.html', folder);
    await copyFile(join(pack, 'dist/library/browser.bundle.js'), join(folder, 'lockstep.js'));
    const server = createServer((request, response) => {
      const name = (request.url ?? '').slice(1);
      response.setHeader('content-type', name.endsWith('.js') ? 'text/javascript' : 'text/html');
      readFile(join(folder, name)).then(
        (bytes) => response.end(bytes),
        () => response.writeHead(404).end(),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const browser = await launchBrowser();
    try {
      const context = await browser.newContext();
      const page = await context.newPage();
      await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/draw.html`);
      await context.setOffline(true);
      const answer = () => page.textContent('#answer');
      expect(await answer()).toBe('Draw a digit');
      const pad = (await page.locator('#pad').boundingBox())!;
      const draw = async (...points: readonly (readonly [number, number])[]) => {
        const at = points.map(([x, y]) => [pad.x + x, pad.y + y] as const);
        await page.mouse.move(...at[0]);
        await page.mouse.down();
        for (const point of at.slice(1)) await page.mouse.move(...point, { steps: 8 });
        await page.mouse.up();
      };
      await draw([140, 50], [140, 230]);
      expect(await answer()).toMatch(/^1 \(\d+ %\)$/);
      await page.click('#clear');
      await draw([80, 60], [200, 60], [130, 230]);
      expect(await answer()).toMatch(/^7 \(\d+ %\)$/);
    } finally {
      await browser.close();
      server.close();
    }
  });

  test('are all run, here or by the tutorial, and listed in docs/library.md', async () => {
    const names = files.filter((file) => file.startsWith('examples/'));
    const docs = await readFile(join(pack, 'docs/library.md'), 'utf8');
    const here = await readFile(fileURLToPath(import.meta.url), 'utf8');
    // Its test runs every command of it.
    const tutorial = await readFile(join(pack, 'docs/tutorial.md'), 'utf8');
    expect(names.length).toBeGreaterThan(2);
    for (const name of names) {
      expect(docs).toContain(`](../${name})`);
      if (tutorial.includes(`node ${name}`)) continue;
      expect(here).toMatch(new RegExp(`[eE]xample\\('${name.slice('examples/'.length)}'`));
    }
  });
});

test('types are there for those who write TypeScript', async () => {
  const consumer = join(pack, 'consumer.mts');
  await writeFile(
    consumer,
    `import { loadModel, train, type RunEvent, type TrainOutcome } from 'lockstep';
const seen: RunEvent['type'][] = [];
const outcome: TrainOutcome = await train({
  config: { epochs: 1, hyperparameters: { activation: 'relu' } },
  onEvent: (event) => seen.push(event.type),
});
const accuracy: number | null = outcome.result.testAccuracy;
const model = await loadModel('runs/first');
const names: readonly string[] = model.predict(new Uint8Array(784)).map(({ name }) => name);
// @ts-expect-error -- no such activation
await train({ config: { hyperparameters: { activation: 'swish' } } });
console.log(accuracy, names);
`,
  );
  const options = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2023'];
  const modules = ['--module', 'nodenext', '--types', 'node'];
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  await run(process.execPath, [tsc, ...options, ...modules, consumer], { cwd: pack });
});

describe('the package holds', () => {
  test('every file of docs/, scripts/ and examples/ that it names', async () => {
    const missing = new Set<string>();
    for (const file of files.filter((name) => /\.(js|mjs|md|html|py)$/.test(name))) {
      const text = await readFile(join(pack, file), 'utf8');
      const named = text.matchAll(
        /\b(?:docs|scripts|examples)\/[\w/-]+\.(?:md|mjs|py|yml|json|png)\b/g,
      );
      for (const [name] of named) if (!files.includes(name)) missing.add(`${file}: ${name}`);
    }
    expect([...missing]).toEqual([]);
  });

  test('every file that its pages link to', async () => {
    const missing: string[] = [];
    for (const file of files.filter((name) => name.endsWith('.md'))) {
      const text = await readFile(join(pack, file), 'utf8');
      for (const [, link] of text.matchAll(/\]\(([^)#\s]+)[^)]*\)/g)) {
        if (/^[a-z]+:/.test(link)) continue;
        if (!files.includes(join(dirname(file), link))) missing.push(`${file}: ${link}`);
      }
    }
    expect(missing).toEqual([]);
  });
});

test('a run loads nothing of exports or of the library', async () => {
  const seen = new Set<string>();
  const visit = async (file: string): Promise<void> => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = await readFile(join(pack, file), 'utf8');
    // Of those that are loaded at once; `import()` comes when it is called.
    for (const [, link] of text.matchAll(
      /^(?:import|export)\b[^;]*?\sfrom\s+'(\.[^']+)'|^import\s+'(\.[^']+)'/gm,
    )) {
      await visit(join(dirname(file), link));
    }
  };
  for (const file of ['dist/cli/train.js', 'dist/cli/worker.js']) await visit(file);
  expect(seen.size).toBeGreaterThan(50);
  const heavy = /^dist\/(index\.js|library\/|model\/export\/(?!format\.js))/;
  expect([...seen].filter((file) => heavy.test(file))).toEqual([]);
});

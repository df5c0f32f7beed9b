/**
 * Makes docs/images/*.png: the live page in a browser during a short real training, and the board after it.
 *
 *   npm run build && node scripts/screenshots.mjs [--out docs/images]
 *
 * Needs chromium (LOCKSTEP_CHROMIUM, else /usr/bin/chromium). Pictures are reduced to 255 colours, which is enough
 * for a page and a third of the bytes.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { reduceColours } from './reduce-colours.mjs';
import { atExit } from './at-exit.mjs';
import { helpIfAsked } from './usage.mjs';

helpIfAsked(import.meta.url);

const root = fileURLToPath(new URL('..', import.meta.url));
const { values } = parseArgs({
  options: { out: { type: 'string', default: join(root, 'docs/images') } },
});
const main = join(root, 'dist/cli/main.js');
const runs = mkdtempSync(join(tmpdir(), 'lockstep-screenshots-'));
const children = [];

function cleanUp() {
  for (const child of children) child.kill('SIGKILL');
  rmSync(runs, { recursive: true, force: true });
}
atExit(cleanUp);

/** Starts `lockstep`; resolves with the match of what it says. */
function lockstep(args, pattern) {
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  return new Promise((resolve, reject) => {
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
      const match = pattern.exec(output);
      if (match) resolve({ child, match });
    });
    child.once('exit', () => reject(new Error(`lockstep ${args[0]} ended early:\n${output}`)));
  });
}

async function save(page, name, options = {}) {
  const file = join(values.out, `${name}.png`);
  const bytes = reduceColours(await page.screenshot({ animations: 'disabled', ...options }));
  writeFileSync(file, bytes);
  console.log(`${file}  ${(bytes.length / 1024).toFixed(0)} KB`);
}

/** A three, drawn with the mouse. */
async function drawThree(page) {
  const pad = page.locator('#pad');
  await pad.scrollIntoViewIfNeeded();
  const box = await pad.boundingBox();
  const arc = (y, from, to) =>
    Array.from({ length: 13 }, (_, at) => {
      const angle = from + ((to - from) * at) / 12;
      return [0.47 + 0.2 * Math.cos(angle), y + 0.17 * Math.sin(angle)];
    });
  const points = [...arc(0.33, -2.7, 1.5), ...arc(0.67, -1.5, 2.7)];
  for (const [at, [x, y]] of points.entries()) {
    await page.mouse.move(box.x + x * box.width, box.y + y * box.height);
    if (at === 0) await page.mouse.down();
  }
  await page.mouse.up();
  await page.locator('#pad-bars .is-first').waitFor();
  await page.locator('#pad-verdict', { hasText: 'sure' }).waitFor();
}

async function run() {
  mkdirSync(values.out, { recursive: true });
  const directory = join(runs, 'lenet-mnist');
  const { child: coordinator, match } = await lockstep(
    ['coordinator', '--port', '0', '--out', directory, '--epochs', '6'],
    /Live page: (http:\S+)/,
  );
  const url = match[1];
  const worker = (name) =>
    lockstep(['worker', url.replace('http', 'ws').replace(/\/$/, ''), '--name', name], /./);
  await worker('ada');
  const { child: grace } = await worker('grace');
  const browser = await chromium.launch({
    executablePath: process.env.LOCKSTEP_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu'],
  });
  const open = async (size, colorScheme, deviceScaleFactor = 1) => {
    const page = await browser.newPage({ viewport: size, colorScheme, deviceScaleFactor });
    await page.goto(url);
    await page.locator('#chart-loss canvas').waitFor();
    return page;
  };
  const epochs = (page, count) =>
    page
      .locator('#evaluations tr')
      .nth(count - 1)
      .waitFor({ state: 'attached', timeout: 300_000 });

  const wide = await open({ width: 1440, height: 900 }, 'light');
  await epochs(wide, 1);
  grace.kill('SIGKILL');
  await epochs(wide, 2);
  await worker('katherine');
  await epochs(wide, 4);
  await drawThree(wide);
  await wide.evaluate('scrollTo(0, 0)');
  await save(wide, 'page-light', { fullPage: true });
  await wide.emulateMedia({ colorScheme: 'dark' });
  await save(wide, 'page-dark', { fullPage: true });
  for (const scheme of ['light', 'dark']) {
    const phone = await open({ width: 390, height: 844 }, scheme, 2);
    await drawThree(phone);
    await phone.evaluate(scheme === 'light' ? 'scrollTo(0, 0)' : 'scrollBy(0, -40)');
    await save(phone, `phone-${scheme}`);
    await phone.close();
  }
  await new Promise((resolve) => coordinator.once('exit', resolve));

  const other = join(runs, 'lower-rate');
  const more = ['--epochs', '4', '--lr', '0.003', '--out', other, '--port', '0', '--quiet'];
  const training = spawn(process.execPath, [main, 'train', '--workers', '2', ...more]);
  children.push(training);
  await new Promise((resolve) => training.once('exit', resolve));
  const { match: place } = await lockstep(['board', directory, other, '--port', '0'], /(http:\S+)/);
  const board = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  await board.goto(place[1]);
  await board.locator('#chart-speed canvas').waitFor();
  await save(board, 'board', { fullPage: true });
  await browser.close();
}

try {
  await run();
} finally {
  cleanUp();
}

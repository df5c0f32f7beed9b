/**
 * A tab as a worker: how soon after the click it works, how fast it computes beside a process of Node (in turn, each alone with
 * the coordinator), and how large what it loads is.
 *
 *   node scripts/bench-browser.mjs [--rounds 3] [--epochs 2]
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    epochs: { type: 'string', default: '2' },
  },
});
/** Both compilers are done with the kernels by then. */
const WARM_UP_STEPS = 200;
const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const main = `${dist}cli/main.js`;
const folder = mkdtempSync(join(tmpdir(), 'lockstep-browser-'));
const executablePath = process.env.LOCKSTEP_CHROMIUM ?? '/usr/bin/chromium';

function start(args) {
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  const ended = new Promise((resolve) => child.once('close', resolve));
  const said = (pattern) =>
    new Promise((resolve, reject) => {
      const look = () => pattern.exec(output) && resolve(pattern.exec(output));
      child.stdout.on('data', look);
      void ended.then(() => reject(new Error(`Ended without ${pattern}:\n${output}`)));
      look();
    });
  child.stdout.on('data', (chunk) => (output += chunk));
  return { ended, said };
}

/** @returns gradients of images a second of the time that the worker of a run computed */
async function rate(name, work) {
  const out = join(folder, name);
  const coordinator = start([
    ...['coordinator', '--port', '0', '--browser-workers', '--out', out],
    ...['--epochs', values.epochs, '--batch-size', '128'],
  ]);
  const [, page] = await coordinator.said(/Browsers join at (\S+\/work)/);
  await work(page, coordinator);
  await coordinator.ended;
  const steps = readFileSync(join(out, 'metrics.jsonl'), 'utf8')
    .split('\n')
    .filter((line) => line.includes('"type":"step"'))
    .map((line) => JSON.parse(line))
    .slice(WARM_UP_STEPS);
  const sum = (key) => steps.reduce((total, { workers: [worker] }) => total + worker[key], 0);
  return (1000 * sum('numImages')) / sum('computeMs');
}

const inNode = async (page) => {
  await start(['worker', page.replace('http', 'ws').replace('/work', '')]).ended;
};

const clicks = [];
const inTab = (browser) => async (page, coordinator) => {
  const tab = await browser.newPage();
  await tab.goto(page);
  const clickedAt = performance.now();
  await tab.click('#join');
  await coordinator.said(/joined from/);
  clicks.push(performance.now() - clickedAt);
  await coordinator.ended;
  await tab.close();
};

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
const browser = await chromium.launch({
  executablePath,
  args: ['--headless', '--no-sandbox', '--disable-gpu'],
});
try {
  const ratios = [];
  for (let round = 1; round <= Number(values.rounds); round++) {
    const node = await rate(`node-${round}`, inNode);
    const tab = await rate(`tab-${round}`, inTab(browser));
    ratios.push(tab / node);
    console.log(
      `gradients of images/s: ${Math.round(node)} in Node, ${Math.round(tab)} in Chromium, ratio ${ratios.at(-1).toFixed(3)}`,
    );
  }
  console.log(`Ratio, median of ${ratios.length}: ${median(ratios).toFixed(3)}`);
  console.log(`From the click to the run, median: ${Math.round(median(clicks))} ms`);
  const pageFiles = ['work.html', 'work.css', 'work.js', 'work-thread.js'];
  const sizeOf = (name) => gzipSync(readFileSync(`${dist}coordinator/page/browser/${name}`)).length;
  const kilobytes = (names) =>
    (names.reduce((total, name) => total + sizeOf(name), 0) / 1000).toFixed(1);
  console.log(
    `Gzipped: ${kilobytes(pageFiles)} KB of page and thread, ${kilobytes(['simd.wasm'])} KB of WebAssembly`,
  );
} finally {
  await browser.close();
  rmSync(folder, { recursive: true, force: true });
}

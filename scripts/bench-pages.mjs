/**
 * What open pages cost the training: images/s of one run, in windows with and without the pages in turn, and the median
 * of the ratios of neighbouring windows. On Linux also the processor time that the coordinator takes a second more,
 * which other work on the machine disturbs less.
 *
 *   npm run build && node scripts/bench-pages.mjs [--pages 10] [--rounds 12] [--seconds 6] [--workers 1] [--browser]
 *
 * A page is a connection that takes in all that the coordinator sends, in this process. With --browser it is a page in
 * chromium, whose drawing then competes with the training for the processors of this machine.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { atExit } from './at-exit.mjs';
import { helpIfAsked } from './usage.mjs';

helpIfAsked(import.meta.url);

const { values } = parseArgs({
  options: {
    pages: { type: 'string', default: '10' },
    rounds: { type: 'string', default: '12' },
    seconds: { type: 'string', default: '6' },
    workers: { type: 'string', default: '1' },
    browser: { type: 'boolean', default: false },
  },
});
const [numPages, numRounds, seconds] = [values.pages, values.rounds, values.seconds].map(Number);
const BATCH_SIZE = 64;
const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const out = mkdtempSync(join(tmpdir(), 'lockstep-bench-'));

const train = spawn(
  process.execPath,
  [
    ...[main, 'train', '--workers', values.workers, '--port', '0', '--out', join(out, 'run')],
    // No evaluation and no end while it is measured.
    ...['--batch-size', String(BATCH_SIZE), '--epochs', '1000', '--checkpoint-every', '3600s'],
  ],
  { stdio: ['ignore', 'pipe', 'inherit'] },
);
function cleanUp() {
  train.kill('SIGKILL');
  rmSync(out, { recursive: true, force: true });
}
atExit(cleanUp);
const url = await new Promise((resolve, reject) => {
  let output = '';
  train.stdout.on('data', (chunk) => {
    output += chunk;
    const match = /Live page: (http:\S+)/.exec(output);
    if (match) resolve(match[1]);
  });
  train.once('exit', () => reject(new Error(`lockstep ended early:\n${output}`)));
});

let received = 0;
let browser = null;
if (values.browser) {
  const { chromium } = await import('playwright-core');
  browser = await chromium.launch({
    executablePath: process.env.LOCKSTEP_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu'],
  });
}

/** @returns what closes it */
function openPage() {
  if (browser) return openInBrowser();
  return new Promise((resolve, reject) => {
    const request = get(`${url}api/events`, { agent: false }, (response) => {
      response.on('data', (chunk) => (received += chunk.length));
      response.on('error', () => undefined);
      response.once('data', () => resolve(() => request.destroy()));
    });
    request.once('error', reject);
  });
}

/** A context of its own each, as browsers hold six connections to a host at most. */
async function openInBrowser() {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(url);
  await page.locator('#state[data-kind="good"]').waitFor();
  return () => context.close();
}

/** Processor time of the coordinator so far, ms; NaN where the system does not tell. */
function processorMs() {
  try {
    const fields = readFileSync(`/proc/${train.pid}/stat`, 'utf8').split(') ')[1].split(' ');
    // User and system time, in hundredths of a second.
    return 10 * (Number(fields[11]) + Number(fields[12]));
  } catch {
    return NaN;
  }
}

/** Over a window: images/s, and the coordinator's processor time for each step, ms. */
async function measure() {
  const read = async () => {
    const { globalStep, now, run } = await (await fetch(`${url}api/history`)).json();
    return { globalStep, images: globalStep * run.config.batchSize, now, cpu: processorMs() };
  };
  const from = await read();
  await delay(1000 * seconds);
  const to = await read();
  return {
    rate: (1000 * (to.images - from.images)) / (to.now - from.now),
    msPerStep: (to.cpu - from.cpu) / (to.globalStep - from.globalStep),
  };
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

try {
  while ((await (await fetch(`${url}api/history`)).json()).globalStep < 200) await delay(200);
  const rounds = [];
  for (let round = 0; round < numRounds; round += 1) {
    const found = {};
    // Each order as often as the other.
    for (const isOpen of round % 2 === 0 ? [false, true] : [true, false]) {
      const close = isOpen
        ? await Promise.all(Array.from({ length: numPages }, () => openPage()))
        : [];
      found[isOpen ? 'open' : 'none'] = await measure();
      await Promise.all(close.map((end) => end()));
    }
    rounds.push(found);
    const { none, open } = found;
    console.log(
      `round ${round + 1}: ${none.rate.toFixed(0)} images/s without, ${open.rate.toFixed(0)} with: ` +
        `${(open.rate / none.rate).toFixed(3)}; coordinator ${none.msPerStep.toFixed(3)} and ` +
        `${open.msPerStep.toFixed(3)} ms of processor a step`,
    );
  }
  const ratios = rounds.map(({ none, open }) => open.rate / none.rate);
  const sorted = ratios.toSorted((a, b) => a - b);
  const [low, high] = [0.25, 0.75].map((part) => sorted[Math.floor(part * (sorted.length - 1))]);
  const rate = median(rounds.map(({ none }) => none.rate));
  console.log(
    `${numPages} pages cost ${(100 * (1 - median(ratios))).toFixed(1)} % of ${rate.toFixed(0)} images/s ` +
      `(median of ${numRounds} ratios; middle half ${low.toFixed(3)}–${high.toFixed(3)})`,
  );
  const more = median(rounds.map(({ none, open }) => open.msPerStep - none.msPerStep));
  const stepMs = median(rounds.map(({ none }) => (1000 * BATCH_SIZE) / none.rate));
  console.log(
    `The coordinator's processor time grows by ${(1000 * more).toFixed(0)} µs a step of ` +
      `${stepMs.toFixed(2)} ms: ${((100 * more) / stepMs).toFixed(1)} %`,
  );
  if (!browser) {
    const perPage = received / (numPages * numRounds * seconds) / 1024;
    console.log(`A page is sent ${perPage.toFixed(0)} KB/s, its beginning included`);
  }
} finally {
  await browser?.close();
  cleanUp();
}

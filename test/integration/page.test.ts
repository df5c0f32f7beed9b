/** The live page in a real browser, during a real training with a coordinator and two workers. */
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { zipEntries } from '../../src/model/data/zip.js';
import { withInput } from '../../src/shared/node/input-file.js';
import { hasBrowser, launchBrowser } from '../support/browser.js';
import { imagesFile, labelsFile } from '../support/idx-files.js';
import { IMAGE_BYTES, mnist } from '../support/mnist.js';
import { startProgram, type Program } from '../support/program.js';

const NUM_TRAIN = 4000;
const NUM_TEST = 500;
/** Anything can take long on a machine that does other things too. */
const WAIT_MS = 25_000;

/** A folder with the first images of MNIST, so that an epoch is soon over. */
async function smallDataset(dir: string): Promise<string> {
  const { train, test } = await mnist();
  const images = (all: Uint8Array, count: number) => imagesFile(all.slice(0, count * IMAGE_BYTES));
  await Promise.all([
    writeFile(join(dir, 'train-images-idx3-ubyte'), images(train.images, NUM_TRAIN)),
    writeFile(join(dir, 'train-labels-idx1-ubyte'), labelsFile(train.labels.slice(0, NUM_TRAIN))),
    writeFile(join(dir, 't10k-images-idx3-ubyte'), images(test.images, NUM_TEST)),
    writeFile(join(dir, 't10k-labels-idx1-ubyte'), labelsFile(test.labels.slice(0, NUM_TEST))),
  ]);
  return dir;
}

const numberIn = (text: string | null) => Number((text ?? '').replace(/[^\d.]/g, ''));
const textOf = async (page: Page, selector: string) =>
  (await page.locator(selector).textContent()) ?? '';
const stepOf = async (page: Page) =>
  numberIn((await textOf(page, '#progress-step')).split(' of ')[0]);

/** A seven, with the mouse, on a canvas anywhere. */
async function drawSeven(page: Page): Promise<void> {
  const pad = page.locator('#pad');
  await pad.scrollIntoViewIfNeeded();
  const box = (await pad.boundingBox())!;
  const at = (x: number, y: number) => [box.x + x * box.width, box.y + y * box.height] as const;
  await page.mouse.move(...at(0.28, 0.25));
  await page.mouse.down();
  await page.mouse.move(...at(0.72, 0.25), { steps: 8 });
  await page.mouse.move(...at(0.45, 0.82), { steps: 8 });
  await page.mouse.up();
}

/**
 * Texts of the page whose contrast with what lies behind them is below 4.5 (WCAG 2.2, 1.4.3). Runs in the page, as a
 * text because the tests know no DOM.
 */
const FAINT_TEXTS = `(() => {
  const channels = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const isSrgb = (color) => color.startsWith('color(srgb');
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      const [r, g, b, alpha = 1] = channels(color.replace('srgb', ''));
      const scale = isSrgb(color) ? 255 : 1;
      if (alpha > 0) layers.push([r * scale, g * scale, b * scale, alpha]);
      if (alpha === 1) break;
    }
    return layers.reduceRight(
      (under, [r, g, b, alpha]) =>
        [r, g, b].map((value, at) => value * alpha + under[at] * (1 - alpha)),
      [255, 255, 255],
    );
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    const box = element.getBoundingClientRect();
    if (!text || element.closest('.unseen, option, noscript, script') || box.width < 2) continue;
    const front = luminance(channels(getComputedStyle(element).color).slice(0, 3));
    const back = luminance(behind(element));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 4.5) faint.push(text.slice(0, 40) + ' ' + ratio.toFixed(2));
  }
  return faint;
})()`;

describe.skipIf(!hasBrowser())('the page of a run', () => {
  let dir: string;
  let coordinator: Program;
  let workers: Program[];
  let url: string;
  let browser: Browser;
  let page: Page;
  const hosts = new Set<string>();
  const complaints: string[] = [];

  const serve = (port: string, ...more: string[]) =>
    startProgram(
      ...['coordinator', '--port', port, '--out', join(dir, 'run'), ...more],
      // Learns sevens in seconds, and does not end while it is looked at.
      ...['--dataset', join(dir, 'data'), '--epochs', '2000', '--activation', 'relu'],
      ...['--pool', 'max', '--lr', '0.002', '--schedule', 'constant'],
    );

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'lockstep-page-'));
    const data = join(dir, 'data');
    await mkdir(data);
    await smallDataset(data);
    coordinator = serve('0');
    const [, address] = await coordinator.says(/Live page: (\S+)/);
    url = address;
    workers = ['ada', 'grace'].map((name) =>
      startProgram('worker', url.replace('http', 'ws').replace(/\/$/, ''), '--name', name),
    );
    browser = await launchBrowser();
    page = await browser.newPage({ viewport: { width: 1600, height: 1000 } });
    page.setDefaultTimeout(WAIT_MS);
    page.on('request', (request) => hosts.add(new URL(request.url()).host));
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning')
        complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(error.message));
    await page.goto(url);
    await page.locator('#state[data-kind="good"]').waitFor();
  });

  afterAll(async () => {
    await browser.close();
    await Promise.all([coordinator, ...workers].map((program) => program.end('SIGKILL')));
    await rm(dir, { recursive: true, force: true });
  });

  it('draws curves that move as the training goes on', async () => {
    await page.locator('#chart-accuracy canvas').waitFor();
    const picture = () =>
      page.evaluate<string>(`document.querySelector('#chart-accuracy canvas').toDataURL()`);
    const [before, step] = [await picture(), await stepOf(page)];
    await expect.poll(() => stepOf(page), { timeout: WAIT_MS }).toBeGreaterThan(step + 50);
    expect(await picture()).not.toBe(before);
    expect(numberIn(await textOf(page, '#figure-speed'))).toBeGreaterThan(0);
  });

  it('lists the workers with their engine and share', async () => {
    const rows = page.locator('#workers tr[data-state="here"]');
    await expect.poll(() => rows.count(), { timeout: WAIT_MS }).toBe(2);
    await expect
      .poll(() => rows.allTextContents(), { timeout: WAIT_MS })
      .toSatisfy((texts: string[]) => texts.every((text) => /simd exact.*[1-9]\d?\s%/.test(text)));
  });

  it('shows the error rate on a log scale, the learning rate, and when each worker was here', async () => {
    expect(await textOf(page, '#title-accuracy')).toBe('Error rate');
    await page.locator('#chart-rate canvas').waitFor();
    await expect.poll(() => page.locator('#lanes .stay').count(), { timeout: WAIT_MS }).toBe(2);
    const lanes = await page.locator('#lanes li').allTextContents();
    expect(lanes.sort()).toEqual(['ada: here, lost 0 times', 'grace: here, lost 0 times']);
  });

  it('shows the confusion matrix, the mistakes and the filters after an evaluation', async () => {
    await page.locator('#confusion td.is-right').first().waitFor();
    await page.locator('#mistakes button').first().waitFor();
    expect(await page.locator('#filters canvas').count()).toBe(3 * 6);
    const counts = await page.locator('#confusion td:not(.recall)').allTextContents();
    expect(counts.reduce((sum, count) => sum + Number(count), 0)).toBe(NUM_TEST);
  });

  it('recognises a digit drawn with the mouse', async () => {
    await drawSeven(page);
    // The weights learn on meanwhile, and the page asks them again.
    await expect.poll(() => textOf(page, '#pad-answer'), { timeout: WAIT_MS }).toBe('7');
    await expect.poll(() => textOf(page, '#pad-verdict')).toMatch(/^Looks like a 7/);
  });

  it('clears the canvas from the keyboard', async () => {
    await page.locator('#pad-clear').focus();
    await page.keyboard.press('Enter');
    expect(await textOf(page, '#pad-answer')).toBe('?');
  });

  it('puts a mistake that is clicked on the canvas', async () => {
    await page.locator('#mistakes button').first().click();
    await expect.poll(() => textOf(page, '#pad-answer'), { timeout: WAIT_MS }).toMatch(/^\d$/);
  });

  it('zooms all curves by a drag, and back', async () => {
    const plot = page.locator('#chart-loss .u-over');
    await plot.scrollIntoViewIfNeeded();
    const box = (await plot.boundingBox())!;
    await page.mouse.move(box.x + 0.3 * box.width, box.y + 20);
    await page.mouse.down();
    await page.mouse.move(box.x + 0.6 * box.width, box.y + 30, { steps: 4 });
    await page.mouse.up();
    await page.locator('#zoom-reset').click();
    expect(await page.locator('#zoom-reset').isVisible()).toBe(false);
  });

  it('pauses the run and lets it go on', async () => {
    const state = (text: string) =>
      page.locator('#state', { hasText: text }).waitFor({ timeout: WAIT_MS });
    await page.click('#control-pause');
    await state('Paused');
    expect(await textOf(page, '#control-pause')).toBe('Resume');
    const step = await stepOf(page);
    await page.click('#control-save');
    await page.locator('#control-note', { hasText: 'A checkpoint is' }).waitFor();
    expect(await stepOf(page)).toBe(step);
    await page.click('#control-pause');
    await state('Training');
    await expect.poll(() => stepOf(page), { timeout: WAIT_MS }).toBeGreaterThan(step);
  });

  it('offers the model in each format while it trains', async () => {
    await page.locator('#downloads a').first().waitFor();
    expect(await page.locator('#downloads a').allTextContents()).toEqual([
      ...['ONNX', 'PyTorch', 'TensorFlow.js', 'JavaScript'],
    ]);
    await page.selectOption('#download-checkpoint', 'latest');
    const coming = page.waitForEvent('download');
    await page.locator('#downloads a', { hasText: 'JavaScript' }).click();
    const download = await coming;
    expect(download.suggestedFilename()).toMatch(/-step-\d+-js\.zip$/);
    const entries = await withInput(await download.path(), zipEntries);
    const names = entries.map(({ name }) => name);
    expect(names).toEqual(['model.js', 'README.md']);
  });

  it('shows a killed worker as lost', async () => {
    await workers[1].end('SIGKILL');
    const row = page.locator('#workers tr[data-state="lost"]');
    await row.waitFor();
    expect(await row.textContent()).toMatch(/grace.*lost while/);
    await page.locator('#lanes .stay.is-lost').waitFor();
    await page.locator('#events li[data-level="warn"]', { hasText: 'grace' }).first().waitFor();
  });

  it('keeps the history when it is reloaded', async () => {
    await expect
      .poll(() => page.locator('#evaluations tr').count(), { timeout: WAIT_MS })
      .toBeGreaterThanOrEqual(2);
    const [step, evaluations] = [await stepOf(page), await page.locator('#evaluations tr').count()];
    await page.reload();
    await expect.poll(() => stepOf(page), { timeout: WAIT_MS }).toBeGreaterThanOrEqual(step);
    expect(await page.locator('#evaluations tr').count()).toBeGreaterThanOrEqual(evaluations);
    await page.locator('#workers tr[data-state="lost"]').waitFor();
    await page.locator('#chart-accuracy canvas').waitFor();
  });

  it.each([
    ['light', 1600],
    ['dark', 1600],
    ['light', 360],
    ['dark', 360],
  ] as const)('can be read, and fits: %s, %i pixels wide', async (colorScheme, width) => {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 800 });
    const scrollWidth = () => page.evaluate<number>('document.documentElement.scrollWidth');
    await expect.poll(scrollWidth, { timeout: WAIT_MS }).toBe(width);
    expect(await page.evaluate(FAINT_TEXTS)).toEqual([]);
  });

  it.each([390, 320])(
    'holds four figures in each cell of the confusion matrix at %i pixels',
    async (width) => {
      await page.setViewportSize({ width, height: 800 });
      await page.locator('#confusion td.is-right').first().waitFor();
      // In one go: the next evaluation fills the cells anew.
      const overflowing = await page.evaluate<number>(`(() => {
      const cells = [...document.querySelectorAll('#confusion td')];
      for (const cell of cells) cell.textContent = cell.matches('.recall') ? '100.0 %' : '1135';
      return cells.filter((cell) => cell.scrollWidth > cell.clientWidth).length;
    })()`);
      expect(overflowing).toBe(0);
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width);
    },
  );

  it('keeps the colours that were chosen', async () => {
    await page.emulateMedia({ colorScheme: 'light' });
    await page.locator('#theme').click();
    await page.reload();
    const scheme = () => page.evaluate('getComputedStyle(document.documentElement).colorScheme');
    expect(await scheme()).toBe('dark');
  });

  it('asks no other host for anything', () => {
    expect([...hosts]).toEqual([new URL(url).host]);
  });

  it('has nothing to complain about', () => {
    expect(complaints).toEqual([]);
  });

  it('says so when the coordinator is gone, and goes on when it is back', async () => {
    await coordinator.end('SIGKILL');
    await page.locator('#state[data-kind="bad"]').waitFor();
    coordinator = serve(new URL(url).port, '--resume');
    await page.locator('#state[data-kind="good"]').waitFor();
    await page.locator('#events li', { hasText: 'Resumed after' }).waitFor();
    // What the first process did is still there.
    expect(await page.locator('#evaluations tr:last-child th').textContent()).toBe('1');
  });

  it('compares finished runs on a board', async () => {
    const other = await browser.newPage({ viewport: { width: 360, height: 800 } });
    other.on('pageerror', (error) => complaints.push(error.message));
    await coordinator.end('SIGTERM');
    // The same run under two names: the board says that the bits are the same.
    await symlink(join(dir, 'run'), join(dir, 'again'));
    const board = startProgram('board', join(dir, 'run'), join(dir, 'again'), '--port', '0');
    try {
      const [, address] = await board.says(/(http:\S+)/);
      await other.goto(address);
      await other.locator('#results .tag', { hasText: 'same bits as run' }).waitFor();
      await other.locator('#chart-train-loss canvas').waitFor();
      expect(await other.locator('#differences-none').isVisible()).toBe(true);
      expect(await other.evaluate('document.documentElement.scrollWidth')).toBe(360);
      expect(await other.evaluate(FAINT_TEXTS)).toEqual([]);
      await other.locator('#results a').first().click();
      await other.locator('#state', { hasText: 'Stopped' }).waitFor();
      await other.locator('#downloads a', { hasText: 'ONNX' }).waitFor();
      const coming = other.waitForEvent('download');
      await other.locator('#downloads a', { hasText: 'ONNX' }).click();
      expect((await coming).suggestedFilename()).toMatch(/^(run|again)-step-\d+-onnx\.zip$/);
      await drawSeven(other);
      await expect.poll(() => textOf(other, '#pad-answer'), { timeout: WAIT_MS }).toBe('7');
    } finally {
      await board.end('SIGTERM');
    }
  });
});

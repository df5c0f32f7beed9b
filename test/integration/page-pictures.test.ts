/** The live page of runs on other images than digits: twelve classes of RGB pictures in a real run, and a thousand classes. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createMonitor } from '../../src/coordinator/page/monitor.js';
import { parseRunConfig } from '../../src/shared/config.js';
import { hasBrowser, launchBrowser } from '../support/browser.js';
import { startProgram, type Program } from '../support/program.js';
import * as run from '../support/run-events.js';

/** Anything can take long on a machine that does other things too. */
const WAIT_MS = 25_000;
const WIDTHS = [1280, 390, 320];
const textOf = async (page: Page, selector: string) =>
  (await page.locator(selector).textContent()) ?? '';
const scrollWidth = (page: Page) => page.evaluate<number>('document.documentElement.scrollWidth');

describe.skipIf(!hasBrowser())('the page of other images', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await launchBrowser();
  });
  afterAll(() => browser.close());

  async function open(url: string): Promise<Page> {
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    page.setDefaultTimeout(WAIT_MS);
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text());
    });
    onTestFinished(async () => {
      await page.close();
      expect(complaints).toEqual([]);
    });
    await page.goto(url);
    await page.locator('#state[data-kind="good"]').waitFor();
    return page;
  }

  /** At each width the page fits, and what is given stays within its panel. */
  async function expectFit(page: Page): Promise<void> {
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      await expect.poll(() => scrollWidth(page), { timeout: WAIT_MS }).toBe(width);
    }
  }

  describe('RGB pictures of twelve classes', () => {
    let dir: string;
    let coordinator: Program;
    let worker: Program;
    let url: string;

    beforeAll(async () => {
      dir = await mkdtemp(join(tmpdir(), 'lockstep-page-pictures-'));
      const data = join(dir, 'data');
      execFileSync(process.execPath, ['scripts/make-shapes.mjs', data, '30', '8']);
      coordinator = startProgram(
        ...['coordinator', '--port', '0', '--out', join(dir, 'run'), '--dataset', data],
        ...['--epochs', '2000', '--activation', 'relu', '--pool', 'max', '--lr', '0.002'],
        ...['--schedule', 'constant'],
      );
      const [, address] = await coordinator.says(/Live page: (\S+)/);
      url = address;
      worker = startProgram('worker', url.replace('http', 'ws').replace(/\/$/, ''));
    });
    afterAll(async () => {
      await Promise.all([coordinator, worker].map((program) => program.end('SIGKILL')));
      await rm(dir, { recursive: true, force: true });
    });

    it('names the classes, and shows pictures and filters in colour, at every width', async () => {
      const page = await open(url);
      await page.locator('#confusion td.is-right').first().waitFor();
      expect(await page.locator('#confusion tr').count()).toBe(12);
      expect(await page.locator('#confusion th').first().textContent()).toBe('blue-circle');
      await page.locator('#mistakes button').first().waitFor();
      expect(await textOf(page, '#mistakes li:first-child b')).toMatch(/^\w+-\w+ → \w+-\w+$/);
      const colors = await page.evaluate<boolean[]>(`
        ['#mistakes canvas', '#filters canvas'].map((selector) => {
          const canvas = document.querySelector(selector);
          const { width, height } = canvas;
          const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
          return data.some((value, at) => at % 4 === 0 && Math.abs(value - data[at + 1]) > 20);
        })`);
      expect(colors).toEqual([true, true]);
      expect(await page.locator('#filters-key').isVisible()).toBe(false);
      await expectFit(page);
      // A cell holds three figures, and no name pushes its row or column apart.
      const overflowing = await page.evaluate<number>(`(() => {
        const cells = [...document.querySelectorAll('#confusion td:not(.recall)')];
        for (const cell of cells) cell.textContent = '100';
        return cells.filter((cell) => cell.scrollWidth > cell.clientWidth).length;
      })()`);
      expect(overflowing).toBe(0);
    });

    it('classifies a picture from a file, and a mistake that is clicked', async () => {
      const page = await open(url);
      expect(await textOf(page, '#title-draw')).toBe('Try a picture');
      const folder = join(dir, 'data', 'train', 'green-cross');
      const [file] = await readdir(folder);
      await page.locator('#pad-file').setInputFiles(join(folder, file));
      // The weights learn on meanwhile, and the page asks them again.
      await expect
        .poll(() => textOf(page, '#pad-answer'), { timeout: 2 * WAIT_MS })
        .toBe('green-cross');
      await expect.poll(() => textOf(page, '#pad-verdict')).toMatch(/^Looks like green-cross/);
      expect(await page.locator('#pad-bars li').count()).toBe(10);
      await page.locator('#pad-file').setInputFiles({
        name: 'no-picture.png',
        mimeType: 'image/png',
        buffer: Buffer.from('hello'),
      });
      await expect
        .poll(() => textOf(page, '#pad-verdict'))
        .toBe('This browser cannot read that file as a picture');
    });
  });

  it('shows a thousand classes as a heat map with the most frequent mistakes', async () => {
    const classNames = Array.from({ length: 1000 }, (_, at) => `a class with the number ${at}`);
    const input = { channels: 1, height: 20, width: 40 };
    const labels = Uint16Array.from({ length: 5000 }, (_, at) => at % 1000);
    const predictions = labels.map((label, at) => (label === 7 || at % 9 === 0 ? 993 : label));
    const monitor = createMonitor({
      predict: () => new Float32Array(1000).fill(0.001).fill(0.002, 7, 8),
      pageDirectory: pathToFileURL(join(process.cwd(), 'dist/coordinator/page/browser/')),
    });
    const server = createServer((request, response) => monitor.handle(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => {
      monitor.close();
      server.closeAllConnections();
      server.close();
    });
    const config = parseRunConfig({ dataset: 'pictures', color: 'grey' });
    monitor.observe(run.started({ input, classNames, config }));
    monitor.observe(run.joined('anna'));
    monitor.observe(run.step(0));
    const images = new Uint8Array(5000 * 800);
    monitor.observe(run.evaluation({ labels, predictions, images, numImages: 5000 }));

    const page = await open(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    await page.locator('#confusion-pairs tr').first().waitFor();
    expect(await textOf(page, '#confusion-pairs tr:first-child')).toMatch(
      /number 7a class with the number 9935 of 5$/,
    );
    await expectFit(page);
    // Eight classes share a cell: the middle of 125 is the 63rd.
    const box = (await page.locator('#confusion-canvas').boundingBox())!;
    await page.locator('#confusion-canvas').scrollIntoViewIfNeeded();
    await page.locator('#confusion-canvas').hover({ position: { x: box.width / 2, y: 1 } });
    expect(await textOf(page, '#confusion-place')).toMatch(
      /^a class with the number 0 … a class with the number 7 taken for a class with the number 496 … /,
    );
    // Grey images are drawn on where they lie, and a drawing gets an answer by name.
    const pad = (await page.locator('#pad').boundingBox())!;
    expect(pad.width / pad.height).toBeCloseTo(2, 1);
    await page.locator('#pad').click();
    await expect.poll(() => textOf(page, '#pad-answer')).toBe('a class with the number 7');
    expect(await textOf(page, '#pad-bars li:first-child .bar-name')).toBe(
      'a class with the number 7',
    );
    await expectFit(page);
  });
});

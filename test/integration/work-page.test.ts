/** The page /work in a browser: what it serves and to whom, what it says when something is missing, how it comes back. */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Page } from 'playwright-core';
import { WebSocket } from 'ws';
import { describe, expect, it, onTestFinished } from 'vitest';
import { hasBrowser, launchBrowser } from '../support/browser.js';
import { freePort, smallMnist, start } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const TOKEN = 'a%20token/of#sixteen&characters+or?more';
/** Such as a header can carry. */
const PLAIN_TOKEN = 'sixteen-characters-or-more';
const LOOK_TOKEN = 'sixteen-characters-to-look';
const MAX_GZIPPED_BYTES = 150_000;
const FILES = ['/work', '/work.js', '/work-thread.js', '/work.css', '/simd.wasm'];
const LONG = ['--epochs', '10000', '--batch-size', '64', '--heartbeat-timeout', '2'];

async function serve(...flags: string[]) {
  return serveIn({}, ...flags);
}

async function serveIn(environment: Readonly<Record<string, string>>, ...flags: string[]) {
  const port = await freePort();
  const out = join(await temporaryDirectory(), 'run');
  const dataset = ['--dataset', await smallMnist(300, 100)];
  const args = ['coordinator', ...LONG, ...dataset, '--port', String(port), ...flags];
  const coordinator = start([...args, '--out', out, '--resume'], environment);
  await coordinator.said(/Waiting for workers/);
  const again = () => start([...args, '--out', out, '--resume']);
  return { coordinator, again, port, origin: `http://127.0.0.1:${port}` };
}

/** Whether a WebSocket with the origin is taken, or with which status it is not. */
function upgrade(port: number, origin: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { origin });
    socket.once('open', () => {
      resolve('taken');
      socket.terminate();
    });
    socket.once('unexpected-response', (_request, { statusCode }) => {
      resolve(String(statusCode));
      socket.terminate();
    });
    socket.on('error', () => undefined);
  });
}

async function open(): Promise<Page> {
  const browser = await launchBrowser();
  onTestFinished(() => browser.close());
  return browser.newPage({ viewport: { width: 320, height: 640 } });
}

const says = (page: Page, id: string, text: string) =>
  page.locator(`#${id}`, { hasText: text }).waitFor({ timeout: 60_000 });

describe('/work', () => {
  it('is not there, and no page may join, without --browser-workers', async () => {
    const { port, origin } = await serve();
    for (const file of [...FILES, '/api/work-link']) {
      expect((await fetch(`${origin}${file}`)).status).toBe(404);
    }
    expect(await upgrade(port, origin)).toBe('403');
  });

  it.each([
    ['without --browser-workers loads none of its code', [], false],
    ['with it, does', ['--browser-workers'], true],
  ])('%s', async (_what, flags, isLoaded) => {
    // Node lists the modules that it has loaded as it ends.
    const folder = await temporaryDirectory();
    const { coordinator, origin } = await serveIn({ NODE_V8_COVERAGE: folder }, ...flags);
    const page = await (await fetch(origin)).text();
    expect(page).not.toMatch(/work(-thread)?\.(js|css)|simd\.wasm/);
    coordinator.kill('SIGTERM');
    await coordinator.ended;
    const reports = await Promise.all(
      (await readdir(folder)).map((name) => readFile(join(folder, name), 'utf8')),
    );
    const loaded = reports.join('\n');
    expect(loaded).toContain('coordinator/page/monitor.js');
    for (const of of ['coordinator/page/work-page.js', 'cli/browser-link.js', '/uqr/']) {
      expect(loaded.includes(of), of).toBe(isLoaded);
    }
  });

  it('is for everybody, holds no secret, and only its own origin may join', async () => {
    const { port, origin } = await serve('--browser-workers', '--token', TOKEN);
    let gzippedBytes = 0;
    for (const file of FILES) {
      const response = await fetch(`${origin}${file}`);
      expect(response.status).toBe(200);
      expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
      const bytes = Buffer.from(await response.arrayBuffer());
      expect(bytes.includes(TOKEN)).toBe(false);
      if (file !== '/simd.wasm') gzippedBytes += gzipSync(bytes).length;
    }
    expect(gzippedBytes).toBeLessThan(MAX_GZIPPED_BYTES);
    expect((await fetch(`${origin}/work`, { method: 'POST' })).status).toBe(405);
    // The looking token is asked for all the same.
    expect((await fetch(`${origin}/api/history`)).status).toBe(401);
    expect(await upgrade(port, origin)).toBe('taken');
    for (const other of [
      'http://evil.example',
      `https://127.0.0.1:${port}`,
      'http://127.0.0.1:1',
    ]) {
      expect(await upgrade(port, other)).toBe('403');
    }
  });

  it('has its link told to whoever has the joining token, and to nobody who may only look', async () => {
    const tokens = ['--token', PLAIN_TOKEN, '--look-token', LOOK_TOKEN];
    const { origin } = await serve('--browser-workers', ...tokens);
    const ask = (token: string) =>
      fetch(`${origin}/api/work-link`, { headers: { Authorization: `Bearer ${token}` } });
    expect((await fetch(`${origin}/api/history`, bearer(LOOK_TOKEN))).status).toBe(200);
    const refused = await ask(LOOK_TOKEN);
    expect(refused.status).toBe(401);
    expect(await refused.text()).not.toContain(PLAIN_TOKEN);
    const told = await ask(PLAIN_TOKEN);
    expect(told.headers.get('cache-control')).toBe('no-store');
    expect(await told.json()).toEqual({
      link: `${origin}/work#${PLAIN_TOKEN}`,
      code: expect.stringMatching(/^<svg /) as string,
    });
  });
});

const bearer = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });

describe.skipIf(!hasBrowser())('the page in a browser', () => {
  it('says what is wrong: no token, no SIMD; a phone holds it', { timeout: 120_000 }, async () => {
    const { coordinator, origin } = await serve('--browser-workers', '--token', TOKEN);
    const page = await open();
    await page.goto(`${origin}/work`);
    const widths = () =>
      page.evaluate<number[]>('[document.documentElement.scrollWidth, innerWidth]');
    expect(await widths()).toEqual([320, 320]);
    await page.click('#join');
    await says(page, 'verdict', 'Refused by the coordinator: ');
    await says(page, 'state', 'Not joined');
    await page.goto(`${origin}/work#${encodeURIComponent(TOKEN)}`);
    await page.reload();
    await page.click('#join');
    await coordinator.said(/joined from Chrome \d+ on Linux/);
    await says(page, 'state', 'Working');
    expect(await widths()).toEqual([320, 320]);
    await page.click('#leave');
    await says(page, 'state', 'Left');
    await coordinator.said(/ left while /);

    await page.addInitScript('WebAssembly.validate = () => false');
    await page.reload();
    await says(page, 'checks', 'WebAssembly SIMD is missing');
    expect(await page.isDisabled('#join')).toBe(true);
  });

  it(
    'gets its link from the page of the run, once that has the joining token',
    { timeout: 120_000 },
    async () => {
      const tokens = ['--token', PLAIN_TOKEN, '--look-token', LOOK_TOKEN];
      const { origin } = await serve('--browser-workers', ...tokens);
      const page = await open();
      await page.goto(`${origin}/?look=${LOOK_TOKEN}`);
      await page.click('#control-invite');
      await page.fill('#token', LOOK_TOKEN);
      await page.click('#token-ok');
      await says(page, 'token-note', 'That token is wrong');
      expect(await page.content()).not.toContain(PLAIN_TOKEN);
      await page.fill('#token', PLAIN_TOKEN);
      await page.press('#token', 'Enter');
      await says(page, 'invite-link', `${origin}/work#${PLAIN_TOKEN}`);
      const isDrawn = '!!document.getElementById("invite-code").naturalWidth';
      await expect.poll(() => page.evaluate(isDrawn)).toBe(true);
      const widths = '[document.documentElement.scrollWidth, innerWidth]';
      expect(await page.evaluate<number[]>(widths)).toEqual([320, 320]);
    },
  );

  it(
    'comes back after a storm of reloads, and after the coordinator',
    { timeout: 150_000 },
    async () => {
      const { coordinator, again, origin } = await serve('--browser-workers');
      const page = await open();
      await page.goto(`${origin}/work`);
      await page.click('#join');
      await coordinator.said(/joined from/);
      for (let i = 0; i < 12; i++) await page.reload();
      await says(page, 'state', 'Working');
      await coordinator.said(/is back from/);
      coordinator.kill('SIGKILL');
      await coordinator.ended;
      await says(page, 'state', 'Waiting for the run');
      const next = again();
      await next.said(/joined from Chrome|is back from Chrome/);
      await says(page, 'state', 'Working');
      next.kill('SIGTERM');
      await next.ended;
    },
  );
});

/** The page /work in a browser: what it serves and to whom, what it says when something is missing, how it comes back. */
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { WebSocket } from 'ws';
import { describe, expect, it, onTestFinished } from 'vitest';
import { hasBrowser, launchBrowser } from '../support/browser.js';
import { freePort, smallMnist, start } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const TOKEN = 'a token of sixteen characters or more';
const FILES = ['/work', '/work.js', '/work-thread.js', '/work.css', '/simd.wasm'];
const LONG = ['--epochs', '10000', '--batch-size', '64', '--heartbeat-timeout', '2'];

async function serve(...flags: string[]) {
  const port = await freePort();
  const out = join(await temporaryDirectory(), 'run');
  const dataset = ['--dataset', await smallMnist(300, 100)];
  const args = ['coordinator', ...LONG, ...dataset, '--port', String(port), ...flags];
  const coordinator = start([...args, '--out', out, '--resume']);
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
    for (const file of FILES) expect((await fetch(`${origin}${file}`)).status).toBe(404);
    expect(await upgrade(port, origin)).toBe('403');
  });

  it('is for everybody, holds no secret, and only its own origin may join', async () => {
    const { port, origin } = await serve('--browser-workers', '--token', TOKEN);
    for (const file of FILES) {
      const response = await fetch(`${origin}${file}`);
      expect(response.status).toBe(200);
      expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
      expect(await response.text()).not.toContain(TOKEN);
    }
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
});

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

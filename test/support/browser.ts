/** Chromium, for the tests of the page: the system's, by playwright-core. */
import { existsSync } from 'node:fs';
import { chromium, type Browser } from 'playwright-core';

const executablePath = process.env.LOCKSTEP_CHROMIUM ?? '/usr/bin/chromium';

/**
 * Whether the tests of the page can run.
 *
 * @throws {Error} where they must (`CI`) and cannot
 */
export function hasBrowser(): boolean {
  if (existsSync(executablePath)) return true;
  const message = `No browser at ${executablePath}: install chromium, or set LOCKSTEP_CHROMIUM`;
  if (process.env.CI) throw new Error(message);
  console.warn(`${message}; the tests of the page are skipped`);
  return false;
}

export function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

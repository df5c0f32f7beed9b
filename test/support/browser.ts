/** Chromium, for the tests of the page: the system's, by playwright-core. */
import { existsSync } from 'node:fs';
import { chromium, type Browser } from 'playwright-core';

/** LOCKSTEP_CHROMIUM names another. */
const executablePath = process.env.LOCKSTEP_CHROMIUM ?? '/usr/bin/chromium';

/**
 * Whether the tests of the page can run.
 *
 * @throws {Error} where they must and cannot
 */
export function hasBrowser(): boolean {
  return isInstalled('chromium', [executablePath]);
}

/**
 * Whether a browser's programs are here; if not, it is said that its tests are skipped.
 *
 * @throws {Error} in CI, which installs all browsers, unless it has found that this one cannot be had (`.ci/run`)
 */
export function isInstalled(name: string, programs: readonly string[]): boolean {
  const missing = programs.find((path) => !existsSync(path));
  if (missing === undefined) return true;
  const message = `No ${name} at ${missing}`;
  const absent = (process.env.LOCKSTEP_ABSENT_BROWSERS ?? '').split(' ');
  if (process.env.CI && !absent.includes(name)) throw new Error(`${message}: install it`);
  console.warn(`${message}: its tests are skipped`);
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

/**
 * Tabs of three browser engines are workers of a run, beside processes of Node: closed, loaded again and frozen in the
 * middle of it, and the result is that of one worker that nobody disturbed.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hasBrowser } from '../support/browser.js';
import { freePort, lockstep, resultOf, smallMnist, start } from '../support/lockstep.js';
import { installedEngines, type Tab } from '../support/tabs.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const NUM_NODE_WORKERS = 2;
/** Browsers take their time to start, where other things are going on. */
const DEADLINE_MS = 150_000;
const TOKEN = 'a%20token/of#sixteen&characters+or?more';

/** What each calls itself. */
const HOSTS: Readonly<Record<string, string>> = {
  chromium: 'Chrome',
  firefox: 'Firefox',
  webkit: 'Safari',
};

const textOf = async (tab: Tab, id: string) =>
  String(await tab.evaluate(`document.getElementById('${id}').textContent`));

/** Samples that the tab has kept, and how many of them are the same: pairs of numbers, as a text. */
const KEPT = `new Promise((resolve) => {
  const opening = indexedDB.open('lockstep-samples');
  opening.onsuccess = () => {
    const reading = opening.result.transaction('samples').objectStore('samples').getAll();
    reading.onsuccess = () => {
      const all = reading.result.flatMap(({ message: { indices } }) =>
        Array.from(new Uint32Array(indices.slice().buffer)));
      opening.result.close();
      resolve(all.length + ' ' + new Set(all).size);
    };
  };
})`;

describe('tabs as workers', () => {
  it.skipIf(!hasBrowser())(
    'give the bits of one worker of Node, closed, loaded again and frozen',
    { timeout: 175_000 },
    async () => {
      const engines = installedEngines();
      const dataset = await smallMnist(1_000, 300);
      const folder = await temporaryDirectory();
      // Many small micro-batches: even a slow tab has a share of each step.
      const size = ['--batch-size', '64', '--micro-batch', '2'];
      const common = ['--dataset', dataset, '--epochs', '40', ...size];
      const opened = await Promise.all(
        Object.entries(engines).map(
          async ([name, startEngine]) => [name, await startEngine()] as const,
        ),
      );
      const port = await freePort();
      const numTabs = Object.keys(engines).length + 1;
      // One of them may be away: then the others go on. With two away, the run waits, and the test has all its time.
      const startSlow = (args: readonly string[], environment = {}) =>
        start(args, environment, [], DEADLINE_MS);
      const coordinator = startSlow([
        ...['coordinator', ...common, '--out', join(folder, 'tabs'), '--port', String(port)],
        ...['--browser-workers', '--token', TOKEN, '--heartbeat-timeout', '2'],
        ...['--min-workers', String(NUM_NODE_WORKERS + numTabs - 1)],
      ]);
      const [, page] = await coordinator.said(/Browsers join at (\S+\/work);/);
      const link = `${page}#${encodeURIComponent(TOKEN)}`;
      const joined = (name: string) => coordinator.said(new RegExp(`${name} joined from`));
      const lost = (name: string) => coordinator.said(new RegExp(`${name} \\(\\w+\\) lost while`));
      const isBack = (name: string) => coordinator.said(new RegExp(`${name} is back from`));
      const join_ = async (tab: Tab, name: string) => {
        await tab.evaluate(`void (document.getElementById('name').value = '${name}')`);
        await tab.evaluate(`void (document.getElementById('cores').value = '1')`);
        expect(await tab.evaluate(`document.querySelectorAll('.is-missing').length`)).toBe(0);
        await tab.evaluate(`void document.getElementById('join').click()`);
        await coordinator.said(
          new RegExp(`${name} joined from ${HOSTS[tab.engine]} \\d+ on Linux`),
        );
        // Whether the screen stays on, or why not.
        expect(await textOf(tab, 'wake')).toMatch(/screen/i);
      };

      const tabs = new Map<string, Tab>();
      await Promise.all(
        opened.map(async ([engine, open]) => {
          for (const name of engine === 'chromium' ? [engine, 'frozen'] : [engine]) {
            const tab = await open(link);
            await join_(tab, name);
            tabs.set(name, tab);
          }
        }),
      );
      const startNode = (name: string) =>
        startSlow(['worker', `ws://127.0.0.1:${port}`, '--name', name], { LOCKSTEP_TOKEN: TOKEN });
      const node = ['node-0', 'node-1'].map(startNode);
      for (const name of ['node-0', 'node-1']) await joined(name);

      // Closed: the run goes on without it.
      const reloaded = tabs.get('firefox') ?? tabs.get('chromium')!;
      const closed = tabs.get('webkit') ?? null;
      await Promise.all(
        [...tabs.values()].map((tab) => untilTextIs(tab, 'figure-images', '[1-9]')),
      );
      if (closed) {
        await closed.close();
        await lost('webkit');
      }
      // Loaded again: it comes back by itself, as the worker it was, with the samples that it had.
      await reloaded.reload();
      await isBack(reloaded.engine);
      expect(await textOf(reloaded, 'state')).not.toMatch(/Not joined/);

      // Frozen: its work is done by others; thawed, it is back.
      const frozen = tabs.get('frozen')!;
      await frozen.freeze();
      // The processes of Node leave, so that the run waits, and is not over before the silence is noticed.
      for (const worker of node) worker.kill('SIGTERM');
      await lost('frozen');
      await frozen.thaw();
      await isBack('frozen');
      for (const { ended: left } of node) await left;
      const others = ['node-2', 'node-3'].map(startNode);

      const ended = await coordinator.ended;
      expect(ended.code, ended.stderr).toBe(0);
      for (const { ended: worker } of others) expect((await worker).code).toBe(0);
      for (const tab of [reloaded, frozen]) {
        await untilTextIs(tab, 'state', '^Finished$');
        expect(await textOf(tab, 'figure-images')).toMatch(/^[\d,]+$/);
        expect(await textOf(tab, 'figure-share')).toMatch(/^\d+.%$/);
        expect(await textOf(tab, 'figure-speed')).toMatch(/^[\d,]+$/);
        expect(await textOf(tab, 'figure-accuracy')).toMatch(/^[\d.]+.%$/);
      }
      const [numKept, numDifferent] = String(await reloaded.evaluate(KEPT))
        .split(' ')
        .map(Number);
      expect(numKept).toBeGreaterThan(0);
      expect(numKept, 'samples that were sent a second time after the reload').toBe(numDifferent);

      const alone = join(folder, 'alone');
      expect((await lockstep(['train', ...common, '--out', alone, '--workers', '1'])).code).toBe(0);
      const { weightsSha256, workers, reproducible } = await resultOf(join(folder, 'tabs'));
      expect(reproducible).toBe(true);
      const names = workers.filter(({ numImages }) => numImages > 0).map(({ name }) => name);
      expect(names).toEqual(expect.arrayContaining([...tabs.keys()]));
      expect(names.some((name) => name.startsWith('node-'))).toBe(true);
      expect(weightsSha256).toBe((await resultOf(alone)).weightsSha256);
    },
  );
});

/** @param pattern a regular expression that the text of the element is to match */
async function untilTextIs(tab: Tab, id: string, pattern: string): Promise<void> {
  const matches = `new Promise((resolve) => {
    const watched = document.getElementById('${id}');
    const look = () => /${pattern}/.test(watched.textContent) && resolve('yes');
    new MutationObserver(look).observe(watched, { childList: true, characterData: true, subtree: true });
    look();
  })`;
  expect(await tab.evaluate(matches)).toBe('yes');
}

/**
 * Tabs that a browser holds back: hidden ones, whose timers ring once a second and which draw no frames, and a slow one. An
 * automated browser does not hold its tabs back, so scripts that are put before the page's own do it.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { freePort, lockstep, resultOf, smallMnist, start } from '../support/lockstep.js';
import { putBefore } from '../support/script-proxy.js';
import { installedEngines, type Tab } from '../support/tabs.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

/** Browsers take their time to start, where other things are going on. */
const DEADLINE_MS = 150_000;
const BATCH_SIZE = 64;
const NUM_TRAIN = 640;
const NUM_EPOCHS = 20;
const NUM_STEPS = (NUM_EPOCHS * NUM_TRAIN) / BATCH_SIZE;

/** Timers ring when a second is over, and no sooner than they should; no frames are drawn. */
const THROTTLED = `{
  const ring = self.setTimeout;
  const delayUntil = (ms) => Math.ceil((Date.now() + ms) / 1000) * 1000 - Date.now();
  self.setTimeout = (callback, ms = 0, ...args) => ring(callback, delayUntil(ms), ...args);
  self.setInterval = () => {
    throw new Error('Nothing here uses an interval; if it is to, let it ring once a second');
  };
  self.requestAnimationFrame = () => 0;
}`;
const HIDDEN = `
  Object.defineProperty(document, 'hidden', { get: () => true });
  Object.defineProperty(document, 'visibilityState', { get: () => 'hidden' });
`;
/** Each micro-batch takes ten times as long and more. */
const SLOW = `{
  const Instance = WebAssembly.Instance;
  WebAssembly.Instance = function (module, imports) {
    const kernels = { ...new Instance(module, imports).exports };
    const { lossBackward } = kernels;
    kernels.lossBackward = (...args) => {
      const until = performance.now() + 10;
      while (performance.now() < until);
      lossBackward(...args);
    };
    return { exports: kernels };
  };
}`;

const startSlow = (args: readonly string[]) => start(args, {}, [], DEADLINE_MS);

async function serve() {
  const folder = await temporaryDirectory();
  const port = await freePort();
  const common = ['--dataset', await smallMnist(NUM_TRAIN, 100)];
  common.push('--epochs', String(NUM_EPOCHS), '--batch-size', String(BATCH_SIZE));
  const out = join(folder, 'run');
  return {
    port,
    out,
    startCoordinator: (minWorkers: number) =>
      startSlow([
        ...['coordinator', ...common, '--browser-workers', '--port', String(port)],
        ...['--out', out, '--resume', '--checkpoint-every', '10', '--heartbeat-timeout', '5'],
        ...['--min-workers', String(minWorkers)],
      ]),
    hashOfOneWorker: async () => {
      const alone = join(folder, 'alone');
      const { code } = await lockstep(['train', ...common, '--out', alone, '--workers', '1']);
      expect(code).toBe(0);
      return (await resultOf(alone)).weightsSha256;
    },
  };
}

async function click(tab: Tab, name: string): Promise<void> {
  await tab.evaluate(`void (document.getElementById('name').value = '${name}')`);
  await tab.evaluate(`void (document.getElementById('cores').value = '1')`);
  await tab.evaluate(`void document.getElementById('join').click()`);
}

const engines = installedEngines();
const names = Object.keys(engines);
const openAll = (of: readonly string[]) =>
  Promise.all(of.map(async (name) => [name, await engines[name]()] as const));

describe.skipIf(names.length === 0)('tabs that are held back', () => {
  it(
    'hidden, compute by messages, answer, come back to a coordinator that is started again',
    { timeout: 175_000 },
    async () => {
      const { port, out, startCoordinator, hashOfOneWorker } = await serve();
      const opened = await openAll(names);
      const first = startCoordinator(names.length);
      await first.said(/Browsers join at/);
      const address = await putBefore(port, {
        '/work.js': HIDDEN + THROTTLED,
        '/work-thread.js': THROTTLED,
      });
      await Promise.all(
        opened.map(async ([name, open]) => {
          await click(await open(`${address}/work`), name);
          await first.said(new RegExp(`${name} joined from`));
        }),
      );
      const metrics = async () => (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      const numHidden = async () =>
        (await metrics()).match(/^lockstep_worker_hidden\{.*\} 1$/gm)?.length;
      await expect.poll(numHidden, { timeout: 30_000 }).toBe(names.length);
      // By themselves: were there a timer between two steps, they would take longer than the test may.
      await first.said(new RegExp(`step +${NUM_STEPS / 2}/`));
      first.kill('SIGKILL');
      expect((await first.ended).stdout).not.toMatch(/lost while/);

      const second = startCoordinator(names.length);
      for (const name of names) await second.said(new RegExp(`${name} (joined|is back) from`));
      const ending = await second.ended;
      expect(ending.code, ending.stderr).toBe(0);
      expect(ending.stdout).not.toMatch(/lost while/);
      const { weightsSha256, reproducible, workers } = await resultOf(out);
      expect(reproducible).toBe(true);
      for (const { name, numImages } of workers) expect(numImages, name).toBeGreaterThan(0);
      expect(weightsSha256).toBe(await hashOfOneWorker());
    },
  );

  it('slow, have a small share, and the bits are the same', { timeout: 175_000 }, async () => {
    const { port, out, startCoordinator, hashOfOneWorker } = await serve();
    const [[, open]] = await openAll(names.slice(0, 1));
    const coordinator = startCoordinator(2);
    await coordinator.said(/Browsers join at/);
    const address = await putBefore(port, { '/work-thread.js': SLOW });
    await click(await open(`${address}/work`), 'slow');
    await coordinator.said(/slow joined from/);
    const worker = startSlow(['worker', `ws://127.0.0.1:${port}`, '--name', 'node']);
    const ending = await coordinator.ended;
    expect(ending.code, ending.stderr).toBe(0);
    expect((await worker.ended).code).toBe(0);
    const { weightsSha256, workers } = await resultOf(out);
    const imagesOf = (of: string) => workers.find(({ name }) => name === of)!.numImages;
    expect(imagesOf('slow')).toBeGreaterThan(0);
    expect(imagesOf('slow')).toBeLessThan(imagesOf('node') / 4);
    expect(weightsSha256).toBe(await hashOfOneWorker());
  });
});

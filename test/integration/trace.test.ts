/** `--trace` of real processes, one of which is late with what it sends. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test, vi } from 'vitest';
import { smallMnist, start } from '../support/lockstep.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const DELAYED_SENDING = fileURLToPath(new URL('../support/delayed-sending.mjs', import.meta.url));

interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
  readonly id: number;
  readonly args: { readonly name: string };
}

/** Median durations, ms, by process and name: `anna wire`. */
function medianDurations(trace: readonly TraceEvent[]): Record<string, number> {
  const names = new Map<number, string>();
  const begun = new Map<number, number>();
  const all: Record<string, number[]> = {};
  const add = ({ pid, name }: TraceEvent, microseconds: number) =>
    (all[`${names.get(pid)!.split(' ')[0]} ${name}`] ??= []).push(microseconds / 1000);
  for (const event of trace) {
    if (event.name === 'process_name') names.set(event.pid, event.args.name);
    if (event.ph === 'X') add(event, event.dur);
    if (event.ph === 'b') begun.set(event.id, event.ts);
    if (event.ph === 'e') add(event, event.ts - begun.get(event.id)!);
  }
  return Object.fromEntries(
    Object.entries(all).map(([key, durations]) => [
      key,
      durations.toSorted((a, b) => a - b)[durations.length >> 1],
    ]),
  );
}

test('a delay of 50 ms in one worker’s sending shows there and nowhere else', async () => {
  const out = join(await temporaryDirectory(), 'run');
  const coordinator = start([
    ...['coordinator', '--port', '0', '--min-workers', '2', '--trace', '--out', out],
    ...['--dataset', await smallMnist(8192, 100), '--epochs', '10'],
    // A step so long that 50 ms are no reason to give the work to the other worker.
    ...['--batch-size', '4096', '--micro-batch', '32'],
  ]);
  const [url] = await coordinator.said(/ws:\/\/\S+:\d+/);
  const workers = ['anna', 'bert'].map((name) =>
    start(
      ['worker', url, '--name', name, '--engine', 'simd'],
      name === 'bert' ? { NODE_OPTIONS: `--import=${DELAYED_SENDING}` } : {},
    ),
  );
  expect((await coordinator.ended).code).toBe(0);
  for (const worker of workers) expect((await worker.ended).code).toBe(0);

  const trace = JSON.parse(await readFile(join(out, 'trace.json'), 'utf8')) as TraceEvent[];
  const durations = medianDurations(trace);
  expect(durations['bert wire']).toBeGreaterThan(49);
  // Some frames wait for a micro-batch, or for a machine that is busy.
  expect(durations['bert wire']).toBeLessThan(49 + durations['anna wire'] + 45);
  const others = ['plan', 'broadcast', 'reduce', 'update'].map((part) => `coordinator ${part}`);
  for (const key of ['anna wire', ...others]) expect(durations[key], key).toBeLessThan(45);
});

test('a trace can be read while the run goes on, and after kill -9', async () => {
  const out = join(await temporaryDirectory(), 'run');
  const program = start([
    ...['train', '--workers', '2', '--trace', '--out', out, '--port', '0', '--log-every', '1'],
    ...['--dataset', await smallMnist(), '--epochs', '100000'],
  ]);
  await program.said(/step +5\//);
  const read = async () =>
    JSON.parse(await readFile(join(out, 'trace.json'), 'utf8').catch(() => '[]')) as TraceEvent[];
  const numEvents = [0];
  for (let time = 0; time < 3; time++) {
    await vi.waitUntil(async () => (await read()).length > numEvents.at(-1)!, {
      timeout: 20_000,
    });
    numEvents.push((await read()).length);
  }
  program.kill('SIGKILL');
  await program.ended;
  expect((await read()).length).toBeGreaterThanOrEqual(numEvents.at(-1)!);
});

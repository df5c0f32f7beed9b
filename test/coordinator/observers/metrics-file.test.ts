import { readFile, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { createMetricsFile } from '../../../src/coordinator/observers/metrics-file.js';
import type { RunEvent } from '../../../src/coordinator/events.js';
import * as events from '../../support/run-events.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

const warn = (message: string) => expect.fail(`Unexpected warning: ${message}`);

async function writeMetrics(
  path: string,
  stream: RunEvent[],
  globalStep?: number,
  evaluatedStep = Infinity,
) {
  const file = await createMetricsFile(path, {
    warn,
    ...(globalStep !== undefined && { resumeAt: { globalStep, evaluatedStep } }),
  });
  for (const event of stream) file.observe(event);
  await file.close();
}

interface Line {
  readonly type: string;
  readonly globalStep: number;
}

async function readMetrics(path: string): Promise<Line[]> {
  const text = await readFile(path, 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
}

const brief = (lines: Line[]) => lines.map(({ type, globalStep }) => `${type} ${globalStep}`);

describe('createMetricsFile()', () => {
  it('keeps what follows a damaged line when a run is resumed, but nothing torn at the end', async () => {
    const path = join(await temporaryDirectory(), 'metrics.jsonl');
    await writeMetrics(
      path,
      [0, 1, 2, 3].map((step) => events.step(step)),
    );
    const lines = (await readFile(path, 'utf8')).trimEnd().split('\n');
    lines[1] = '{"type":"st\u0000';
    await writeFile(path, `${lines.join('\n')}\n{"type":"step","glo`);
    await writeMetrics(path, [events.step(4)], 4);
    const kept = (await readFile(path, 'utf8')).trimEnd().split('\n');
    expect(kept.slice(0, 4)).toEqual(lines);
    expect(JSON.parse(kept[4])).toMatchObject({ globalStep: 4 });
    expect(kept).toHaveLength(5);
    // Damaged ones behind the last that stays go with the rest.
    await writeMetrics(path, [events.step(1)], 1);
    expect(brief(await readMetrics(path))).toEqual(['step 0', 'step 1']);
  });

  it('removes half an evaluation when a run is resumed, and keeps a whole one', async () => {
    const path = join(await temporaryDirectory(), 'metrics.jsonl');
    const [validation, test] = (['validation', 'test'] as const).map((set) =>
      events.evaluation({ set, globalStep: 1 }),
    );
    await writeMetrics(path, [events.step(0), validation]);
    await writeMetrics(path, [validation, test, events.step(1)], 1, 0);
    const whole = ['step 0', 'evaluation 1', 'evaluation 1', 'step 1'];
    expect(brief(await readMetrics(path))).toEqual(whole);
    await writeMetrics(path, [events.step(1)], 1, 1);
    expect(brief(await readMetrics(path))).toEqual(whole);
  });

  it('writes a flat line per step, with the share of each worker', async () => {
    const path = join(await temporaryDirectory(), 'metrics.jsonl');
    await writeMetrics(path, [
      events.started(),
      events.step(3, {
        workers: [
          events.share('anna', { numImages: 48, numMicroBatches: 3, computeMs: 2.12345 }),
          events.share('bert', { numImages: 16, numMicroBatches: 1 }),
        ],
      }),
      events.joined('anna'),
    ]);
    expect(await readMetrics(path)).toEqual([
      {
        type: 'step',
        timestamp: '2026-01-02T03:04:05.016Z',
        globalStep: 3,
        epoch: 0,
        loss: 0.5,
        accuracy: 0.875,
        learningRate: 0.006,
        numImages: 64,
        imagesPerSecond: 16_000,
        worldSize: 2,
        totalMs: 4,
        planMs: 0.1,
        broadcastMs: 0.2,
        computeMs: 3,
        wireMs: 0.4,
        reduceMs: 0.1,
        updateMs: 0.2,
        waitMs: 0,
        workers: [
          {
            workerId: 'anna',
            name: 'anna',
            numMicroBatches: 3,
            numImages: 48,
            share: 0.75,
            computeMs: 2.123,
            roundTripMs: 3.6,
          },
          {
            workerId: 'bert',
            name: 'bert',
            numMicroBatches: 1,
            numImages: 16,
            share: 0.25,
            computeMs: 3,
            roundTripMs: 3.6,
          },
        ],
      },
    ]);
  });

  it('writes a line per evaluation', async () => {
    const path = join(await temporaryDirectory(), 'metrics.jsonl');
    await writeMetrics(path, [events.evaluation()]);
    expect(await readMetrics(path)).toEqual([
      {
        type: 'evaluation',
        timestamp: '2026-01-02T03:04:09.000Z',
        globalStep: 938,
        epoch: 1,
        set: 'test',
        loss: 0.0921,
        accuracy: 0.9731,
        numImages: 10_000,
        seconds: 0.31,
      },
    ]);
  });

  it('starts a new file unless the run is resumed', async () => {
    const path = join(await temporaryDirectory(), 'metrics.jsonl');
    await writeMetrics(path, [events.step(0), events.step(1)]);
    await writeMetrics(path, [events.step(0)]);
    expect(brief(await readMetrics(path))).toEqual(['step 0']);
  });

  it.each([
    [0, []],
    [1, ['step 0']],
    [2, ['step 0', 'step 1', 'evaluation 2']],
    [9, ['step 0', 'step 1', 'evaluation 2', 'step 2']],
  ])('keeps each step once after a resume at step %d', async (globalStep, kept) => {
    const path = join(await temporaryDirectory(), 'metrics.jsonl');
    await writeMetrics(path, [
      events.step(0),
      events.step(1),
      events.evaluation({ globalStep: 2 }),
      events.step(2),
    ]);
    await writeMetrics(path, [events.step(globalStep)], globalStep);
    expect(brief(await readMetrics(path))).toEqual([...kept, `step ${globalStep}`]);
  });

  it.each(['{"type":"step","globalS', '{"type":"step","globalStep":1}', '\0\0\0\0\n', '17\n'])(
    'cuts off a torn last line %j',
    async (torn) => {
      const path = join(await temporaryDirectory(), 'metrics.jsonl');
      await writeMetrics(path, [events.step(0)]);
      await writeFile(path, torn, { flag: 'a' });
      await writeMetrics(path, [events.step(1)], 5);
      expect(brief(await readMetrics(path))).toEqual(['step 0', 'step 1']);
    },
  );

  it('resumes without an existing file', async () => {
    const path = join(await temporaryDirectory(), 'metrics.jsonl');
    await writeMetrics(path, [events.step(7)], 7);
    expect(brief(await readMetrics(path))).toEqual(['step 7']);
  });

  it.skipIf(!existsSync('/dev/full'))(
    'a full disk costs one warning, and lines that are counted',
    async () => {
      const fullDisk = vi.fn();
      const file = await createMetricsFile('/dev/full', { warn: fullDisk });
      for (let globalStep = 0; globalStep < 3; globalStep++) {
        file.observe(events.step(globalStep));
        await file.flush();
      }
      await file.close();
      expect(fullDisk).toHaveBeenCalledExactlyOnceWith(expect.stringContaining('ENOSPC'));
      expect(file.numDropped).toBe(3);
    },
  );
});

import fc from 'fast-check';
import stringWidth from 'string-width';
import { describe, expect, it } from 'vitest';
import type { RunEvent } from '../../../src/coordinator/events.js';
import { createRunStatus, updateRunStatus } from '../../../src/coordinator/observers/run-status.js';
import {
  renderStatus,
  type RenderOptions,
} from '../../../src/coordinator/observers/status-lines.js';
import * as events from '../../support/run-events.js';

function linesAfter(stream: RunEvent[], options: Partial<RenderOptions> = {}): string[] {
  const status = createRunStatus();
  for (const event of stream) updateRunStatus(status, event);
  const lines = renderStatus(status, { columns: 100, now: events.START + 5000, ...options });
  return lines.map((line) => line.trimEnd());
}

const twoWorkers = [
  events.started(),
  events.joined('anna'),
  events.joined('bert', { engine: 'webgpu', isExact: false, worldSize: 2 }),
];
const steps = (count: number) => Array.from({ length: count }, (_, t) => events.step(t));

describe('renderStatus()', () => {
  it('shows progress, metrics, speed and workers', () => {
    const stream = [
      ...twoWorkers,
      ...steps(1407),
      events.evaluation(),
      events.pinged('anna', { roundTripMs: 0.52 }),
    ];
    expect(linesAfter(stream)).toEqual([
      '',
      'epoch  2/12  ━━━━━━━━━━━━━━━━━━━━────────────────────   50 %  step 1,407/11,256  39 s left',
      'loss 0.5000 ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁  accuracy 87.50 % ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁  test 97.31 %',
      '16,000 images/s  2 workers  4.0 ms a step  75 % compute  10 % wire',
      '●  anna  simd       50 %    3.0 ms  working  ping 0.5 ms',
      '●  bert  webgpu ≈   50 %    3.0 ms  working',
    ]);
  });

  it('renders before anything is known', () => {
    expect(linesAfter([])).toEqual(['', 'Starting', '0 workers']);
  });

  it('says that it is waiting for workers', () => {
    expect(linesAfter([events.started()])[1]).toContain('waiting for workers');
    const waiting = { type: 'waiting', time: events.START, numActive: 2, minWorkers: 3 } as const;
    expect(linesAfter([...twoWorkers, ...steps(3), waiting])[1]).toContain('waiting for workers');
    expect(linesAfter([...twoWorkers, waiting, ...steps(3)])[1]).toMatch(/\d s left$/);
  });

  it('leaves the wait for workers out of the pace', () => {
    const lines = (waitMs: number) => {
      const { times, time, ...rest } = events.step(0);
      const late = {
        ...rest,
        time: time + waitMs,
        times: { ...times, waitMs: times.waitMs + waitMs, totalMs: times.totalMs + waitMs },
      };
      const later = Array.from({ length: 3 }, (_, t) => {
        const step = events.step(t + 1);
        return { ...step, time: step.time + waitMs };
      });
      return linesAfter([...twoWorkers, late, ...later]);
    };
    expect(lines(600_000)).toEqual(lines(0));
  });

  it('shows a full bar at the end', () => {
    const lines = linesAfter([events.started({ totalSteps: 1876 }), events.step(11_255)]);
    expect(lines[1]).toMatch(/^epoch 12\/12 {2}━+ {2}100 %/);
  });

  it('shows which workers are idle', () => {
    const lines = linesAfter([
      ...twoWorkers,
      events.step(0, { workers: [events.share('bert', { numImages: 64 })] }),
    ]);
    expect(lines.at(-2)).toMatch(/anna .* 0 % .* idle$/);
    expect(lines.at(-1)).toMatch(/bert .* 100 % .* working$/);
  });

  it('shows a lost worker for ten seconds, even while steps continue', () => {
    const stream = [
      ...twoWorkers,
      events.step(0),
      events.lost('bert', { time: events.START + 2000 }),
      events.step(1, { workers: [events.share('anna')] }),
    ];
    expect(linesAfter(stream).at(-1)).toMatch(/^○ {2}bert .* lost {5}3 s ago$/);
    expect(linesAfter(stream, { now: events.START + 12_000 }).join('\n')).not.toContain('bert');
    const back = [...stream, events.joined('bert', { isReturn: true, worldSize: 2 })];
    expect(linesAfter(back).at(-1)).toMatch(/^● {2}bert .* ready$/);
  });

  it('counts workers that do not fit', () => {
    const names = Array.from({ length: 40 }, (_, index) => `worker-${index}`);
    const stream = [
      events.started(),
      ...names.map((name, index) => events.joined(name, { worldSize: index + 1 })),
    ];
    const lines = linesAfter(stream, { rows: 10 });
    expect(lines).toHaveLength(10);
    expect(lines.at(-1)).toBe('  … and 34 more');
  });

  it('includes the evaluations in the estimated time left', () => {
    const stream: RunEvent[] = [events.started({ stepsPerEpoch: 100, totalSteps: 300 })];
    for (let t = 0; t < 200; t++) {
      // A step every 10 ms, and a second for each evaluation.
      const time = events.START + 10 * t + (t >= 100 ? 1000 : 0);
      stream.push(events.step(t, { time }));
    }
    expect(linesAfter(stream)[1]).toMatch(/ (1\.[0-9]|2\.0) s left$/);
  });

  it('works without colours, and has them on request', () => {
    const stream = [...twoWorkers, ...steps(5)];
    const plain = linesAfter(stream);
    expect(plain.join('')).not.toContain('\x1b');
    const uncolored = linesAfter(stream, { hasColor: true }).map((line) =>
      line.replace(/\x1b\[\d+m/g, ''),
    );
    expect(uncolored.map((line) => line.trimEnd())).toEqual(plain);
  });

  it('fits any window, with any name', () => {
    const name = fc.oneof(
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }),
      fc.constantFrom('東京', '👩‍🔬👩‍🔬👩‍🔬', '\x1b[2J', 'a\nb', 'e\u0301e\u0301'),
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 160 }),
        fc.integer({ min: 1, max: 12 }),
        fc.array(name, { maxLength: 5 }),
        fc.boolean(),
        (columns, rows, names, hasColor) => {
          const status = createRunStatus();
          updateRunStatus(status, events.started());
          names.forEach((each, index) =>
            updateRunStatus(status, events.joined(each, { workerId: `w${index}`, engine: each })),
          );
          updateRunStatus(status, events.step(500, { workers: [events.share('w0')] }));
          updateRunStatus(status, events.lost('w1'));
          updateRunStatus(status, events.evaluation());
          const lines = renderStatus(status, { columns, rows, hasColor, now: events.START });
          expect(lines.length).toBeLessThanOrEqual(rows);
          for (const line of lines) {
            expect(stringWidth(line)).toBeLessThanOrEqual(columns);
            // nothing but colours
            expect(line.replace(/\x1b\[\d+m/g, '')).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
          }
        },
      ),
    );
  });

  it('shows loss and accuracy in a window of 20 columns', () => {
    const lines = linesAfter([...twoWorkers, ...steps(469)], { columns: 20 });
    expect(lines).toEqual([
      '',
      'epoch  1/12   50 %',
      'loss 0.5000',
      'accuracy 87.50 %',
      '16,000 images/s',
      '2 workers',
      '4.0 ms a step',
      '75 % compute',
      '10 % wire',
      '●  anna   50 %',
      '●  bert   50 %',
    ]);
  });
});

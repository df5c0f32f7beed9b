import { describe, expect, it } from 'vitest';
import type { StepDone } from '../../../src/coordinator/events.js';
import { createCriticalPath } from '../../../src/coordinator/observers/critical-path.js';
import * as events from '../../support/run-events.js';

function summaryOf(steps: StepDone[]): string {
  const criticalPath = createCriticalPath();
  for (const step of steps) criticalPath.observe(step);
  return criticalPath.summary();
}

/** Steps in which the given worker's partial came last, by that many ms on the wire. */
function steps(count: number, last: (t: number) => string, wireMs = 0.4): StepDone[] {
  return Array.from({ length: count }, (_, t) => {
    const startedAt = events.START + 60 * t;
    return events.step(t, {
      startedAt,
      time: startedAt + 3.6 + wireMs,
      times: events.times({ wireMs }),
      partials: events.WORKERS.map((workerId) =>
        events.partial(workerId, startedAt, last(t) === workerId ? wireMs : 0.1),
      ),
    });
  });
}

describe('createCriticalPath()', () => {
  it('says nothing before the first step', () => {
    expect(summaryOf([])).toBe('');
  });

  it('names the parts from the largest to the smallest', () => {
    expect(summaryOf(steps(10, (t) => events.WORKERS[t % 2]))).toBe(
      '75 % compute, 10 % wire, 5 % broadcast, 5 % update, 3 % plan, 3 % reduce',
    );
  });

  it('names the worker whose sending delayed the steps', () => {
    const summary = summaryOf(steps(20, () => 'bert', 50.4));
    expect(summary).toMatch(/^93 % wire \(bert\), 6 % compute \(bert\)/);
    expect(summary).toMatch(/; bert was last in 100 % of the steps$/);
  });

  it('names no worker if they take turns', () => {
    expect(summaryOf(steps(100, (t) => events.WORKERS[t % 5 < 2 ? 0 : 1]))).not.toMatch(
      /anna|bert/,
    );
  });

  it('names no worker if there is only one', () => {
    const alone = events.step(0, {
      workers: [events.share('anna')],
      partials: [events.partial('anna', events.START)],
    });
    expect(summaryOf([alone])).not.toContain('anna');
  });

  it('ignores partials that were not used', () => {
    const late = events.partial('anna', events.START, 90, { wasUsed: false });
    const used = events.partial('bert', events.START);
    expect(summaryOf([events.step(0, { partials: [late, used] })])).toContain('bert was last');
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Pace } from '../../../src/coordinator/round/planner.js';
import { Round, type Shares } from '../../../src/coordinator/round/round.js';
import { DEADLINES } from '../../../src/shared/deadlines.js';
import type { Range } from '../../../src/shared/protocol.js';

const pace = (workerId: string): Pace => ({ workerId, msPerUnit: 1, overheadMs: 2 });
const WORKERS = ['a', 'b', 'c', 'd'];

/** Random events: time passes, and a worker answers, answers in vain, is lost or returns. */
const happenings = fc.array(
  fc.record({
    afterMs: fc.double({ min: 0, max: 60, noNaN: true }),
    worker: fc.nat(WORKERS.length - 1),
    what: fc.constantFrom('answer', 'answer in vain', 'loss', 'return', 'nothing'),
  }),
  { maxLength: 60 },
);

describe('Round', () => {
  test('every open unit is with a worker that is on time, if any is available, whatever happens', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 12 }), happenings, (numUnits, all) => {
        const done = new Set<number>();
        const round = new Round({
          numUnits,
          isTree: true,
          isDone: (unit) => done.has(unit),
          isOpen: (unit) => !done.has(unit),
        });
        const present = new Set(WORKERS);
        const asked = new Map<string, Range[]>();
        const lateAt = new Map<string, number>();
        const note = (now: number, shares: Shares) => {
          for (const [workerId, ranges] of shares) {
            asked.set(workerId, [...(asked.get(workerId) ?? []), ...ranges]);
            const numHeld = asked.get(workerId)!.reduce((sum, [lo, hi]) => sum + hi - lo, 0);
            lateAt.set(workerId, now + 2 * (2 + numHeld) + 15);
          }
        };
        let now = 0;
        const advance = () => {
          const paces = [...present].map(pace);
          if (round.hasOrphans) note(now, round.handOut(now, paces));
          if (round.mayBeLate(now)) note(now, round.hedge(now, paces));
        };
        advance();
        for (const { afterMs, worker, what } of all) {
          now += afterMs;
          const workerId = WORKERS[worker];
          if (what === 'loss') {
            present.delete(workerId);
            asked.delete(workerId);
            round.release(workerId);
          } else if (what === 'return') {
            present.add(workerId);
          } else if (what !== 'nothing') {
            const range = asked.get(workerId)?.shift();
            if (range) {
              expect(round.answer(workerId, range)).toBe(true);
              if (what === 'answer') {
                for (let unit = range[0]; unit < range[1]; unit++) done.add(unit);
              }
            }
          }
          advance();
          const isIdle = (id: string) => (asked.get(id)?.length ?? 0) === 0;
          const onTime = new Set<number>();
          for (const [id, ranges] of asked) {
            expect(round.isIdle(id)).toBe(isIdle(id));
            if (now >= lateAt.get(id)!) continue;
            for (const [lo, hi] of ranges) for (let unit = lo; unit < hi; unit++) onTime.add(unit);
          }
          if (![...present].some(isIdle)) continue;
          const open = Array.from({ length: numUnits }, (_, unit) => unit).filter(
            (unit) => !done.has(unit),
          );
          expect(open.filter((unit) => !onTime.has(unit))).toEqual([]);
          if (open.length > 0) {
            expect(round.nextLateAt).toBeGreaterThan(now);
            expect(round.nextLateAt).toBeLessThan(Infinity);
          }
          expect(round.isComplete).toBe(open.length === 0);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('a worker is late by the deadline for answers, however slow it says that it is', () => {
    const round = new Round({
      numUnits: 4,
      isTree: true,
      isDone: () => false,
      isOpen: () => true,
    });
    round.handOut(0, [{ workerId: 'a', msPerUnit: 86_400_000, overheadMs: 0 }]);
    expect(round.nextLateAt).toBe(DEADLINES.answerMs);
    expect([...round.hedge(DEADLINES.answerMs, [pace('b')])]).toEqual([['b', [[0, 4]]]]);
  });
});

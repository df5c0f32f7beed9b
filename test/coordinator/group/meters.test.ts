import { describe, expect, it } from 'vitest';
import { PaceMeter } from '../../../src/coordinator/group/meters.js';

const UNIT_MS = 1;
const OVERHEAD_MS = 2;

/** The worker answers that many rounds in time, four units each. */
function answer(meter: PaceMeter, numRounds: number): void {
  for (let round = 0; round < numRounds; round++) {
    meter.addCompute(4, 4 * UNIT_MS);
    meter.addOverhead(OVERHEAD_MS);
    meter.addInTime();
  }
}

function overheadOf(meter: PaceMeter): number {
  return meter.paceOf('anna').overheadMs;
}

describe('PaceMeter', () => {
  it('ignores two stalls in nine rounds, but not three', () => {
    const meter = new PaceMeter();
    answer(meter, 9);
    meter.addUnanswered(4, 50);
    meter.addUnanswered(4, 50);
    expect(overheadOf(meter)).toBe(OVERHEAD_MS);
    meter.addUnanswered(4, 50);
    expect(overheadOf(meter)).toBe(50 - 4 * UNIT_MS);
  });

  it('forgets stalls once the worker has answered in time for most of nine rounds', () => {
    const meter = new PaceMeter();
    answer(meter, 1);
    for (let i = 0; i < 9; i++) meter.addUnanswered(1, 50);
    answer(meter, 6);
    expect(overheadOf(meter)).toBeGreaterThan(OVERHEAD_MS);
    answer(meter, 1);
    expect(overheadOf(meter)).toBe(OVERHEAD_MS);
  });

  it('does not shorten a stall because a round ended sooner', () => {
    const meter = new PaceMeter();
    answer(meter, 9);
    for (let i = 0; i < 3; i++) meter.addUnanswered(1, 50);
    for (let i = 0; i < 9; i++) meter.addUnanswered(1, 10);
    expect(overheadOf(meter)).toBe(49);
  });

  it('does not count a round as a stall if it ended before the worker could have answered', () => {
    const meter = new PaceMeter();
    answer(meter, 9);
    for (let i = 0; i < 9; i++) meter.addUnanswered(1, UNIT_MS + OVERHEAD_MS);
    expect(overheadOf(meter)).toBe(OVERHEAD_MS);
  });

  it('counts a slow worker as slow, not as stalling', () => {
    const meter = new PaceMeter();
    meter.addCompute(1, 20);
    for (let i = 0; i < 9; i++) meter.addUnanswered(4, 70);
    expect(meter.paceOf('anna')).toMatchObject({ msPerUnit: 20, overheadMs: 0 });
  });

  it('eventually forgets the stalls of a worker that is given no more work', () => {
    const meter = new PaceMeter();
    answer(meter, 9);
    for (let i = 0; i < 9; i++) meter.addUnanswered(1, 50);
    for (let i = 0; i < 100; i++) meter.addSilence();
    expect(overheadOf(meter)).toBeGreaterThan(40);
    for (let i = 0; i < 10_000; i++) meter.addSilence();
    expect(overheadOf(meter)).toBeLessThan(0.1);
  });
});

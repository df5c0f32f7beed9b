import { describe, expect, test } from 'vitest';
import {
  NO_FAILURES,
  decideAdmission,
  recordFailure,
  shutOut,
} from '../../../src/coordinator/group/membership.js';

const applicant = {
  ...{ history: NO_FAILURES, tokenMatches: true, protocolVersion: 1, isConnected: false },
};
const rules = { protocolVersion: 1, maxWorkers: 2, numConnected: 0 };
const refusal = (change: object, now = 0, ruleChange: object = {}) => {
  const admission = decideAdmission(now, { ...applicant, ...change }, { ...rules, ...ruleChange });
  return admission.isAdmitted ? null : [admission.reason, admission.retryAfterMs];
};

describe('decideAdmission()', () => {
  test('lets a worker in', () => expect(refusal({})).toBeNull());

  test('refuses for good: another version, a wrong token, wrong results', () => {
    expect(refusal({ protocolVersion: 2 })).toEqual(['versionMismatch', null]);
    expect(refusal({ tokenMatches: false })).toEqual(['unauthorized', null]);
    expect(refusal({ history: shutOut(NO_FAILURES) })).toEqual(['badNumbers', null]);
  });

  test('refuses more workers than the run takes, but not one that only connects again', () => {
    expect(refusal({}, 0, { numConnected: 2 })).toEqual(['full', 5000]);
    expect(refusal({ isConnected: true }, 0, { numConnected: 2 })).toBeNull();
  });

  test('keeps a worker that fails again and again out for a growing time', () => {
    let history = NO_FAILURES;
    const waits = Array.from({ length: 12 }, (_, i) => {
      history = recordFailure(1000 + i, history);
      return Math.max(0, history.keptOutUntil - 1000 - i);
    });
    expect(waits).toEqual([0, 0, 0, ...[1, 2, 4, 8, 16, 32, 60, 60, 60].map((s) => 1000 * s)]);
    expect(refusal({ history }, 2000)).toEqual(['quarantined', 59_011]);
  });

  test('forgets failures after two minutes', () => {
    let history = NO_FAILURES;
    for (let i = 0; i < 3; i++) history = recordFailure(i, history);
    expect(recordFailure(200_000, history).failedAt).toEqual([200_000]);
  });
});

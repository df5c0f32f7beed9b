import { describe, expect, test } from 'vitest';
import {
  MAX_ABSENT,
  NO_FAILURES,
  UNKNOWN_ADDRESS,
  decideAdmission,
  networkOf,
  recordFailure,
  recordShutOut,
  shutOut,
  whomToForget,
  type Absent,
} from '../../../src/coordinator/group/membership.js';

const applicant = {
  ...{
    history: NO_FAILURES,
    tokenMatches: true,
    protocolVersion: 1,
    isConnected: false,
    isNew: false,
  },
};
const rules = { protocolVersion: 1, maxWorkers: 2, numActive: 0 };
const refusal = (change: object, now = 0, ruleChange: object = {}) => {
  const admission = decideAdmission(now, { ...applicant, ...change }, { ...rules, ...ruleChange });
  return admission.isAdmitted ? null : [admission.reason, admission.retryAfterMs];
};

describe('decideAdmission()', () => {
  test('admits a worker', () => expect(refusal({})).toBeNull());

  test('refuses for good: another version, a wrong token, wrong results', () => {
    expect(refusal({ protocolVersion: 2 })).toEqual(['versionMismatch', null]);
    expect(refusal({ tokenMatches: false })).toEqual(['unauthorized', null]);
    expect(refusal({ history: shutOut(NO_FAILURES) })).toEqual(['badNumbers', null]);
  });

  test('refuses workers beyond the maximum, but not a reconnecting one', () => {
    expect(refusal({}, 0, { numActive: 2 })).toEqual(['full', 5000]);
    expect(refusal({ isConnected: true }, 0, { numActive: 2 })).toBeNull();
  });

  test('quarantines a worker that keeps failing, for longer each time', () => {
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

describe('decideAdmission() of a worker without an id', () => {
  test('quarantines it before checking its token, and says for how long', () => {
    let history = UNKNOWN_ADDRESS;
    for (let i = 0; i < 5; i++) history = recordFailure(0, history);
    for (const tokenMatches of [true, false]) {
      expect(refusal({ history, tokenMatches, isNew: true })).toEqual(['quarantined', 2000]);
    }
    expect(refusal({ history, isNew: true }, 2000)).toBeNull();
  });
});

describe('recordShutOut()', () => {
  test('forgives the first; then bans new workers for a minute, doubling each time up to an hour', () => {
    let history = UNKNOWN_ADDRESS;
    const bans = Array.from({ length: 10 }, () => {
      history = recordShutOut(0, history);
      return history.keptOutUntil / 60_000;
    });
    expect(bans).toEqual([0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
  });
});

describe('networkOf()', () => {
  test.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['::1', '0:0:0:0::/64'],
    ['2001:DB8::1', '2001:db8:0:0::/64'],
    ['2001:db8:0:0:aaaa:bbbb:cccc:dddd', '2001:db8:0:0::/64'],
    ['2001:0db8:0000:0001::', '2001:db8:0:1::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['unknown', 'unknown'],
  ])('of %s is %s', (address, network) => expect(networkOf(address)).toBe(network));
});

describe('whomToForget()', () => {
  const absent = (workerId: string, change: Partial<Absent> = {}): Absent => ({
    ...{ workerId, history: NO_FAILURES, hasTakenPart: false, absentSince: 0 },
    ...change,
  });

  test('forgets those that took no part first, longest absent first, and those shut out last', () => {
    const rest = Array.from({ length: MAX_ABSENT - 1 }, (_, i) =>
      absent(`rest${i}`, { absentSince: 100, hasTakenPart: true }),
    );
    const some = [
      absent('liar', { history: shutOut(NO_FAILURES) }),
      absent('worked', { hasTakenPart: true, absentSince: 1 }),
      absent('late', { absentSince: 9 }),
      absent('early', { absentSince: 2 }),
    ];
    const forgotten = whomToForget([...some, ...rest]).map(({ workerId }) => workerId);
    expect(forgotten).toEqual(['early', 'late', 'worked']);
    expect(whomToForget(some)).toEqual([]);
  });
});

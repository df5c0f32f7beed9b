import { describe, expect, it } from 'vitest';
import { DEADLINES, checkDeadlines } from '../../src/shared/deadlines.js';

describe('checkDeadlines()', () => {
  it('takes those of the program', () => {
    expect(() => checkDeadlines(DEADLINES)).not.toThrow();
  });

  it.each([
    [{ readyMs: 60_000 }, 'engineStartMs + engineCallMs (360000 ms) must be shorter than readyMs'],
    [{ helloMs: 600_000 }, 'helloMs (600000 ms) must be shorter than welcomeMs (10000 ms)'],
    [{ streamKeepAliveMs: 30_000 }, 'streamKeepAliveMs (30000 ms) must be shorter than'],
    [{ goodbyeMs: 1_500 }, 'goodbyeMs (1500 ms) must be shorter than localWorkerEndMs (1000 ms)'],
  ])('refuses %o', (wrong, message) => {
    expect(() => checkDeadlines({ ...DEADLINES, ...wrong })).toThrow(message);
  });
});

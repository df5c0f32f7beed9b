import { describe, expect, test } from 'vitest';
import { MAX_PARTICIPANTS, Participants } from '../../src/coordinator/participants.js';
import { NO_PROGRESS } from '../../src/coordinator/progress.js';
import type { WorkerJoined } from '../../src/coordinator/events.js';

const joined = (workerId: string, isExact = true): WorkerJoined => ({
  ...{ type: 'workerJoined', time: 0, workerId, name: workerId, host: '', engine: 'simd' },
  ...{ device: 'cpu', isExact, worldSize: 1, isReturn: false },
});

describe('Participants', () => {
  test("keeps a worker's contribution when it rejoins", () => {
    const participants = new Participants(NO_PROGRESS);
    participants.joined(joined('w1'));
    participants.credit('w1', 16);
    participants.joined({ ...joined('w1'), name: 'renamed' });
    participants.credit('w1', 4);
    expect(participants.list()).toMatchObject([{ name: 'renamed', numImages: 20 }]);
  });

  test('lists a bounded number, those that did most, and counts every image', () => {
    const participants = new Participants(NO_PROGRESS);
    for (let i = 0; i < 5000; i++) {
      participants.joined(joined(`w${i}`));
      participants.credit(`w${i}`, i % 3);
    }
    const { workers, otherWorkers } = participants.store();
    expect(workers).toHaveLength(MAX_PARTICIPANTS);
    expect(otherWorkers.numWorkers).toBe(5000 - MAX_PARTICIPANTS);
    const numListed = workers.reduce((sum, { numImages }) => sum + numImages, 0);
    expect(numListed + otherWorkers.numImages).toBe(4999);
    expect(Math.min(...workers.slice(0, -1).map(({ numImages }) => numImages))).toBe(2);
  });

  test('is reproducible until an approximate answer has counted, even after a resume', () => {
    const participants = new Participants(NO_PROGRESS);
    participants.joined(joined('gpu', false));
    expect(participants.isReproducible).toBe(true);
    participants.noteApproximate();
    const stored = participants.store();
    expect(new Participants(stored).isReproducible).toBe(false);
    const { workers, otherWorkers } = stored;
    // A checkpoint of 0.1 does not say; then every approximate worker is assumed to have counted.
    expect(new Participants({ workers, otherWorkers }).isReproducible).toBe(false);
  });
});

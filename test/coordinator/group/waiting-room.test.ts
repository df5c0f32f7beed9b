import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WaitingRoom } from '../../../src/coordinator/group/waiting-room.js';

describe('WaitingRoom', () => {
  it('evicts the oldest guest of the address with the most guests', () => {
    const evicted: number[] = [];
    const room = new WaitingRoom<number>(3, (guest) => evicted.push(guest));
    room.enter(1, '10.0.0.1');
    room.enter(2, '10.0.0.2');
    room.enter(3, '10.0.0.2');
    room.enter(4, '10.0.0.3');
    expect(evicted).toEqual([2]);
    room.enter(5, '10.0.0.2');
    expect(evicted).toEqual([2, 3]);
  });

  it('never exceeds its capacity, and never evicts a guest of a quiet address for a crowd from another', () => {
    const step = fc.record({
      guest: fc.nat(30),
      isEntering: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 200 }),
        fc.integer({ min: 2, max: 8 }),
        (steps, n) => {
          const evicted: string[] = [];
          const room = new WaitingRoom<string>(n, (guest) => evicted.push(guest));
          room.enter('quiet', '10.0.0.1');
          const inside = new Set<string>();
          for (const { guest, isEntering } of steps) {
            const name = String(guest);
            if (isEntering) {
              room.enter(name, '10.0.0.2');
              inside.add(name);
            } else {
              room.leave(name);
              inside.delete(name);
            }
            evicted.forEach((other) => inside.delete(other));
            evicted.length = 0;
            expect(inside.has('quiet')).toBe(false);
            expect(room.size).toBe(inside.size + 1);
            expect(room.size).toBeLessThanOrEqual(n);
          }
        },
      ),
    );
  });
});
